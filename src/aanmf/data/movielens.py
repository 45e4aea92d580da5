"""MovieLens 100K and 1M: found on this machine, or downloaded against the published checksum, and parsed."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from aanmf.data.dataset import EntityTable, RatingDataset, Rows, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.data.tables import read_table
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
PREDEFINED = ("u1", "u2", "u3", "u4", "u5", "ua", "ub")
ENVIRONMENT = "AANMF_DATA"


@dataclass(frozen=True)
class Release:
    """Where a data set is published, and how to know it."""

    folder: str
    ratings: str
    url: str
    md5: str


RELEASES = {
    "100k": Release(
        folder="ml-100k",
        ratings="u.data",
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        md5="0e33842e24a9c977be4e0107933c0723",
    ),
    "1m": Release(
        folder="ml-1m",
        ratings="ratings.dat",
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        md5="c4d9eecfca2ab87c1945afe126590906",
    ),
}


def load_movielens(
    which: Literal["100k", "1m"], *, folder: str | Path | None = None, download: bool = True
) -> RatingDataset:
    """MovieLens with the attributes of the paper's Tables 2-3, and genres and year of the films.

    User attributes: `gender` (F, M), `age` (seven groups, `under 18` ... `56+`), `occupation` (21, by name). Item
    attributes: `genres` (multi-valued), `year` (numeric); labels are the titles. Ratings are in file order, on a scale
    of 1 to 5. ML-100K comes with its folds `u1` ... `u5`, `ua`, `ub`.

    Args:
        which: `"100k"` or `"1m"`.
        folder: the unpacked data set; None: looked for in `$AANMF_DATA`, then in the cache, then downloaded.
        download: whether to download what is not found.

    Raises:
        DataError: no such release, or files that are not what they should be.
        DownloadError: not found, and not to be had.
    """
    if which not in RELEASES:
        raise DataError(f"MovieLens {which!r}: there are {', '.join(RELEASES)}")
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
    """The folder of a data set on this machine, if it is there."""
    release = RELEASES[which]
    return next((place for place in _places(release) if (place / release.ratings).is_file()), None)


def cache_folder() -> Path:
    """Where downloads are kept."""
    import pooch

    return Path(pooch.os_cache("aanmf"))


def fetch(release: Release, *, cache: Path | None = None, timeout: float = 10.0) -> Path:
    """Downloads and unpacks a data set into the cache; what arrives incomplete or altered is not kept.

    Args:
        release: what to get.
        cache: the folder to put it in; None: the user's cache.
        timeout: seconds without an answer after which it is given up.

    Raises:
        DownloadError: it cannot be had, was cut off, or is not what was published.
    """
    import pooch

    cache = cache or cache_folder()
    target = cache / release.folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as work:
            archive = pooch.retrieve(
                release.url,
                known_hash=f"md5:{release.md5}",
                path=work,
                fname="archive.zip",
                downloader=pooch.HTTPDownloader(timeout=timeout),  # pyright: ignore[reportArgumentType]
            )
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(work)  # zipfile keeps members inside of the folder
            unpacked = Path(work) / release.folder
            if not (unpacked / release.ratings).is_file():
                raise DownloadError(f"{release.url}: the archive has no {release.folder}/{release.ratings}")
            if target.exists():
                shutil.rmtree(target)
            unpacked.rename(target)
    except (
        OSError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:  # requests' errors are OSErrors; a wrong hash a ValueError
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
    ratings = _numbers(folder / "u.data", ["user", "item", "rating", "time"], "\t")
    people = read_table(folder / "u.user", separator="|", header=False)
    years = people["column_2"].cast(pl.Int64)
    films = read_table(folder / "u.item", separator="|", header=False)
    genres = read_table(folder / "u.genre", separator="|", header=False)["column_1"].drop_nulls().to_list()
    flags = films.select(films.columns[5 : 5 + len(genres)]).to_numpy() == "1"
    kinds = [[genre for genre, flag in zip(genres, row, strict=True) if flag and genre != "unknown"] for row in flags]
    released = films["column_3"].str.extract(r"(\d{4})$")
    users = _users(people["column_1"], people["column_3"], _age_groups(years), people["column_4"])
    items = _items(films["column_1"], films["column_2"], kinds, released)
    data = _dataset("ml-100k", ratings, users, items)
    folds = {
        name: _rows_of(data, folder / f"{name}.test") for name in PREDEFINED if (folder / f"{name}.test").is_file()
    }
    return RatingDataset(**{**vars(data), "folds": folds})


def _load_1m(folder: Path) -> RatingDataset:
    ratings = _numbers(folder / "ratings.dat", ["user", "item", "rating", "time"], "::")
    people = read_table(folder / "users.dat", separator="::", header=False)
    codes = people["column_4"].cast(pl.Int64).to_list()
    films = read_table(folder / "movies.dat", separator="::", header=False)
    users = _users(
        people["column_1"],
        people["column_2"],
        _age_groups(people["column_3"].cast(pl.Int64)),
        pl.Series([OCCUPATIONS[code] for code in codes]),
    )
    items = _items(films["column_1"], films["column_2"], films["column_3"].str.split("|").to_list(), None)
    return _dataset("ml-1m", ratings, users, items)


def _users(ids: pl.Series, gender: pl.Series, age: pl.Series, occupation: pl.Series) -> EntityTable:
    columns = pl.DataFrame({"gender": gender, "age": age, "occupation": occupation})
    return EntityTable(
        Vocabulary(ids), columns, tuple(Attribute(name=n, kind=Kind.CATEGORICAL) for n in columns.columns)
    )


def _items(ids: pl.Series, titles: pl.Series, genres: list[list[str]], released: pl.Series | None) -> EntityTable:
    """The year comes from the release date, or else from the title: `Toy Story (1995)`."""
    in_title = titles.str.extract(r"\((\d{4})\)\s*$")
    year = in_title if released is None else released.zip_with(released.is_not_null(), in_title)
    columns = pl.DataFrame(
        {
            "genres": pl.Series([kinds or None for kinds in genres], dtype=pl.List(pl.String)),
            "year": year.cast(pl.Float64),
        }
    )
    attributes = (Attribute(name="genres", kind=Kind.MULTIVALUED), Attribute(name="year", kind=Kind.NUMERIC))
    return EntityTable(Vocabulary(ids), columns, attributes, labels=tuple(titles))


def _age_groups(years: pl.Series) -> pl.Series:
    """Years (or ML-1M's codes 1, 18, 25, ..., which are the first year of each group) as labels."""
    group = np.searchsorted(AGE_STARTS, years.to_numpy(), side="right")
    return pl.Series([AGES[g] for g in group])


def _numbers(path: Path, names: list[str], separator: str) -> pl.DataFrame:
    frame = read_table(path, separator=separator, header=False)
    if frame.width != len(names):
        raise DataError(f"{path}: {frame.width} columns; {len(names)} were expected ({', '.join(names)})")
    return frame.rename(dict(zip(frame.columns, names, strict=True))).cast(
        {"rating": pl.Float32, "time": pl.Int64}  # ids stay text
    )


def _dataset(name: str, ratings: pl.DataFrame, users: EntityTable, items: EntityTable) -> RatingDataset:
    user, item = users.ids.index(ratings["user"]), items.ids.index(ratings["item"])
    if (user < 0).any() or (item < 0).any():
        raise DataError(f"{name}: a rating names a user or film that the other files do not have")
    return RatingDataset(
        users=users,
        items=items,
        user=user,
        item=item,
        rating=ratings["rating"].to_numpy(),
        time=ratings["time"].to_numpy(),
        scale=(1.0, 5.0),
        name=name,
    )


def _rows_of(data: RatingDataset, path: Path) -> Rows:
    """The rows of the data set that a predefined test file holds, in the file's order."""
    test = _numbers(path, ["user", "item", "rating", "time"], "\t")
    key = data.user * len(data.items) + data.item
    wanted = data.users.ids.index(test["user"]) * len(data.items) + data.items.ids.index(test["item"])
    order = np.argsort(key)
    place = np.searchsorted(key[order], wanted)
    rows = order[np.minimum(place, len(key) - 1)]
    if not np.array_equal(key[rows], wanted):
        raise DataError(f"{path}: holds ratings that u.data does not have")
    return rows
