"""Versions of this library and of those that results depend on."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version


def package_version(package: str = "aanmf") -> str | None:
    """The installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def versions() -> dict[str, str]:
    """By name: Python, this library, and the libraries it computes with; `unknown` where one is not installed."""
    packages = {name: package_version(name) or "unknown" for name in ("aanmf", "torch", "numpy", "scipy", "polars")}
    return {"python": platform.python_version(), **packages}
