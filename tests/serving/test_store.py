"""Ratings that were acknowledged are there, whatever happened to the process; a model is swapped without a failure."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aanmf.additions import grow
from aanmf.cli import main
from aanmf.errors import ConfigError, ModelFolderError
from aanmf.predictor import Predictor
from aanmf.recommender import load_model
from aanmf.serving.model_cache import ModelCache
from aanmf.serving.store import RatingStore, StoredRating, StoreError, store_engine
from aanmf.serving.update import as_additions, stored_additions
from tests.conftest import small_dataset
from tests.postgres import postgres_url
from tests.serving.conftest import Start

httpx = pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_url() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'r.sqlite'}" if request.param == "sqlite" else request.getfixturevalue("postgres")


def test_the_last_rating_counts(url: str) -> None:
    store = RatingStore(url)
    store.add([StoredRating("a", "i", 1.0), StoredRating("a", "j", 2.0), StoredRating("a", "i", 3.0)])
    store.add([StoredRating("a", "j", 4.5), StoredRating("Ünï'; --", "i", 5.0)])
    assert store.of_users(["a", "b"]) == {"a": {"i": 3.0, "j": 4.5}}
    assert sorted(store.all()) == [("a", "i", 3.0), ("a", "j", 4.5), ("Ünï'; --", "i", 5.0)]
    store.close()
    again = RatingStore(url)  # the table is there already
    assert again.of_users(["a"]) == {"a": {"i": 3.0, "j": 4.5}}
    again.close()


def test_choices_without_a_rating(url: str) -> None:
    store = RatingStore(url)
    store.add([StoredRating("c", "i", 4.0), StoredRating("c", "i", None), StoredRating("c", "j", None)])
    assert store.of_users(["c"]) == {"c": {"i": 4.0, "j": None}}
    store.add([StoredRating("c", "i", None), StoredRating("c", "j", 2.0)])  # a click leaves a rating as it is
    assert store.of_users(["c"]) == {"c": {"i": 4.0, "j": 2.0}}
    store.close()


def test_a_table_of_an_earlier_version_takes_choices_too(url: str) -> None:
    """Earlier versions asked for a rating in every row."""
    engine = store_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS ratings")
        columns = '"user" TEXT NOT NULL, item TEXT NOT NULL, rating DOUBLE PRECISION NOT NULL, time BIGINT NOT NULL'
        connection.exec_driver_sql(f'CREATE TABLE ratings ({columns}, PRIMARY KEY ("user", item))')
        connection.exec_driver_sql("INSERT INTO ratings VALUES ('a', 'i', 3.5, 1), ('b', 'j', 1, 2)")
    engine.dispose()
    for _ in range(2):
        store = RatingStore(url)
        store.add([StoredRating("a", "k", None)])
        assert store.of_users(["a", "b"]) == {"a": {"i": 3.5, "k": None}, "b": {"j": 1.0}}
        store.close()


def test_databases_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "no.sqlite").write_bytes(b"this is no database, and long enough to tell" * 100)
    with pytest.raises(StoreError, match="not a database"):
        RatingStore(f"sqlite:///{tmp_path / 'no.sqlite'}")
    for url in ("mysql://localhost/x", "nonsense", ""):
        with pytest.raises(ConfigError, match="sqlite:///FILE"):
            RatingStore(url)
    with pytest.raises(StoreError) as told:
        RatingStore("postgresql://somebody:secret@127.0.0.1:1/x")
    assert "secret" not in str(told.value)


@contextmanager
def process(folder: Path, store: str, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """`aanmf serve` as a process of its own, and a client."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "aanmf", "serve", str(folder), "--port", str(port), "--store", store]
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 60
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while True:
                with suppress(httpx.TransportError):
                    client.get("/healthz")
                    break
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield server, client
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_no_acknowledged_rating_is_lost_when_the_process_is_killed(folder: Path, url: str, tmp_path: Path) -> None:
    acknowledged: list[tuple[str, str, float]] = []
    with process(folder, url, tmp_path / "log") as (server, client):

        def post(n: int) -> None:
            row = {"user": f"v{n}", "item": f"i{n % 21}", "rating": 1 + n % 9 / 2}
            with suppress(httpx.TransportError):
                if client.post("/v1/ratings", json={"ratings": [row]}).json() == {"stored": 1}:
                    acknowledged.append((row["user"], row["item"], row["rating"]))
                    if len(acknowledged) == 300:
                        server.send_signal(signal.SIGKILL)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(post, range(1000)))
        assert server.wait(10) == -signal.SIGKILL
    assert 300 <= len(acknowledged) < 1000
    with process(folder, url, tmp_path / "log") as (_, client):  # after a restart they also count
        user = acknowledged[-1][0]
        assert client.post("/v1/recommend", json={"user": user}).json()["new_ratings"] == 1
    store = RatingStore(url)
    assert set(acknowledged) <= set(store.all())
    store.close()


