"""MovieLens 100K and 1M: found on this machine or downloaded, checked against the published checksum, and parsed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import polars as pl

from aanmf.data.dataset import EntityTable, RatingDataset, Rows, Vocabulary
from aanmf.data.files import read_table
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import DataError, DownloadError

AGES = ("under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+")
AGE_STARTS = (18, 25, 35, 45, 50, 56)
OCCUPATIONS = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer"),
    *("retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)
"""ML-1M's occupation codes 0-20, in the words of its README."""
ARTICLES = (
    *("The", "A", "An", "Le", "La", "Les", "L'", "Un", "Une", "Der", "Die", "Das", "Ein", "Eine"),
    *("Il", "Lo", "I", "Gli", "Uno", "Una", "El", "Los", "Las"),
)
"""English, French, German, Italian and Spanish ones, which MovieLens writes behind the title, after a comma."""
_ARTICLE_BEHIND = re.compile(rf"(^|\()([^()]+), ({'|'.join(ARTICLES)})(?=\)| \(|$)")
PREDEFINED = ("u1", "u2", "u3", "u4", "u5", "ua", "ub")
ENVIRONMENT = "AANMF_DATA"


@dataclass(frozen=True)
class Release:
    """Where a data set is published: folder in the archive, its file of ratings, URL and checksum of the archive."""

    folder: str
    ratings: str
    url: str
    sha256: str


_URL = "https://files.grouplens.org/datasets/movielens"
RELEASES = {
    "100k": Release(
        "ml-100k", "u.data", f"{_URL}/ml-100k.zip", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
    ),
    "1m": Release(
        "ml-1m", "ratings.dat", f"{_URL}/ml-1m.zip", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"
    ),
}


def load_movielens(
    which: Literal["100k", "1m"], *, folder: str | Path | None = None, download: bool = True
) -> RatingDataset:
    """MovieLens with the attributes of the paper's Tables 2-3, and genres and year of the films.

    User attributes: `gender` (F, M), `age` (seven groups, `under 18` ... `56+`), `occupation` (21, by name). Item
    attributes: `genres` (multi-valued), `year` (numeric); labels are the titles, with their articles in front. Ratings
    are in file order, on a scale of 1 to 5. ML-100K comes with its folds `u1` ... `u5`, `ua`, `ub`.

    >>> load_movielens("100k")  # doctest: +SKIP
    RatingDataset(ml-100k: 100000 ratings, 943 users, 1682 items)

    Args:
        which: `"100k"` or `"1m"`.
        folder: the unpacked data set; None: the one in `$AANMF_DATA`, else in the cache, else a download.
        download: whether to download a data set that is not found.

    Raises:
        DataError: an unknown release, or files that do not have the expected content.
        DownloadError: the data set is neither found nor downloaded.
    """
    if which not in RELEASES:
        raise DataError(f"unknown MovieLens release {which!r}. Available: {', '.join(RELEASES)}")
    found = Path(folder) if folder is not None else find_movielens(which)
    if found is None and download:
        found = fetch(RELEASES[which])
    if found is None or not (found / RELEASES[which].ratings).is_file():
        places = ", ".join(map(str, [folder] if folder else _places(RELEASES[which])))
        raise DownloadError(
            f"MovieLens {which} is not on this machine (looked in: {places}). "
            f"Set {ENVIRONMENT} to the folder that holds {RELEASES[which].folder}/"
        )
    return _load_100k(found) if which == "100k" else _load_1m(found)


def find_movielens(which: str) -> Path | None:
    """The folder of a data set on this machine; None if it is not found."""
    release = RELEASES[which]
    return next((place for place in _places(release) if (place / release.ratings).is_file()), None)


def cache_folder() -> Path:
    """Where downloads are kept."""
    import pooch

    return Path(pooch.os_cache("aanmf"))


def fetch(release: Release, *, cache: Path | None = None, timeout: float = 10.0) -> Path:
    """Downloads and unpacks a data set into the cache; an incomplete or altered download is not kept.

    Args:
        release: the data set.
        cache: the folder to put it in; None: the user's cache.
        timeout: seconds to wait for an answer of the server.

    Raises:
        DownloadError: the server is unreachable, or the download incomplete or different from the published one.
    """
    import pooch

    cache = cache or cache_folder()
    target = cache / release.folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as work:
            archive = pooch.retrieve(
                release.url,
                known_hash=f"sha256:{release.sha256}",
                path=work,
                fname="archive.zip",
                downloader=cast("Any", pooch.HTTPDownloader(timeout=timeout)),  # pooch's annotations lack `timeout`
            )
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(work)  # zipfile keeps members inside of the folder
            unpacked = Path(work) / release.folder
            if not (unpacked / release.ratings).is_file():
                raise DownloadError(f"{release.url}: the archive has no {release.folder}/{release.ratings}")
            shutil.rmtree(target, ignore_errors=True)
            unpacked.rename(target)
    except (OSError, ValueError, zipfile.BadZipFile) as error:  # a wrong hash is a ValueError, no connection an OSError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DownloadError(
            f"{release.url} could not be downloaded ({reason[:200]}). Set {ENVIRONMENT} to a folder that holds "
            f"{release.folder}/, or try again"
        ) from None
    return target


