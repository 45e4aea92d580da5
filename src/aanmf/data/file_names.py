"""What the name of a file says about it: its kind, and whether and how it is compressed."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import PurePath

from aanmf.data.urls import Url, located

Source = str | PathLike[str]
Sources = Source | Sequence[Source] | None
"""One file or URL, several, or none."""
PARQUET = (".parquet", ".pq")
JSON = (".json", ".jsonl", ".ndjson")
ARROW = (".arrow", ".feather", ".ipc")
EXCEL = (".xlsx", ".xls", ".xlsb", ".ods")
TEXT = (".csv", ".tsv", ".txt", ".dat", ".data")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def is_table(path: PurePath) -> bool:
    """Whether a file of this name can be read."""
    return _kind(path) in (*PARQUET, *JSON, *EXCEL, *TEXT, *ARROW)


def has_types(path: Source) -> bool:
    """Whether the cells in a file of this name have types; in CSV and other text files all are text."""
    return _kind(_name(path)) in (*PARQUET, *JSON, *EXCEL, *ARROW)


def stem(path: Source) -> str:
    """The name of a file without the endings of its kind and compression."""
    name = _name(path)
    return PurePath(name.stem).stem if name.suffix in COMPRESSED else name.stem


def _kind(path: PurePath) -> str:
    """The ending of a name, before that of the compression."""
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def _name(path: Source) -> PurePath:
    place = located(path)
    return place.path if isinstance(place, Url) else place
