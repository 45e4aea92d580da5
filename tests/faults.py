"""A disk that fails: each step that the library asks of `aanmf.disk` can be made to fail, once, in five ways.

`ENOSPC`, `EIO`: the step raises; a write has written half. `kill`: the step raises `KilledError` and the disk does
nothing more, as if the process were gone: no clean-up. `power`: in addition everything is lost that the disk was not
told to keep: content that was not synced, and names whose folder was not synced. `reorder`: as `power`, but the last
of these names is kept, as a disk may that writes in an order of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from aanmf import disk

FAULTS = ("ENOSPC", "EIO", "kill", "power", "reorder")
STEPS = ("make_folder", "new_file", "open_to_write", "sync", "sync_folder", "rename", "remove")


class KilledError(BaseException):
    """The process is gone."""


class FailingFile:
    """An open file whose writes are steps too."""

    def __init__(self, file: IO[Any], failing: FailingDisk) -> None:
        self._file, self._failing = file, failing

    def write(self, content: Any) -> None:
        half = content[: len(content) // 2]
        self._failing.step(lambda: self._file.write(content), lambda: self._file.write(half))

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class FailingDisk:
    """Counts steps, and makes the n-th fail.

    Attributes:
        fault: one of `FAULTS`; None: nothing fails.
        at: which step fails, from 1.
        done: steps so far.
    """

    def __init__(self, fault: str | None = None, at: int = 0) -> None:
        self.fault, self.at, self.done, self.dead = fault, at, 0, False
        self._real = {name: getattr(disk, name) for name in STEPS}
        self._unsynced: set[int] = set()
        self._undo: list[tuple[Path, Callable[[], None]]] = []

    def step(self, do: Callable[[], Any], half: Callable[[], Any] = lambda: None) -> Any:
        """Does something, unless this is the step that fails."""
        if self.dead:
            raise KilledError
        self.done += 1
        if self.done != self.at or self.fault is None:
            return do()
        half()
        if self.fault in ("ENOSPC", "EIO"):
            number = getattr(errno, self.fault)
            raise OSError(number, os.strerror(number))
        self.dead = True
        raise KilledError

    def make_folder(self, path: Path) -> None:
        self.step(lambda: self._real["make_folder"](path))

    def new_file(self, path: Path) -> Path:
        return self.step(lambda: self._real["new_file"](path))

    def open_to_write(self, path: Path, mode: str = "wb", **options: Any) -> Any:
        def do() -> FailingFile:
            file = self._real["open_to_write"](path, mode, **options)
            self._unsynced.add(os.fstat(file.fileno()).st_ino)
            return FailingFile(file, self)

        return self.step(do)

    def sync(self, file: Any) -> None:
        def do() -> None:
            self._real["sync"](file)
            self._unsynced.discard(os.fstat(file.fileno()).st_ino)

        self.step(do)

    def sync_folder(self, folder: Path) -> None:
        def do() -> None:
            self._real["sync_folder"](folder)
            self._undo = [each for each in self._undo if each[0] != folder]

        self.step(do)

    def rename(self, old: Path, new: Path) -> None:
        def do() -> None:
            before = new.read_bytes() if new.exists() else None
            self._real["rename"](old, new)
            self._undo.append((new.parent, lambda: new.unlink() if before is None else _put(new, before)))

        self.step(do)

    def remove(self, path: Path) -> None:
        def do() -> None:
            before = path.read_bytes() if path.exists() else None
            self._real["remove"](path)
            if before is not None:
                self._undo.append((path.parent, lambda: _put(path, before)))

        self.step(do)

    def lose_power(self, folder: Path) -> None:
        """What was not synced is lost."""
        for _, undo in reversed(self._undo[:-1] if self.fault == "reorder" else self._undo):
            undo()
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_ino in self._unsynced:
                path.write_bytes(b"")


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@contextmanager
def failing(folder: Path, fault: str | None = None, at: int = 0) -> Iterator[FailingDisk]:
    """Within the block the disk fails as asked; what its failing raises is swallowed, errors of the library are not.

    Args:
        folder: where everything is written that power loss may damage.
        fault: one of `FAULTS`; None: nothing fails.
        at: which step fails, from 1.
    """
    failed = FailingDisk(fault, at)
    with pytest.MonkeyPatch.context() as patched:
        for name in STEPS:
            patched.setattr(disk, name, getattr(failed, name))
        try:
            yield failed
        except (KilledError, OSError):
            assert failed.done >= at, "raised by something else"
    if fault in ("power", "reorder") and failed.dead:
        failed.lose_power(folder)
