"""What the library asks of the disk. All of it passes here, so that a test can make each single step fail."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Any


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, where they are missing."""
    path.mkdir(parents=True, exist_ok=True)


def new_file(path: Path) -> Path:
    """Makes an empty file beside `path`, with a hidden name of its own: `.NAME-xxxxxxxx`."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    return Path(name)


def open_to_write(path: Path, mode: str = "wb", **options: Any) -> IO[Any]:
    """Opens a file to write."""
    return path.open(mode, **options)


def sync(file: IO[Any]) -> None:
    """Waits until the disk has what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder."""
    if os.name == "nt":  # which cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(old: Path, new: Path) -> None:
    """Gives a file another name; a file of that name is replaced."""
    old.replace(new)


def remove(path: Path) -> None:
    """Removes a file, if it is there."""
    path.unlink(missing_ok=True)
