"""Whether two shards write ids in the same way: 7, "7", 7.0 and "007" may be one user, or four."""

from __future__ import annotations

import polars as pl

from aanmf.data.file_names import has_types
from aanmf.data.tables import Table
from aanmf.errors import DataError

INTEGERS, TEXT, DIGITS, DECIMALS, CODES = (
    "whole numbers",
    "text",
    "whole numbers as text",
    "numbers with a point, such as '7.0'",
    "codes that begin with 0, such as '007'",
)
"""Forms of ids. The first two are types of Parquet and JSON, the others are found in text files."""
CLASHES = ({INTEGERS, TEXT}, {INTEGERS, DECIMALS}, {DIGITS, DECIMALS}, {INTEGERS, CODES})
"""Forms in which the same id looks like two, or two like one."""


class IdForms:
    """The forms of the ids met so far, with the first shard of each."""

    def __init__(self) -> None:
        self.met: dict[tuple[str, str], str] = {}

    def meet(self, table: Table, columns: tuple[str, str]) -> None:
        """Takes the ids of users and items in the first rows of a shard.

        Raises:
            DataError: an earlier shard writes them in another form.
        """
        for name in columns:
            form = form_of(table.frame[name], typed=has_types(table.where))
            if form is None:
                continue
            for (column, other), where in self.met.items():
                if column == name and {form, other} in CLASHES:
                    raise DataError(
                        f"{table.where}: the ids in column {name!r} are {form}, in {where} they are {other}: nobody "
                        "can tell which of them are the same. Write the column in the same way in all files"
                    )
            self.met.setdefault((name, form), table.where)


def form_of(ids: pl.Series, *, typed: bool) -> str | None:
    """One of the forms above; None: other text, or no ids."""
    known = ids.drop_nulls()
    if ids.dtype.is_numeric():
        return INTEGERS  # also of whole floats: 7.0 is read as 7
    if ids.dtype != pl.String or not len(known):
        return None
    if typed:
        return TEXT
    known = known.str.strip_chars()
    if known.str.contains(r"^-?\d+\.0+$").all():
        return DECIMALS
    if known.str.contains(r"^-?\d+$").all():
        return CODES if known.str.contains(r"^0\d").any() else DIGITS
    return None
