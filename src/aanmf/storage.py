"""Files and folders that are replaced whole or not at all; a model is a folder of tensors and JSON.

A folder is what its `manifest.json` says: it names each file with its checksum. Files are stored under names that hold
the checksum (`weights-3f2a90c1d4e5b678.safetensors`), so that those of a new state never touch those of the old one,
and the manifest is replaced last, in one step: at any moment the folder holds the old state, or the new one. What the
manifest does not name is removed by the next save. Nothing in a model folder can run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from aanmf import disk
from aanmf.errors import ModelFolderError
from aanmf.locks import LOCK
from aanmf.manifest import FORMAT, MANIFEST, content_of, files_of, opened, parsed, read_manifest, stored_name

if TYPE_CHECKING:
    from torch import Tensor

NEVER_CHANGED = 3
"""From this format on, a name holds the checksum, so that no save writes into a file that is there."""
MAPPED = 1 << 24
"""Tensors of so many bytes and more are mapped."""
Json = Mapping[str, object]
_SUFFIXES = ("json", "safetensors", "parquet", "bin")
_STRAY = re.compile(rf"[^.].*-[0-9a-f]{{16}}\.({'|'.join(_SUFFIXES)})|\..+\.({'|'.join(_SUFFIXES)})-[a-z0-9_]{{8}}")


class StoredFolder(NamedTuple):
    """What a folder holds: its manifest, JSON documents and tensors by name, and where its other files are."""

    manifest: dict[str, object]
    documents: dict[str, dict[str, Any]]
    tensors: dict[str, dict[str, Tensor]]
    files: dict[str, Path]


@contextmanager
def replace_file(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Opens a file to write beside `path` and renames it to `path` at the end, when the disk has all of it.

    If the block raises, the new file is removed, and an older one at `path` stays as it was.

    Args:
        path: the target; its folder is made where it is missing.
        mode: how to open the new file: `wb`, or `w` for text.
        **options: of `open`: `encoding`, `newline`, ... The `name` of the open file is the path it is written at.

    Raises:
        OSError: the disk is full or the place not writable.
    """
    disk.make_folder(path.parent)
    new = disk.new_file(path)
    try:
        with disk.open_to_write(new, mode, **options) as file:
            yield file
            disk.sync(file)
        new.chmod(0o644)
        disk.rename(new, path)
        disk.sync_folder(path.parent)
    finally:
        disk.remove(new)


class NewFiles:
    """Files of a folder's next state; none of them counts before `commit`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sums: dict[str, str] = {}
        """Checksum of each file, by name."""

    def write(self, name: str, content: bytes) -> None:
        """Adds a file."""
        with self.open(name) as file:
            file.write(content)

    @contextmanager
    def open(self, name: str) -> Iterator[HashedFile]:
        """Adds a file that is written piece by piece."""
        new = disk.new_file(self.folder / name)
        try:
            with disk.open_to_write(new) as file:
                yield (hashed := HashedFile(file))
                disk.sync(file)
            new.chmod(0o644)
            checksum = hashed.digest.hexdigest()
            disk.rename(new, self.folder / stored_name(name, checksum))
            self.sums[name] = checksum
        finally:
            disk.remove(new)

    def commit(self, about: Json) -> None:
        """Makes the files the state of the folder, and removes those of the state before.

        Args:
            about: what goes into the manifest beside format and checksums.
        """
        before = _stored_files(self.folder)
        disk.sync_folder(self.folder)  # the names of the files come before the manifest
        with replace_file(self.folder / MANIFEST) as file:
            file.write(_json({"format": FORMAT, **about, "sha256": self.sums}))
        self._remove_all_but(_stored_files(self.folder), before)

    def give_up(self) -> None:
        """Removes what was written; the folder stays as it is."""
        written = {stored_name(name, checksum) for name, checksum in self.sums.items()}
        for name in written - _stored_files(self.folder):
            with suppress(OSError):
                disk.remove(self.folder / name)

    def _remove_all_but(self, kept: set[str], before: set[str]) -> None:
        """Removes files of an earlier state, and what killed processes left; other people's files stay."""
        for path in self.folder.iterdir():
            if path.name not in kept and (path.name in before or _STRAY.fullmatch(path.name)):
                with suppress(OSError):  # somebody reads it on Windows: the next save removes it
                    disk.remove(path)


