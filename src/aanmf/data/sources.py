"""Data sets by name (`restaurants`, `ml-100k`, `ml-1m`, `synthetic`, `synthetic:200000`), path, or database URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aanmf.data.dataset import RatingDataset
from aanmf.data.file_names import Sources
from aanmf.data.movielens import load_movielens
from aanmf.data.options import ReadOptions
from aanmf.data.recbole import RATINGS, read_recbole
from aanmf.data.restaurants import load_restaurants
from aanmf.data.sql import read_sql, without_password
from aanmf.data.synthetic import make_synthetic
from aanmf.data.urls import is_database
from aanmf.errors import DataError

NAMES = ("restaurants", "ml-100k", "ml-1m", "synthetic")


def load(
    source: str,
    *,
    users: Sources = None,
    items: Sources = None,
    queries: Mapping[str, str] | None = None,
    options: ReadOptions | None = None,
    **keywords: object,
) -> RatingDataset:
    """Reads a data set by name, path or URL.

    Args:
        source: `restaurants` (part of the package), `ml-100k`, `ml-1m`, `synthetic` (100,000 ratings), `synthetic:N`
            (N ratings), a ratings file (also `NAME.inter` of RecBole), or the URL of a database.
        users, items: for files only; see `RatingDataset.read`.
        queries: for databases only: `ratings`, `users`, `items`; see `read_sql`.
        options, **keywords: for files and databases; see `ReadOptions`. `context` is for all sources: the times of
            MovieLens are called `timestamp`.

    Raises:
        DataError: tables or options given for a source that comes with its own, or a file that cannot be used.
        ConfigError: an unknown option.
    """
    asked = ReadOptions.of(options, keywords)
    if is_database(source):
        if users is not None or items is not None or asked.separator is not None:
            raise DataError(
                f"{without_password(source)} is a database: give --users-query and --items-query, not files"
            )
        return read_sql(source, options=asked, **(queries or {}))
    if queries:
        raise DataError(f"{source} is not a database: {sorted(queries)[0]}_query cannot be given for it")
    name, _, size = source.partition(":")
    if source.endswith(RATINGS):
        if users or items:
            stem = Path(source).stem
            raise DataError(
                f"{source} is a file of RecBole: {stem}.user and {stem}.item "
                "are read too, if they are next to it: leave the option out"
            )
        return read_recbole(source, options=asked)
    if name not in NAMES:
        return RatingDataset.read(source, users=users, items=items, options=asked)
    options_given = [name for name in asked.changed if name != "context"]
    if given := [side for side, files in (("users", users), ("items", items)) if files] + options_given:
        raise DataError(f"{source} comes with its own tables; {', '.join(given)} cannot be given for it")
    if size and name != "synthetic":
        raise DataError(f"{source}: only synthetic takes a size")
    data = _named(name, size)
    return data.with_context(asked.context) if asked.context else data


def _named(name: str, size: str) -> RatingDataset:
    if name == "synthetic":
        return make_synthetic(**_shape(size) if size else {}).data
    return load_restaurants() if name == "restaurants" else load_movielens("100k" if name == "ml-100k" else "1m")


def _shape(size: str) -> dict[str, int]:
    """Numbers of users and items that give a user about a hundred ratings of a few hundred items."""
    if not size.isdigit() or int(size) < 10:
        raise DataError(f"synthetic:{size}: give a number of ratings, at least 10")
    n = int(size)
    return {"n_ratings": n, "n_users": max(10, n // 100), "n_items": max(400, min(30_000, n // 250))}
