"""`aanmf doctor`: what is installed, which device is used, and where data was found."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from aanmf.cli.options import AsJson
from aanmf.versions import package_version

_NEEDED = (
    "torch",
    "polars",
    "numpy",
    "scipy",
    "pydantic",
    "safetensors",
    "filelock",
    "pooch",
    "matplotlib",
    "typer",
    "rich",
)
_FOR_DEVELOPERS = {"test", "test-serve", "check", "peers", "docs"}


def doctor(as_json: AsJson = False) -> None:
    """Show versions, the device, where data was found, and which optional parts are installed."""
    from aanmf.cli.output import emit, facts, out, table

    found = examine()
    if as_json:
        emit(found)
        return
    console = out()
    console.print(facts("Versions", [(name, text or "not installed") for name, text in found["versions"].items()]))
    device = found["device"]
    lines = [("device", device["name"]), ("CPU cores", device["cores"]), ("threads of torch", device["threads"])]
    console.print(facts("Device", lines))
    rows = [(name, "found" if where else "not found", where or "") for name, where in found["data"]["found"].items()]
    console.print(
        table("Data", ("source", "state", "where"), [*rows, ("synthetic", "always", "generated when asked for")])
    )
    console.print(
        facts(None, [("AANMF_DATA", found["data"]["AANMF_DATA"] or "not set"), ("cache", found["data"]["cache"])])
    )
    rows = [
        (name, "installed" if there else "not installed", "" if there else f"pip install 'aanmf[{name}]'")
        for name, there in found["extras"].items()
    ]
    console.print(table("Optional parts", ("extra", "state", "to get it"), rows))


def examine() -> dict[str, Any]:
    """All of it, as JSON has it."""
    own = {"aanmf": package_version(), "python": platform.python_version(), "system": platform.platform()}
    return {
        "versions": own | {name: package_version(name) for name in _NEEDED},
        "device": _device(),
        "data": _data(),
        "extras": {name: all(package_version(each) for each in packages) for name, packages in _extras().items()},
    }


def _extras() -> dict[str, list[str]]:
    """The optional parts and the packages that each needs, as the installed aanmf declares them."""
    try:
        declared = requires("aanmf") or []
    except PackageNotFoundError:
        return {}
    extras: dict[str, list[str]] = {}
    for line in declared:
        if (extra := re.search(r"""extra *== *["']([\w-]+)""", line)) and extra[1] not in _FOR_DEVELOPERS:
            extras.setdefault(extra[1], []).append(re.split(r"[^\w.-]", line, maxsplit=1)[0])
    return extras


def _device() -> dict[str, Any]:
    import torch

    device = {"name": "cpu", "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        device["name"] = f"cuda: {torch.cuda.get_device_name(0)}"
    return device


def _data() -> dict[str, Any]:
    from aanmf.data.movielens import cache_folder, find_movielens

    found = {f"ml-{size}": find_movielens(size) for size in ("100k", "1m")}
    return {
        "found": {name: None if where is None else str(where) for name, where in found.items()},
        "AANMF_DATA": os.environ.get("AANMF_DATA"),
        "cache": str(cache_folder()),
    }
