"""Ratings of restaurants by their customers, part of the package: a small data set that needs no download."""

from __future__ import annotations

import io
from importlib.resources import files

import polars as pl

from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.kinds import KINDS
from aanmf.data.schema import Attribute, Kind

FOLDER = "uci_restaurants"
"""Beside this module; its README.md names the authors, the licence (CC BY 4.0) and what was changed."""
SEVERAL = ("cuisine", "likes", "payment")
"""Columns whose cells hold several values."""


def load_restaurants() -> RatingDataset:
    """1,161 ratings (0, 1 or 2) of 130 restaurants by 138 customers in three cities of Mexico.

    User attributes: `city`, `likes` (cuisines, multi-valued), `budget`, `payment` (multi-valued), `occupation`,
    `birth_year` (numeric), `marital_status`, `children`, `company`, `transport`, `drinks`, `smoker`, `dress`,
    `interest` and `personality`. Item attributes: `city`, `cuisine` and `payment` (multi-valued), `price`, `parking`,
    `alcohol`, `smoking`, `dress_code`, `accessibility`, `ambience`, `area`, `services` and `franchise`. Labels are the
    names of the restaurants.

    Source: R. Medellín and J. Serna, *Restaurant & consumer data*, UCI Machine Learning Repository, 2011,
    doi 10.24432/C5DP41; licence CC BY 4.0.

    >>> load_restaurants()
    RatingDataset(restaurants: 1161 ratings, 138 users, 130 items)
    """
    ratings, users, items = (_read(name) for name in ("ratings", "users", "items"))
    sides = _entities(users), _entities(items.drop("name"), items["name"])
    user, item = (side.ids.index(ratings[name]) for side, name in zip(sides, ("user", "item"), strict=True))
    rating = ratings["rating"].cast(pl.Float32).to_numpy()
    return RatingDataset(*sides, user, item, rating, scale=(0.0, 2.0), name="restaurants")


def _read(name: str) -> pl.DataFrame:
    """A table, all cells as text."""
    packed = files("aanmf.data").joinpath(FOLDER, f"{name}.csv.gz").read_bytes()
    return pl.read_csv(io.BytesIO(packed), infer_schema=False)


def _entities(table: pl.DataFrame, names: pl.Series | None = None) -> EntityTable:
    """Users, or restaurants with their names; the first column holds ids, all others are attributes."""
    ids, *columns = table.get_columns()
    declared = tuple(Attribute(name=column.name, kind=_kind(column.name)) for column in columns)
    cells = [KINDS[each.kind].convert(column, each) for column, each in zip(columns, declared, strict=True)]
    return EntityTable(Vocabulary(ids), pl.DataFrame(cells), declared, None if names is None else tuple(names))


def _kind(name: str) -> Kind:
    if name in SEVERAL:
        return Kind.MULTIVALUED
    return Kind.NUMERIC if name == "birth_year" else Kind.CATEGORICAL
