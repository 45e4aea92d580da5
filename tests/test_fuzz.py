"""A few cases of each target of `make fuzz`, and faults that longer runs found."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests import scripts
from tests.fuzz import Found, Target, folders, tables

SEED = 20_261_126


@pytest.mark.parametrize("name", ["tables, as meant", "tables, damaged", "schemas"])
@pytest.mark.filterwarnings("ignore")
def test_tables_and_schemas(name: str, tmp_path: Path) -> None:
    explored(tables.targets(tmp_path)[name], 60)


@pytest.mark.filterwarnings("ignore")
def test_model_folders(tmp_path: Path) -> None:
    explored(folders.targets(tmp_path)["model folders"], 60)


@pytest.mark.parametrize("name", ["requests", "sockets"])
@pytest.mark.filterwarnings("ignore")
def test_requests_and_sockets(name: str, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs aanmf[serve]")
    from tests.fuzz import requests

    with requests.targets(tmp_path) as found:
        explored(found[name], 60)


def explored(target: Target, examples: int) -> None:
    found = Found()
    found.explore(target, examples, SEED)
    assert not found.faults
    assert sum(found.outcomes.values()) >= examples / 2  # Hypothesis leaves out cases that it has had
    assert len(found.outcomes) > 1, "all cases alike: nothing is tried"


def test_a_fault_is_found_and_shown_as_small_as_it_gets() -> None:
    def outcome(n: int) -> str:
        if n > 999:
            raise KeyError("too many")
        return "fine"

    found = Found()
    found.explore(Target(st.integers(0, 10**6), outcome), 50, 1)
    assert list(found.faults) == ["KeyError: 'too many'"]
    assert "case: 1000" in found.faults["KeyError: 'too many'"]


def test_what_hangs_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.HANG_SECONDS", 0.05)

    def outcome(_: object) -> str:
        while True:
            pass

    found = Found()
    found.explore(Target(st.just(1), outcome), 1, 1)
    assert "HangError" in next(iter(found.faults))


def test_a_case_changed_at_random_is_found_again_by_its_seed() -> None:
    def outcome(draw: random.Random) -> str:
        if (n := draw.randrange(50)) == 7:
            raise KeyError(n)
        return "fine"

    found = Found()
    found.explore(Target(None, outcome), 200, 3)
    assert found.outcomes["fault"] > 1
    assert found.outcomes.total() == 200
    seed = found.faults["KeyError: 7"].removeprefix("seed ").partition(":")[0]
    with pytest.raises(KeyError):
        outcome(random.Random(seed))


def test_the_long_run_counts_what_its_rounds_find(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, out = scripts.script("benchmarks/fuzz.py", monkeypatch), tmp_path / "fuzz.json"
    counted = []
    for cases in (200, 400):  # the second run goes on from the first
        asked = ["fuzz.py", "--only", "tables, damaged", "--minutes", "5", "--cases", str(cases), "--json", str(out)]
        monkeypatch.setattr("sys.argv", asked)
        with pytest.raises(SystemExit) as ended:
            made.main()
        assert not ended.value.code
        counted.append(json.loads(out.read_text())["targets"]["tables, damaged"])
    assert [each["cases"] for each in counted] == [200, 400]
    assert [each["next"] for each in counted] == [1, 2]
    assert set(counted[1]["outcomes"]) == {"read", "refused"}
    assert (counted[1]["faults"], counted[1]["died"]) == ({}, 0)
