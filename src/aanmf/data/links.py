"""Links between users (trust, friendship), read from a file of pairs of ids."""

from __future__ import annotations

import logging
from os import PathLike

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.dataset import Vocabulary
from aanmf.data.files import read_table
from aanmf.errors import DataError

log = logging.getLogger(__name__)


def read_links(path: str | PathLike[str], users: Vocabulary) -> NDArray[np.int64]:
    """Reads links between users: the first two columns are ids, a third one, if there is one, the strength.

    Links of strength 0 or below, and of users that are not in `users`, are left out.

    Returns:
        (m, 2) positions in `users`.

    Raises:
        DataError: the file cannot be read, has fewer than two columns, a strength that is no number, or no
        link between
            these users.
    """
    table = read_table(path)
    if table.width < 2:
        raise DataError(f"{path}: one column; links need two, the ids of the users they join")
    links = np.stack([users.index(table[:, 0]), users.index(table[:, 1])], axis=1)
    known = (links >= 0).all(axis=1)
    if table.width > 2:
        strength = table[:, 2].cast(pl.Float64, strict=False)
        if strength.has_nulls():
            row = int(strength.is_null().arg_max() or 0)
            raise DataError(f"{path}: strength {table[row, 2]!r} of link {row + 1} is not a number")
        known &= strength.to_numpy() > 0
    if not known.any():
        raise DataError(f"{path}: none of the {len(links)} links joins two users of the ratings; do the ids agree?")
    if not known.all():
        log.info("%s: %d of %d links join known users", path, known.sum(), len(links))
    return links[known]
