"""The training from shards by processes that are killed, as the benchmark makes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from aanmf.data.dataset import RatingDataset
from tests.scripts import script


def test_shards_are_the_data_set(small: RatingDataset, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    module = script("benchmarks/shards.py", monkeypatch)
    pattern, _, users, _, items = module.write_shards(small, tmp_path, 7)
    assert len(list(Path(pattern).parent.glob("*.parquet"))) == 7
    again = RatingDataset.read(*sorted(Path(pattern).parent.glob("*"))[:1], users=users, items=items)
    assert {each.name for each in again.users.attributes} == {each.name for each in small.users.attributes}
    assert len(again) == -(-len(small) // 7)
    for row in range(len(again)):
        assert again.users.ids.ids[again.user[row]] == small.users.ids.ids[small.user[row]]
        assert again.items.ids.ids[again.item[row]] == small.items.ids.ids[small.item[row]]
        assert again.rating[row] == pytest.approx(small.rating[row])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes to kill in /proc")
@pytest.mark.slow
def test_killed_by_one_and_by_several_it_ends_as_undisturbed(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    module, out = script("benchmarks/shards.py", monkeypatch), tmp_path / "out.json"
    asked = ["--source", "synthetic:3000", "--set", "epochs=2", "members=2", "factors=4", "--kills", "1"]
    monkeypatch.setattr(sys, "argv", ["shards.py", *asked, "--json", str(out)])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    found = json.loads(out.read_text())
    assert found["one killed"]["rmse"] == found["rmse"]
    assert len(found["one killed"]["listed"]) == 5
    (killed,) = found["all killed"]
    assert killed["rmse"] == found["rmse"]
