"""A user who asked for it is forgotten: in the store, answers and caches, and after an update in the model folder."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aanmf import MF
from aanmf.cli import main
from aanmf.data.dataset import Vocabulary
from aanmf.errors import ForgottenError
from aanmf.recommender import load_model
from aanmf.serving.store import RatingStore, StoredRating, StoreError, store_engine
from tests.conftest import small_dataset
from tests.serving.conftest import Start
from tests.serving.test_store import _eventually, postgres, url  # noqa: F401

SECRET = "u3"
"""A user of the training data; as an id that no other text contains, `user-to-forget` is used."""


def test_nothing_is_left_in_the_store(url: str) -> None:  # noqa: F811
    store = RatingStore(url)
    store.add([StoredRating("gone", "i1", 4.0), StoredRating("gone", "i2", None), StoredRating("here", "i1", 2.0)])
    assert [(row["item"], row["rating"]) for row in store.stored_of("gone")] == [("i1", 4.0), ("i2", None)]
    assert store.forget("gone") == 2
    assert store.stored_of("gone") == []
    assert store.all() == [("here", "i1", 2.0)]
    assert "gone" in store.forgotten and "here" not in store.forgotten
    assert store.forgotten.among(["here", "gone"]) == ["gone"]
    with pytest.raises(ForgottenError, match="forgotten on request"):
        store.add([StoredRating("here", "i2", 1.0), StoredRating("gone", "i1", 4.0)])
    assert store.all() == [("here", "i1", 2.0)]
    outcomes = store.add_all([[StoredRating("here", "i3", 1.0)], [StoredRating("gone", "i1", 4.0)]])
    assert outcomes[0] == 1 and isinstance(outcomes[1], ForgottenError)
    assert store.forget("gone") == store.forget("never seen") == 0
    store.close()
    again = RatingStore(url)  # it is kept
    assert "gone" in again.forgotten and len(again.forgotten) == 2
    again.forget("here")
    again.close()


def test_another_process_learns_of_it(tmp_path: Path) -> None:
    one, other = (RatingStore(f"sqlite:///{tmp_path / 'r.sqlite'}") for _ in range(2))
    one.forget("gone")
    assert "gone" not in other.forgotten
    with pytest.raises(ForgottenError):  # the database is asked, not what was known of it
        other.add([StoredRating("gone", "i1", 4.0)])
    assert other.refresh()
    assert "gone" in other.forgotten
    assert not other.refresh()
    one.close()
    other.close()


def test_a_rating_that_arrives_meanwhile_does_not_stay(url: str) -> None:  # noqa: F811
    store = RatingStore(url)
    stop = threading.Event()

    def write() -> None:
        other = RatingStore(url)
        try:
            while not stop.is_set():
                other.add([StoredRating("meanwhile", "i1", 4.0)])
        except ForgottenError:
            pass
        finally:
            other.close()

    writers = [threading.Thread(target=write) for _ in range(3)]
    for each in writers:
        each.start()
    _eventually(lambda: bool(store.stored_of("meanwhile")))
    store.forget("meanwhile")
    stop.set()
    for each in writers:
        each.join()
    assert store.stored_of("meanwhile") == []
    store.close()


def test_the_bytes_of_the_id_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    store = RatingStore(f"sqlite:///{path}")
    for n in range(300):
        store.add([StoredRating("user-to-forget", f"i{n}", 3.0), StoredRating(f"v{n}", "i1", 2.0)])
    assert any(b"user-to-forget" in each.read_bytes() for each in tmp_path.iterdir())
    store.forget("user-to-forget")
    assert not any(b"user-to-forget" in each.read_bytes() for each in tmp_path.iterdir())
    store.close()
    assert not any(b"user-to-forget" in each.read_bytes() for each in tmp_path.iterdir())


def test_a_store_of_a_newer_version(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.sqlite'}"  # noqa: F811
    RatingStore(url).close()
    engine = store_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ratings_about SET value = '99' WHERE name = 'version'")
    engine.dispose()
    with pytest.raises(StoreError, match="newer version of aanmf"):
        RatingStore(url)


def test_over_http(start: Start) -> None:
    client = start(store="sqlite://")
    body = {"ratings": [{"user": SECRET, "item": "i20", "rating": 5}, {"user": "new one", "item": "i1"}]}
    assert client.post("/v1/ratings", json=body).status_code == 200
    known = client.get("/v1/user-data", params={"user": SECRET}).json()
    assert [(row["item"], row["rating"]) for row in known["stored"]] == [("i20", 5.0)]
    assert len(known["learned"]["ratings"]) > 5
    assert set(known["learned"]["attributes"]) == {"gender", "hobbies", "age", "voice"}
    assert client.post("/v1/recommend", json={"user": SECRET}).status_code == 200
    assert client.request("DELETE", "/v1/user-data", params={"user": SECRET}).json() == {"erased": 1, "learned": True}
    asked: list[tuple[str, Any]] = [
        ("/v1/recommend", {"user": SECRET}),
        ("/v1/recommend-many", {"users": [{"user": "u1"}, {"user": SECRET}]}),
        ("/v1/explain", {"user": SECRET, "item": "i1"}),
        ("/v1/similar", {"user": SECRET}),
    ]
    for path, body in asked:
        assert client.post(path, json=body).status_code == 404, path
    found = client.post("/v1/predict", json={"pairs": [[SECRET, "i1"], ["nobody", "i1"]]}).json()
    assert found["ratings"][0] == found["ratings"][1]
    assert found["fallbacks"] == ["unknown user"] * 2
    assert client.post("/v1/ratings", json={"ratings": [{"user": SECRET, "item": "i1"}]}).status_code == 410
    assert SECRET not in {row["id"] for row in client.get("/v1/users", params={"n": 100}).json()["found"]}
    assert SECRET not in {
        row["id"] for row in client.post("/v1/similar", json={"user": "u1", "n": 60}).json()["similar"]
    }
    assert client.get("/", params={"user": SECRET}).status_code == 404
    assert client.get("/v1/user-data", params={"user": SECRET}).json()["stored"] == []
    assert client.get("/v1/user-data").status_code == 422
    assert client.post("/v1/recommend", json={"user": "new one"}).status_code == 200  # others are as before


def test_a_service_learns_of_what_another_process_has_forgotten(start: Start, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.sqlite'}"  # noqa: F811
    client = start(store=url)
    assert client.post("/v1/recommend", json={"user": SECRET}).status_code == 200
    store = RatingStore(url)
    store.forget(SECRET)
    store.close()
    _eventually(lambda: client.post("/v1/recommend", json={"user": SECRET}).status_code == 404)


def test_a_data_set_as_if_a_user_had_never_been_there() -> None:
    data = small_dataset()
    left = data.without_users(["u3", "u40", "nobody"])
    assert left.users.ids.ids == tuple(each for each in data.users.ids.ids if each not in ("u3", "u40"))
    assert len(left) == (data.user != 3).sum()
    before = [
        (data.users.ids.ids[u], i, r) for u, i, r in zip(data.user, data.item, data.rating, strict=True) if u != 3
    ]
    after = [(left.users.ids.ids[u], i, r) for u, i, r in zip(left.user, left.item, left.rating, strict=True)]
    assert before == after
    at = left.users.ids.index(["u17"])[0]
    assert left.users.columns.row(at) == data.users.columns.row(17)


def test_after_an_update_the_model_folder_holds_nothing_of_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model is the one that is fitted to what remains; the id stands nowhere in the bytes of its folder."""
    data, name = small_dataset(), "user-to-forget"
    named = (*data.users.ids.ids[:3], name, *data.users.ids.ids[4:])
    data = replace(data, users=replace(data.users, ids=Vocabulary(named), notices=(f"about {name}",)))
    folder, store = tmp_path / "model", f"sqlite:///{tmp_path / 'r.sqlite'}"
    MF(epochs=2, factors=3).fit(data).save(folder)
    assert any(name.encode() in each.read_bytes() for each in folder.iterdir())
    assert main(["forget", str(folder), "--user", name, "--store", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"erased": 0, "learned": True}
    assert main(["update", str(folder), "--from", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["updated"]
    assert not any(name.encode() in each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    expected, found = MF(epochs=2, factors=3).fit(data.without_users([name])), load_model(folder)
    for key, value in expected.module_.state_dict().items():
        torch.testing.assert_close(found.module_.state_dict()[key], value, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.fitted_.users.n_ratings, expected.fitted_.users.n_ratings)
    assert main(["update", str(folder), "--from", store, "--json"]) == 0  # once
    assert not json.loads(capsys.readouterr().out)["updated"]


@pytest.mark.parametrize("named", [False, True])
def test_a_file_does_not_bring_the_user_back(tmp_path: Path, capsys: pytest.CaptureFixture[str], named: bool) -> None:
    """Whether the store lies next to the model or is named."""
    folder, name = tmp_path / "model", "u3"
    store = ["--store", f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"] if named else []
    MF(epochs=1, factors=3).fit(small_dataset()).save(folder)
    assert main(["forget", str(folder), "--user", name, *store]) == 0
    (tmp_path / "new.csv").write_text(f"user,item,rating\n{name},i1,2\n{name},i2,5\nu4,i1,1\nsomeone,i1,2\n")
    (tmp_path / "users.csv").write_text(f"user,gender\n{name},F\nsomeone,F\n")
    capsys.readouterr()
    asked = ["update", str(folder), str(tmp_path / "new.csv"), "--users", str(tmp_path / "users.csv"), "--json", *store]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["forgotten_users"], found["new_ratings"], found["new_users"], found["how"]) == (1, 2, 1, "full")
    ids = load_model(folder).fitted_.users.table.ids
    assert name not in ids
    assert "someone" in ids
    assert main(asked) == 0
    assert not json.loads(capsys.readouterr().out)["updated"]


def test_what_is_kept_of_a_user(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    assert main(["user-data", str(mine), "--user", SECRET]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stored"] == []
    assert found["learned"]["ratings"]
    assert main(["user-data", str(mine), "--user", "nobody"]) == 0
    assert json.loads(capsys.readouterr().out) == {"user": "nobody", "stored": [], "learned": None}
    assert main(["forget", str(mine), "--user", SECRET]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "nothing more is taken under this id" in text and "`aanmf update` fits it again" in text