def _places(release: Release) -> list[Path]:
    places: list[Path] = []
    if given := os.environ.get(ENVIRONMENT):
        places += [Path(given) / release.folder, Path(given)]
    return [*places, cache_folder() / release.folder]


def _load_100k(folder: Path) -> RatingDataset:
    users = read_table(folder / "u.user", separator="|", header=False)
    films = read_table(folder / "u.item", separator="|", header=False)
    genres = read_table(folder / "u.genre", separator="|", header=False)["column_1"].drop_nulls().to_list()
    flags = films.select(films.columns[5 : 5 + len(genres)]).to_numpy() == "1"
    kinds = [[genre for genre, flag in zip(genres, row, strict=True) if flag and genre != "unknown"] for row in flags]
    released = films["column_3"].str.extract(r"(\d{4})$")
    data = _dataset(
        "ml-100k",
        _ratings(folder / "u.data", "\t"),
        _users(users["column_1"], users["column_3"], users["column_2"], users["column_4"]),
        _items(films["column_1"], films["column_2"], kinds, released),
    )
    tests = {name: folder / f"{name}.test" for name in PREDEFINED}
    return replace(data, folds={name: _rows_of(data, path) for name, path in tests.items() if path.is_file()})


def _load_1m(folder: Path) -> RatingDataset:
    users = read_table(folder / "users.dat", separator="::", header=False)
    films = read_table(folder / "movies.dat", separator="::", header=False)
    occupations = pl.Series([OCCUPATIONS[code] for code in users["column_4"].cast(pl.Int64)])
    return _dataset(
        "ml-1m",
        _ratings(folder / "ratings.dat", "::"),
        _users(users["column_1"], users["column_2"], users["column_3"], occupations),
        _items(films["column_1"], films["column_2"], films["column_3"].str.split("|").to_list(), None),
    )


def _users(ids: pl.Series, gender: pl.Series, years: pl.Series, occupation: pl.Series) -> EntityTable:
    """Years are labelled by group; ML-1M's codes 1, 18, 25, ... are the first year of each."""
    age = np.array(AGES)[np.searchsorted(AGE_STARTS, years.cast(pl.Int64).to_numpy(), side="right")]
    columns = pl.DataFrame({"gender": gender, "age": age, "occupation": occupation})
    declared = tuple(Attribute(name=name, kind=Kind.CATEGORICAL) for name in columns.columns)
    return EntityTable(Vocabulary(ids), columns, declared)


def _items(ids: pl.Series, titles: pl.Series, genres: list[list[str]], released: pl.Series | None) -> EntityTable:
    """The year is that of the release date, or else of the title: `Toy Story (1995)`."""
    in_title = titles.str.extract(r"\((\d{4})\)\s*$")
    year = in_title if released is None else released.zip_with(released.is_not_null(), in_title)
    lists = pl.Series([kinds or None for kinds in genres], dtype=pl.List(pl.String))
    columns = pl.DataFrame({"genres": lists, "year": year.cast(pl.Float64)})
    declared = (Attribute(name="genres", kind=Kind.MULTIVALUED), Attribute(name="year", kind=Kind.NUMERIC))
    return EntityTable(Vocabulary(ids), columns, declared, labels=tuple(map(plain_title, titles)))


def plain_title(title: str) -> str:
    """A title with its article in front, as it is said.

    >>> plain_title("Close Shave, A (1995)"), plain_title("Hate (Haine, La) (1995)"), plain_title("Enfer, L' (1994)")
    ('A Close Shave (1995)', 'Hate (La Haine) (1995)', "L'Enfer (1994)")
    """
    return _ARTICLE_BEHIND.sub(lambda found: f"{found[1]}{found[3]} {found[2]}".replace("L' ", "L'", 1), title)


def _ratings(path: Path, separator: str) -> pl.DataFrame:
    frame, names = read_table(path, separator=separator, header=False), ("user", "item", "rating", "time")
    if frame.width != len(names):
        raise DataError(f"{path}: {frame.width} columns; {len(names)} were expected ({', '.join(names)})")
    named = frame.rename(dict(zip(frame.columns, names, strict=True)))
    return named.cast({"rating": pl.Float32, "time": pl.Int64})  # ids stay text


def _dataset(name: str, ratings: pl.DataFrame, users: EntityTable, items: EntityTable) -> RatingDataset:
    user, item = users.ids.index(ratings["user"]), items.ids.index(ratings["item"])
    if (user < 0).any() or (item < 0).any():
        raise DataError(f"{name}: a rating names a user or film that the other files do not have")
    rating, time = ratings["rating"].to_numpy(), ratings["time"].to_numpy()
    return RatingDataset(users, items, user, item, rating, time, scale=(1.0, 5.0), name=name)


def _rows_of(data: RatingDataset, path: Path) -> Rows:
    """The rows of the data set that a predefined test file holds, in the file's order."""
    test = _ratings(path, "\t")
    key = data.user * len(data.items) + data.item
    wanted = data.users.ids.index(test["user"]) * len(data.items) + data.items.ids.index(test["item"])
    order = np.argsort(key)
    rows = order[np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)]
    if not np.array_equal(key[rows], wanted):
        raise DataError(f"{path}: holds ratings that u.data does not have")
    return rows
