"""Makes the restaurant data of the package from UCI's Restaurant & Consumer data.

    python benchmarks/restaurants.py FOLDER [--out src/aanmf/data/uci_restaurants]

FOLDER holds the published files (rating_final.csv, userprofile.csv, geoplaces2.csv, ...). Writes ratings.csv.gz,
users.csv.gz and items.csv.gz. README.md beside them says what is changed, and why.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import polars as pl

CITIES = {"San Luis Potosi": (22.15, -100.98), "Cuernavaca": (18.92, -99.23), "Ciudad Victoria": (23.73, -99.15)}
"""Latitude and longitude. Every user and every restaurant is within 50 km of one of them."""
USERS = {
    "user": "userID",
    "city": "city",
    "likes": "Rcuisine",
    "budget": "budget",
    "payment": "Upayment",
    "occupation": "activity",
    "birth_year": "birth_year",
    "marital_status": "marital_status",
    "children": "hijos",
    "company": "ambience",
    "transport": "transport",
    "drinks": "drink_level",
    "smoker": "smoker",
    "dress": "dress_preference",
    "interest": "interest",
    "personality": "personality",
}
ITEMS = {
    "item": "placeID",
    "name": "name",
    "city": "city",
    "cuisine": "Rcuisine",
    "price": "price",
    "payment": "Rpayment",
    "parking": "parking_lot",
    "alcohol": "alcohol",
    "smoking": "smoking_area",
    "dress_code": "dress_code",
    "accessibility": "accessibility",
    "ambience": "Rambience",
    "area": "area",
    "services": "other_services",
    "franchise": "franchise",
}
"""Columns, and their published names; the other published ones are left out."""
RENAMED = {"t": "yes", "f": "no", "true": "yes", "false": "no", "Visa": "VISA"}
DAMAGED = {
    "El Rinc\ufffdn de San Francisco": "El Rincón de San Francisco",
    "Gorditas Doa Gloria": "Gorditas Doña Gloria",
}
"""Names that lost a letter before publication."""


def prepare(folder: Path) -> dict[str, pl.DataFrame]:
    """The three tables: `ratings`, `users`, `items`."""
    ratings = _read(folder / "rating_final.csv").select(user="userID", item="placeID", rating="rating")
    users = _with_lists(_read(folder / "userprofile.csv"), folder, "usercuisine.csv", "userpayment.csv")
    lists = "chefmozcuisine.csv", "chefmozparking.csv", "chefmozaccepts.csv"
    items = _with_lists(_read(folder / "geoplaces2.csv"), folder, *lists)
    return {"ratings": ratings, "users": _tidy(users, USERS), "items": _tidy(items, ITEMS)}


def _read(path: Path) -> pl.DataFrame:
    """All cells as text; `?` and nothing are empty cells."""
    return pl.read_csv(path, infer_schema=False, null_values=["?", ""])


def _with_lists(table: pl.DataFrame, folder: Path, *files: str) -> pl.DataFrame:
    """Adds columns of files with a row per value, the values in one cell: `Mexican|Bar`."""
    key = table.columns[0]
    for name in files:
        rows = _read(folder / name).with_columns(pl.col(pl.String).exclude(key).replace(RENAMED))
        values = rows.group_by(key, maintain_order=True).agg(pl.all().unique(maintain_order=True).str.join("|"))
        table = table.join(values, on=key, how="left", maintain_order="left")
    return table


def _tidy(table: pl.DataFrame, names: dict[str, str]) -> pl.DataFrame:
    """The columns to keep, with their names here, spaces for underscores, and the city by the coordinates."""
    places = table.select(pl.col("latitude", "longitude").cast(pl.Float64)).to_numpy()
    nearest = np.linalg.norm(places[:, None] - np.array(list(CITIES.values())), axis=2).argmin(axis=1)
    table = table.with_columns(city=pl.Series(np.array(list(CITIES))[nearest]))
    text = pl.all().str.replace_all("_", " ").str.replace_all(r"\s+", " ").str.strip_chars()
    return table.select(**names).select(text.replace(RENAMED).replace(DAMAGED)).sort(next(iter(names)))


def main() -> None:
    """Writes the tables, compressed; the same content gives the same bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("src/aanmf/data/uci_restaurants"))
    options = parser.parse_args()
    for name, table in prepare(options.folder).items():
        (options.out / f"{name}.csv.gz").write_bytes(gzip.compress(table.write_csv().encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