@pytest.mark.slow
def test_sigterm_answers_what_has_begun(folder: Path, tmp_path: Path) -> None:
    with process(folder, f"sqlite:///{tmp_path / 'r.sqlite'}", tmp_path / "log") as (server, client):
        with ThreadPoolExecutor(4) as pool:
            body = {"pairs": [["u1", "i1"]] * 10_000}
            asked = [pool.submit(client.post, "/v1/predict", json=body) for _ in range(4)]
            time.sleep(0.05)
            server.terminate()
            outcomes = [each.exception() or each.result().status_code for each in asked]
        assert server.wait(30) in (0, -signal.SIGTERM)
    # a request was answered in full, or never taken: its connection was refused or closed before a byte came back
    assert set(map(str, outcomes)) <= {"200"} | {str(each) for each in outcomes if isinstance(each, httpx.ConnectError)}
    assert '"event":"stopped"' in (tmp_path / "log").read_text()


def test_a_new_model_is_taken_up_without_a_failed_request(start: Start, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    client = start(mine)
    statuses, versions, done = [], set(), threading.Event()

    def ask() -> None:
        while not done.is_set():
            answer = client.post("/v1/recommend", json={"user": "u1"})
            statuses.append(answer.status_code)
            versions.add(client.get("/readyz").json()["version"])

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ask) for _ in range(2)]
        for turn in range(2):
            _save_with(mine, turn)
            _eventually(lambda turn=turn: len(versions) >= turn + 2)
        done.set()
        for each in running:
            each.result()
    assert len(versions) == 3 - (len(versions) == 2)  # the first one may be gone before the first look
    assert set(statuses) == {200}
    assert client.get("/v1/model").json()["data"]["turn"] == 1


