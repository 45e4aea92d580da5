"""Data sets by name (`ml-100k`, `ml-1m`, `synthetic`, `synthetic:200000`), by path, or by URL of a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING

from aanmf.data.dataset import RatingDataset
from aanmf.data.movielens import load_movielens
from aanmf.data.read import read_dataset
from aanmf.data.sql import is_url, read_sql, without_password
from aanmf.data.synthetic import make_synthetic
from aanmf.errors import DataError

if TYPE_CHECKING:
    from aanmf.data.schema import Schema

    Tables = str | PathLike[str] | Sequence[str | PathLike[str]] | None

NAMES = ("ml-100k", "ml-1m", "synthetic")


def load(
    source: str,
    *,
    users: Tables = None,
    items: Tables = None,
    schema: Schema | None = None,
    queries: Mapping[str, str] | None = None,
    **options: object,
) -> RatingDataset:
    """A data set by name, path or URL.

    Args:
        source: `ml-100k`, `ml-1m`, `synthetic` (100,000 ratings), `synthetic:N` (N ratings), a ratings file, or the
            URL of a database.
        users, items: for files only; see `read_dataset`.
        queries: for databases only: `ratings`, `users`, `items`; see `read_sql`.
        schema, **options: for files and databases.

    Raises:
        DataError: tables or options given for a source that comes with its own, or a file that cannot be used.
    """
    if is_url(source):
        if users is not None or items is not None or "separator" in options:
            raise DataError(
                f"{without_password(source)} is a database: give --users-query and --items-query, not files"
            )
        return read_sql(source, schema=schema, **{**options, **(queries or {})})  # type: ignore[arg-type]
    if queries:
        raise DataError(f"{source} is not a database: {sorted(queries)[0]}_query cannot be given for it")
    name, _, size = source.partition(":")
    if name not in NAMES:
        return read_dataset(source, users=users, items=items, schema=schema, **options)  # type: ignore[arg-type]
    if users is not None or items is not None or schema is not None or options:
        given = [
            *(["users"] if users else []),
            *(["items"] if items else []),
            *(["schema"] if schema else []),
            *options,
        ]
        raise DataError(f"{source} comes with its own tables; {', '.join(given)} cannot be given for it")
    if name == "synthetic":
        return make_synthetic(**_shape(size) if size else {}).data
    if size:
        raise DataError(f"{source}: only synthetic takes a size")
    return load_movielens("100k" if name == "ml-100k" else "1m")


def _shape(size: str) -> dict[str, int]:
    """Numbers of users and items that give a user about a hundred ratings of a few hundred items."""
    if not size.isdigit() or int(size) < 10:
        raise DataError(f"synthetic:{size}: give a number of ratings, at least 10")
    n = int(size)
    return {"n_ratings": n, "n_users": max(10, n // 100), "n_items": max(400, min(30_000, n // 250))}
