"""The versions with hashes are those of constraints.txt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import scripts

ROOT = Path(__file__).parents[1]


def versions(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([A-Za-z0-9_.-]+)==([^\s+]+)", line) for line in lines)
    return {each[1].lower().replace("_", "-"): each[2] for each in found if each}


def test_hashed_versions_are_the_exact_ones() -> None:
    hashed, exact = versions("constraints-hashed.txt"), versions("constraints.txt")
    assert {"torch", "polars", "fastapi", "sqlalchemy", "psycopg"} <= set(hashed)
    assert {name: exact.get(name, version) for name, version in hashed.items()} == hashed


def test_lines_come_from_a_report_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scripts.script("benchmarks/hashes.py", monkeypatch)
    archive = {
        "metadata": {"name": "A", "version": "1"},
        "download_info": {"archive_info": {"hashes": {"sha256": "0a"}}},
    }
    itself = {"metadata": {"name": "aanmf", "version": "1"}, "download_info": {"dir_info": {}}}
    assert made.hashed({"install": [archive, itself]}) == made.HEAD + "a==1 --hash=sha256:0a\n"
