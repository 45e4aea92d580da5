"""The context of ratings that are read piece by piece."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.context import ContextTable
from aanmf.data.options import ReadOptions
from aanmf.data.rating_rows import RatingRows, read_context
from aanmf.data.schema import Schema
from aanmf.errors import SchemaError
from aanmf.storage import NewFiles

CONTEXT, TIMES = "context.parquet", "times.parquet"
"""Files of a prepared folder."""


class ContextOfPieces:
    """The context of the ratings, gathered piece by piece; the first piece says of which kinds it is.

    Args:
        names: of the columns.
        schema: what is declared of them.
        options: of reading.
    """

    def __init__(self, names: Sequence[str], schema: Schema, options: ReadOptions) -> None:
        self.names, self.schema, self.options = names, schema, options
        self.pieces: list[ContextTable] = []
        self.times: list[NDArray[np.int64]] = []

    def add(self, rows: RatingRows) -> tuple[str, ...]:
        """Takes those of some rows; returns what is odd about them."""
        known = self.pieces[0] if self.pieces else None
        names = self.names if known is None else known.names
        schema = self.schema if known is None else Schema(ratings=known.attributes)
        try:
            table, notices = read_context(rows, names, schema, self.options)
        except SchemaError as error:
            raise SchemaError(f"{rows.table.where}, counted from row {rows.table.number(0)}: {error}") from None
        self.pieces.append(table.compact())
        if table.time is not None and rows.time is not None:
            self.times.append(rows.time)
        return notices

    def write(self, new: NewFiles) -> None:
        """To the folder, if there is any."""
        if not self.names:
            return
        columns = pl.concat([each.columns for each in self.pieces])
        new.write(CONTEXT, replace(self.pieces[0], columns=columns).to_parquet())
        pl.DataFrame({"time": np.concatenate(self.times or [np.zeros(0, np.int64)])}).write_parquet(out := io.BytesIO())
        new.write(TIMES, out.getvalue())


def stored_context(stored: Mapping[str, Path]) -> tuple[ContextTable, NDArray[np.int64] | None]:
    """What `ContextOfPieces.write` wrote, and the times where they are context."""
    if CONTEXT not in stored:
        return ContextTable(), None
    table = ContextTable.from_parquet(stored[CONTEXT].read_bytes())
    return table, None if table.time is None else pl.read_parquet(stored[TIMES])["time"].to_numpy()