class HashedFile:
    """An open file that computes the checksum of what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        """Writes, and adds to the checksum."""
        self.digest.update(content)
        self.file.write(content)


@contextmanager
def new_files(folder: Path) -> Iterator[NewFiles]:
    """Gives a place for the files of a folder's next state, which is made if it is not there.

    The block adds files and commits them. If it raises, the folder stays as it was. The caller holds its lock.

    Raises:
        OSError: the disk is full or the place not writable.
    """
    disk.make_folder(folder)
    files = NewFiles(folder)
    try:
        yield files
    except OSError as error:
        files.give_up()
        if error.errno is None or error.filename is not None:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        told = f"{error.strerror}; what was there stays as it was. {'Free some space' if full else 'Remove the cause'}"
        raise OSError(error.errno, f"{told}, or choose another folder", str(folder)) from error
    except BaseException:
        files.give_up()
        raise


def check_target(path: Path) -> None:
    """Checks that a model can be saved at `path`: nothing is there, or what a save has left, whole or not.

    Raises:
        ModelFolderError: something else is there.
    """
    if path.is_dir():
        if (path / MANIFEST).is_file() or all(_STRAY.fullmatch(x.name) or x.name == LOCK for x in path.iterdir()):
            return
    elif not path.exists():
        return
    raise ModelFolderError(f"{path} exists and is not a model folder: choose another one, or remove it")


def write_folder(
    path: str | Path,
    *,
    about: Json,
    documents: Mapping[str, Json],
    tensors: Mapping[str, Mapping[str, Tensor]],
    files: Mapping[str, Path | bytes] | None = None,
    written: Mapping[str, str] | None = None,
) -> None:
    """Writes a model folder; an older model there is replaced in one step. The caller holds the folder's lock.

    Args:
        path: the folder.
        about: what goes into the manifest beside format and checksums.
        documents: JSON files by name, without suffix.
        tensors: safetensors files by name, without suffix.
        files: other files by name: their content, or where to copy it from. `read_folder` only checks them.
        written: what `add_tensors` has put there and returned.

    Raises:
        OSError: the disk is full or the place not writable; an older model is left as it was.
    """
    with new_files(Path(path)) as new:
        for name, document in documents.items():
            new.write(f"{name}.json", _json(document))
        for name, group in tensors.items():
            new.write(f"{name}.safetensors", _bytes_of(group))
        for name, source in (files or {}).items():
            if isinstance(source, bytes):
                new.write(name, source)
                continue
            with new.open(name) as to, source.open("rb") as from_:
                while block := from_.read(1 << 24):
                    to.write(block)
        new.sums |= written or {}
        new.commit(about)


def add_tensors(path: Path, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Puts a safetensors file where `write_folder` will write; without that it does not count.

    Returns:
        Its name and checksum.

    Raises:
        OSError: the disk is full or the place not writable.
    """
    with new_files(path) as new:
        new.write(f"{name}.safetensors", _bytes_of(tensors))
    return new.sums


def read_folder(path: str | Path) -> StoredFolder:
    """Reads a model folder: every file is checked, JSON documents and tensors are read.

    A folder that is saved anew meanwhile is read in its new state.

    Raises:
        ModelFolderError: a file is missing or was changed, or the folder comes from a newer version.
    """
    path = Path(path)
    while True:
        manifest = read_manifest(path)
        try:
            return _read_files(path, manifest)
        except ModelFolderError:
            if read_manifest(path) == manifest:
                raise


def _read_files(path: Path, manifest: dict[str, Any]) -> StoredFolder:
    read, files = StoredFolder(manifest, {}, {}, {}), files_of(path, manifest)
    for name, expected in manifest["sha256"].items():
        stem, _, suffix = name.rpartition(".")
        mapped = suffix == "safetensors" and manifest["format"] >= NEVER_CHANGED
        kept, content, digest = suffix in ("json", "safetensors") and not mapped, b"", hashlib.sha256()
        if kept:
            content = content_of(files[name], name=name)
            digest.update(content)
        else:
            with opened(files[name], name) as file:
                while block := file.read(1 << 24):
                    digest.update(block)
        if digest.hexdigest() != expected:
            raise ModelFolderError(f"{path}: {name} was changed since it was saved (checksum); save the model again")
        if suffix == "json":
            read.documents[stem] = parsed(content, path / name)
        elif suffix == "safetensors":
            read.tensors[stem] = _tensors(files[name] if mapped else content, path, name)
        else:
            read.files[name] = files[name]
    return read


def _bytes_of(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as a safetensors file has them."""
    from safetensors.torch import save

    return save({name: each.detach().cpu().contiguous() for name, each in tensors.items()})


def _tensors(stored: Path | bytes, folder: Path, name: str) -> dict[str, Tensor]:
    """Tensors of a file, or of bytes.

    Numbers of large ones are read from the disk when they are used (a private mapping). Small ones are copied: in a
    file they begin anywhere, on which the last digit of sums can depend.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        found = load(stored) if isinstance(stored, bytes) else load_file(stored)
        return {name: each if each.nbytes >= MAPPED else each.clone() for name, each in found.items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelFolderError(f"{folder}: {name} is damaged ({error}); save the model again") from None


def _stored_files(folder: Path) -> set[str]:
    """The manifest and the files that it names, as they are stored; empty where there is no manifest to be read."""
    try:
        return {MANIFEST, *(path.name for path in files_of(folder, read_manifest(folder)).values())}
    except ModelFolderError:
        return set()


def _json(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False).encode()
