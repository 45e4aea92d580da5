"""The counts of docs/reliability.md are those of the raw results."""

from __future__ import annotations

import json

import pytest

from tests import scripts


def test_the_summary_is_that_of_the_raw_results(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scripts.script("benchmarks/reliability.py", monkeypatch)
    written = json.loads((made.FIGURES / "reliability.json").read_text(encoding="utf-8"))["summary"]
    assert written == json.loads(json.dumps(made.summary())), "run benchmarks/reliability.py and make figures"
    failed = {row["model"]: row["failed_mean"] for row in written if "failed_mean" in row}
    assert failed == dict.fromkeys(failed, 0)
