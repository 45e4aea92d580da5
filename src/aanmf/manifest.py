"""`manifest.json`: which files a folder holds, with their checksums, and where they are stored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from aanmf.errors import ModelFolderError

FORMAT = 3
"""In formats 1 and 2 files were stored under their plain names, in a folder that was renamed into place."""
MANIFEST = "manifest.json"
MOST_BYTES = 64 << 20
"""A larger manifest is none."""


def stored_name(name: str, checksum: str) -> str:
    """The name that a file is stored under: `weights-3f2a90c1d4e5b678.safetensors`."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}-{checksum[:16]}{dot}{suffix}"


def read_manifest(path: str | Path) -> dict[str, object]:
    """The manifest of a model folder, its format and the names in it checked.

    Raises:
        ModelFolderError: it is not there, not readable, or of a newer version.
    """
    path = Path(path)
    damaged = ModelFolderError(f"{path / MANIFEST} is damaged; save the model again")
    if not path.is_dir():
        raise ModelFolderError(f"{path}: no such folder; give one that `save` or `aanmf train --out` has written")
    if not (path / MANIFEST).exists():
        raise ModelFolderError(f"{path} has no {MANIFEST}: it is not a model folder, or an incomplete copy")
    manifest = parsed(content_of(path / MANIFEST, MOST_BYTES), path / MANIFEST)
    version, sums = manifest.get("format"), manifest.get("sha256")
    if type(version) is not int or version < 1 or not isinstance(sums, dict):
        raise damaged
    if version > FORMAT:
        raise ModelFolderError(
            f"{path} was written by a newer version of aanmf (format {version}, this one reads up to {FORMAT}): "
            "install a newer aanmf"
        )
    for name, checksum in sums.items():
        if Path(name).name != name or name in ("", "..") or "\0" in name:
            raise ModelFolderError(f"{path / MANIFEST} names a file outside of the folder: {name!r}")
        if not isinstance(checksum, str) or not re.fullmatch("[0-9a-f]{64}", checksum):
            raise damaged
    return manifest


def files_of(path: Path, manifest: Mapping[str, Any]) -> dict[str, Path]:
    """Where the files that a manifest names are stored."""
    plain = manifest["format"] < 3
    return {name: path / (name if plain else stored_name(name, sum_)) for name, sum_ in manifest["sha256"].items()}


@contextmanager
def opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """A plain file, open to be read.

    Raises:
        ModelFolderError: it is missing, or cannot be read.
    """
    if not path.exists():
        raise ModelFolderError(f"{path.parent}: {name} is missing; copy the whole folder, or save the model again")
    if not path.is_file():
        raise ModelFolderError(f"{path.parent}: {name} is not a plain file; save the model again")
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ModelFolderError(f"{path.parent}: {name} cannot be read ({error.strerror or error})") from None


def content_of(path: Path, most: int = -1, name: str | None = None) -> bytes:
    """The content of a plain file, cut after `most` bytes."""
    with opened(path, name or path.name) as file:
        return file.read(most)


def parsed(content: bytes, where: Path) -> dict[str, Any]:
    """A JSON object."""

    def no_number(text: str) -> None:
        raise ValueError(f"{text} is no number")

    try:
        document = json.loads(content, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{where} is damaged ({error}); save the model again") from None
    if not isinstance(document, dict):
        raise ModelFolderError(f"{where} is damaged (it holds no object); save the model again")
    return document
