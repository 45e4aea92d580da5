"""One process at a time writes a folder; any number may read it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from aanmf.errors import BusyError

LOCK = ".lock"
"""The file in a folder that says who writes there; the lock goes with the process, the file may stay."""


@contextmanager
def locked(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps others from writing a folder, which is made if it is not there.

    The same thread may lock a folder again. A folder that was made here and is still empty at the end is removed.

    Args:
        folder: model, checkpoints, or prepared ratings.
        wait: until the other one has finished, instead of an error.

    Raises:
        BusyError: another process, or another thread, writes the folder; the message says which, and since when.
        OSError: the place is not writable.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, is_singleton=True)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise BusyError(
            f"{folder} is being written by {_holder(folder)}: wait until it has finished, or choose another folder"
        ) from None
    try:
        if lock.lock_counter == 1:
            _sign(folder)
        yield
    finally:
        if made and lock.lock_counter == 1:
            _remove_if_empty(folder)
        lock.release()


def _sign(folder: Path) -> None:
    """Writes down who holds the lock."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    about = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
    with suppress(OSError):  # the disk is full: the lock holds all the same
        (folder / LOCK).write_text(json.dumps(about), encoding="utf-8")


def _holder(folder: Path) -> str:
    """Who holds the lock, in words."""
    try:
        about = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        return f"process {about['process']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        if [each.name for each in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