def _eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_broken_folder_leaves_the_old_model_at_work(start: Start, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    client = start(mine)
    version = client.get("/readyz").json()["version"]
    manifest = json.loads((mine / "manifest.json").read_text())
    manifest["sha256"]["weights.safetensors"] = "0" * 64
    (mine / "manifest.json").write_text(json.dumps(manifest))
    _eventually(lambda: 'aanmf_model_loads_total{outcome="failed"} 1.0' in client.get("/metrics").text)
    assert client.get("/readyz").json()["version"] == version
    assert client.post("/v1/predict", json={"pairs": [["u1", "i1"]]}).status_code == 200


class Panic(BaseException):
    """What a compiled library raises: no Exception."""


@pytest.mark.parametrize("fault", [RuntimeError, MemoryError, RecursionError, Panic])
def test_whatever_a_bad_folder_raises_a_good_one_is_loaded_afterwards(
    start: Start, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    client = start(mine)
    version, load = client.get("/readyz").json()["version"], ModelCache.load

    def fail(*_: object) -> None:
        raise fault("bad folder")

    monkeypatch.setattr(ModelCache, "load", fail)
    _save_with(mine, turn=1)
    _eventually(lambda: 'outcome="failed"} 1.0' in client.get("/metrics").text)
    monkeypatch.setattr(ModelCache, "load", load)
    _save_with(mine, turn=2)
    _eventually(lambda: client.get("/readyz").json()["version"] != version)
    assert client.get("/v1/model").json()["data"]["turn"] == 2


def _save_with(folder: Path, turn: int) -> None:
    """The model of a folder saved there again, with a number that makes another model of it."""
    model = load_model(folder)
    fitted = replace(model.fitted_, data={**model.fitted_.data, "turn": turn})
    model._predictor = Predictor(model.spec, model.module_, fitted)
    model.save(folder)


def test_the_age_of_the_model_is_shown(start: Start, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "model"
    shutil.copytree(folder, mine)
    hour_ago = time.time() - 3600
    os.utime(mine / "manifest.json", (hour_ago, hour_ago))
    client = start(mine)
    assert client.get("/readyz").json()["age_seconds"] == pytest.approx(3600, abs=60)
    saved = re.search(r"^aanmf_model_saved_seconds (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert saved and float(saved[1]) == pytest.approx(hour_ago, abs=1)


def test_a_full_disk_makes_the_service_not_ready(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start(store=f"sqlite:///{tmp_path / 'r.sqlite'}")
    assert client.get("/readyz").status_code == 200
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "is full (1,024 KB are left)" in answer.json()["error"]["message"]


# -------------------- update


def test_training_data_with_stored_ratings(folder: Path) -> None:
    """What a model was trained on can be had back from it, attributes of every kind too."""
    model = load_model(folder)
    fitted, train = model.fitted_, model.fitted_.training.train
    (u, known_user), (i, known_item), (r, known) = (
        each[:2].tolist() for each in (train.user, train.item, train.rating)
    )
    stored = [
        StoredRating(fitted.users.ids[u], fitted.items.ids[i], 1.0 if r > 2 else 5.0),  # changed
        StoredRating(fitted.users.ids[known_user], fitted.items.ids[known_item], known),
        StoredRating("newcomer", "i0", 4.0),
        StoredRating("newcomer", "i1", None),  # counts as the rating nearest to the mean
        StoredRating(fitted.users.ids[train.user[2]], fitted.items.ids[train.item[2]], None),  # leaves the rating
    ]
    grown = grow(fitted, as_additions(stored))
    data = grown.data
    assert (grown.ratings, grown.users, grown.items) == (3, 1, 0)
    assert (len(data), len(data.users)) == (602, 43)
    off = train.rating - fitted.training.mean
    assert data.rating[-1] == train.rating[off.abs().argmin()]
    assert data.rating[2] == train.rating[2]
    assert data.rating[0] == (1.0 if r > 2 else 5.0)
    assert data.users.ids.ids[data.user[-1]] == "newcomer"
    slots = fitted.users.encoder.transform(data.users)
    names = fitted.users.encoder.names
    assert names == data.users.names
    for name in names:  # the same groups, labels and vectors as those the model has learned
        assert data.users.columns[name][-1] is None
    taken = fitted.training.users.mask[:-1]
    assert (slots.mask[:42] == taken).all()
    assert (slots.value[:42][taken] < fitted.training.users.n_values).any()
    small = taken & (fitted.training.users.value[:-1] < fitted.training.users.n_values)
    assert (slots.value[:42][small] == fitted.training.users.value[:-1][small]).all()
    assert slots.weight[:42][small] == pytest.approx(fitted.training.users.weight[:-1][small])
    assert slots.vectors[0][:42] == pytest.approx(fitted.training.users.vectors[0][:42], abs=1e-5)


def test_update(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, url = tmp_path / "model", f"sqlite:///{tmp_path / 'r.sqlite'}"
    shutil.copytree(folder, mine)
    RatingStore(url).close()
    assert main(["update", str(mine), "--from", url, "--json"]) == 0
    nothing = json.loads(capsys.readouterr().out)
    assert nothing.pop("why") == "there is nothing that the model has not learned"
    counts = {"new_ratings": 0, "new_users": 0, "new_items": 0, "forgotten_users": 0}
    assert nothing == {"updated": False, **counts, "how": "none", "out": str(mine)}
    store = RatingStore(url)
    store.add([StoredRating("newcomer", f"i{n}", 5.0) for n in range(5)])
    store.close()
    assert main(["update", str(mine), "--from", url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["updated"], found["new_ratings"], found["ratings"], found["users"]) == (True, 5, 605, 41)
    new, old = load_model(mine), load_model(folder)
    assert new.get_params() == old.get_params()
    assert new.fitted_.items.labels == old.fitted_.items.labels
    assert not set(new.recommend("newcomer", n=21)["item"]) & {f"i{n}" for n in range(5)}
    assert main(["update", str(mine), "--from", url]) == 0  # all of them are learned
    assert "it stays as it is" in " ".join(capsys.readouterr().out.split())


def test_update_keeps_numbers_as_they_were_given(folder: Path) -> None:
    """Not the groups they were cut into: those may be cut anew."""
    data = grow(load_model(folder).fitted_, as_additions([StoredRating("u41", "i20", 4.0)])).data
    assert data.users.columns.equals(small_dataset().users.columns)
    assert data.items.columns.equals(small_dataset().items.columns)
    assert data.users.attributes == small_dataset().users.attributes


def test_update_of_a_folder_without_raw_attributes(tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parents[1] / "fixtures" / "format1" / "aanmf.zip") as pack:
        pack.extractall(tmp_path / "model")
    with pytest.raises(ModelFolderError, match="early version.* train the model again"):
        load_model(tmp_path / "model").update()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["serve", "nowhere"], "no such folder"),
        (["serve", "MODEL", "--token-file", "nowhere"], "nowhere"),
        (["serve", "MODEL", "--token-file", "SHORT"], "at least 16"),
        (["serve", "MODEL", "--log-level", "loud"], "choose one of"),
        (["serve", "MODEL", "--store", "mysql://x"], "sqlite:///FILE"),
        (["update", "nowhere"], "no such folder"),
        (["update", "MODEL", "--from", "ftp://x"], "sqlite:///FILE"),
    ],
)
def test_commands_that_cannot_start(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], words: str
) -> None:
    (tmp_path / "short").write_text("abc")
    names = {"MODEL": str(folder), "SHORT": str(tmp_path / "short")}
    assert main([names.get(each, each) for each in args]) == 1
    assert words in capsys.readouterr().err


def test_stored_ratings_have_the_time_of_storing(tmp_path: Path) -> None:
    """So a model that has learned from times takes them."""
    url = f"sqlite:///{tmp_path / 'ratings.db'}"
    store, before = RatingStore(url), int(time.time())
    store.add([StoredRating("a", "i", 3.0), StoredRating("b", "i", None)])
    store.close()
    new = stored_additions(url)
    assert new.ratings.rows() == [("a", "i", 3.0), ("b", "i", None)]
    assert new.time is not None
    assert all(before <= each <= time.time() for each in new.time)
