"""MovieLens: parsed as published where it is there; downloads that fail leave nothing behind."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from aanmf import load_movielens
from aanmf.data.movielens import AGES, Release, fetch, find_movielens, plain_title
from aanmf.data.sources import load
from aanmf.errors import DataError, DownloadError

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("ml-tiny/u.data", "1\t1\t3\t100\n")
    return packed.getvalue()


@contextmanager
def server(answer: str) -> Iterator[str]:
    """A server on loopback that answers well, with 404, cut off, with something else, or never."""
    content = archive()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answer == "hangs":
                time.sleep(3)
                return
            self.send_response(404 if answer == "missing" else 200)
            body = b"something else" if answer == "altered" else content
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if answer == "cut" else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/ml-tiny.zip"
        running.shutdown()


def release(url: str) -> Release:
    return Release("ml-tiny", "u.data", url, hashlib.sha256(archive()).hexdigest())


def test_a_good_download_is_unpacked(tmp_path) -> None:
    with server("well") as url:
        folder = fetch(release(url), cache=tmp_path)
    assert (folder / "u.data").read_text() == "1\t1\t3\t100\n"
    assert [each.name for each in tmp_path.iterdir()] == ["ml-tiny"]


@pytest.mark.parametrize("answer", ["missing", "cut", "altered", "hangs"])
def test_a_failed_download_leaves_nothing(tmp_path, answer: str) -> None:
    start = time.monotonic()
    with server(answer) as url, pytest.raises(DownloadError, match="could not be downloaded.*AANMF_DATA"):
        fetch(release(url), cache=tmp_path, timeout=1)
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - start < 15  # given up, not waited for


def test_nobody_answers(tmp_path) -> None:
    with pytest.raises(DownloadError, match="could not be downloaded"):
        fetch(release("http://127.0.0.1:9/ml-tiny.zip"), cache=tmp_path, timeout=1)


def test_not_found_says_where_it_was_looked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AANMF_DATA", str(tmp_path))
    monkeypatch.setattr("aanmf.data.movielens.cache_folder", lambda: tmp_path / "cache")
    assert find_movielens("100k") is None
    with pytest.raises(DownloadError, match=f"looked in: {tmp_path}.*Set AANMF_DATA"):
        load_movielens("100k", download=False)
    with pytest.raises(DataError, match="Available: 100k, 1m"):
        load_movielens("25m")


def test_sources_by_name(tmp_path) -> None:
    assert len(load("synthetic:2000")) == 2000
    with pytest.raises(DataError, match="comes with its own tables; users cannot be given"):
        load("synthetic", users=tmp_path / "u.csv")
    with pytest.raises(DataError, match="give a number of ratings"):
        load("synthetic:many")
    (tmp_path / "r.csv").write_text("user,item,rating\n1,1,1\n")
    assert len(load(str(tmp_path / "r.csv"))) == 1


@pytest.mark.real_data
def test_ml_100k(real_data) -> None:
    data = load_movielens("100k", folder=real_data / "ml-100k")
    assert (len(data), len(data.users), len(data.items)) == (100_000, 943, 1682)
    first = (data.users.ids.ids[data.user[0]], data.items.ids.ids[data.item[0]], data.rating[0], data.time[0])
    assert first == ("196", "242", 3.0, 881250949)
    assert data.users.columns.row(0) == ("M", "18-24", "technician")
    assert set(data.users.columns["age"]) == set(AGES)
    assert data.users.columns["occupation"].n_unique() == 21
    assert data.items.columns["genres"][0].to_list() == ["Animation", "Children's", "Comedy"]
    assert data.items.columns["year"][0] == 1995
    assert data.items.labels[0] == "Toy Story (1995)"
    base = np.loadtxt(real_data / "ml-100k" / "u1.base", dtype=np.int64)
    train = np.setdiff1d(np.arange(len(data)), data.folds["u1"])
    assert {*zip(data.user[train] + 1, data.item[train] + 1, strict=True)} == {*map(tuple, base[:, :2].tolist())}
    tests = np.concatenate([data.folds[f"u{k}"] for k in range(1, 6)])
    assert sorted(tests) == list(range(100_000))


@pytest.mark.real_data
def test_ml_1m(real_data) -> None:
    data = load_movielens("1m", folder=real_data / "ml-1m")
    assert (len(data), len(data.users), len(data.items)) == (1_000_209, 6040, 3883)
    assert len(np.unique(data.item)) == 3706
    assert data.users.columns.row(0) == ("F", "under 18", "K-12 student")
    assert data.items.columns["genres"][0].to_list() == ["Animation", "Children's", "Comedy"]
    assert data.items.columns["year"].null_count() == 0


@pytest.mark.parametrize(
    ("published", "plain"),
    [
        ("Close Shave, A (1995)", "A Close Shave (1995)"),
        ("Enfer, L' (1994)", "L'Enfer (1994)"),
        ("Star Maker, The (Uomo delle stelle, L') (1995)", "The Star Maker (L'Uomo delle stelle) (1995)"),
        ("Fille seule, La (A Single Girl) (1995)", "La Fille seule (A Single Girl) (1995)"),
        (
            "Wonderful, Horrible Life of Leni Riefenstahl, The (1993)",
            "The Wonderful, Horrible Life of Leni Riefenstahl (1993)",
        ),
        ("Boot, Das", "Das Boot"),
        ("Paris, Texas (1984)", "Paris, Texas (1984)"),
        ("Girl, Interrupted (1999)", "Girl, Interrupted (1999)"),
    ],
)
def test_an_article_stands_in_front(published: str, plain: str) -> None:
    assert plain_title(published) == plain
