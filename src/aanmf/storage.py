"""What is written to disk replaces what was there whole or not at all; a model is a folder of tensors and JSON.

Tensors are safetensors files; every file has its checksum in the manifest. Nothing in a model folder can run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aanmf.errors import ModelFolderError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
MANIFEST = "manifest.json"
Json = Mapping[str, object]


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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    new = Path(name)
    try:
        with new.open(mode, **options) as file:
            yield file
            _sync_file(file)
        new.chmod(0o644)
        new.replace(path)
        _sync_folder(path.parent)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Gives a new empty folder beside `path` and renames it to `path` at the end.

    If the block raises, the new folder is removed, and an older one at `path` stays as it was.

    Raises:
        OSError: the disk is full or the place not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield new
        new.chmod(0o755)
        _sync_folder(new)
        _swap(new, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_target(path: Path) -> None:
    """Checks that a model can be saved at `path`: nothing is there, an empty folder, or an older model.

    Raises:
        ModelFolderError: something else is there.
    """
    if path.exists() and not (path / MANIFEST).is_file() and (path.is_file() or any(path.iterdir())):
        raise ModelFolderError(f"{path} exists and is not a model folder: choose another one, or remove it")


def write_folder(
    path: str | Path,
    *,
    about: Json,
    documents: Mapping[str, Json],
    tensors: Mapping[str, Mapping[str, Tensor]],
    files: Mapping[str, Path | bytes] | None = None,
) -> None:
    """Writes a model folder beside its target and renames it into place, replacing an older model there.

    Args:
        path: the folder.
        about: what goes into the manifest beside format and checksums.
        documents: JSON files by name, without suffix.
        tensors: safetensors files by name, without suffix.
        files: other files by name: their content, or where to copy it from. `read_folder` only checks them.

    Raises:
        ModelFolderError: something that is not a model stands at `path`.
        OSError: the disk is full or the place not writable; an older model is left as it was.
    """
    from safetensors.torch import save

    path, files = Path(path), files or {}
    check_target(path)
    with replace_folder(path) as new:
        contents = {f"{name}.json": _json(document) for name, document in documents.items()}
        for name, group in tensors.items():
            contents[f"{name}.safetensors"] = save({key: t.detach().cpu().contiguous() for key, t in group.items()})
        contents |= {name: source for name, source in files.items() if isinstance(source, bytes)}
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        sums |= {name: _copy_through(source, new / name) for name, source in files.items() if isinstance(source, Path)}
        contents[MANIFEST] = _json({"format": FORMAT, **about, "sha256": sums})
        for name, content in contents.items():
            _write_through(new / name, content)


def read_manifest(path: str | Path) -> dict[str, object]:
    """The manifest of a model folder, its format checked.

    Raises:
        ModelFolderError: it is not there, not readable, or of a newer version.
    """
    path = Path(path)
    if not path.is_dir():
        raise ModelFolderError(f"{path}: no such folder; give one that `save` or `aanmf train --out` has written")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, sums = manifest["format"], manifest["sha256"]
    except FileNotFoundError:
        raise ModelFolderError(f"{path} has no {MANIFEST}: it is not a model folder, or an incomplete copy") from None
    except (ValueError, KeyError, TypeError):
        raise ModelFolderError(f"{path / MANIFEST} is damaged; save the model again") from None
    if not isinstance(version, int) or not isinstance(sums, dict):
        raise ModelFolderError(f"{path / MANIFEST} is damaged; save the model again")
    if version > FORMAT:
        raise ModelFolderError(
            f"{path} was written by a newer version of aanmf (format {version}, this one reads up to {FORMAT}): "
            "install a newer aanmf"
        )
    return manifest


def read_folder(
    path: str | Path,
) -> tuple[dict[str, object], dict[str, dict[str, object]], dict[str, dict[str, Tensor]]]:
    """Reads a model folder: manifest, JSON documents and tensors, by name.

    Raises:
        ModelFolderError: a file is missing or was changed, or the folder comes from a newer version.
    """
    from safetensors.torch import load

    path, manifest = Path(path), read_manifest(path)
    documents: dict[str, dict[str, object]] = {}
    tensors: dict[str, dict[str, Tensor]] = {}
    sums = manifest["sha256"]
    assert isinstance(sums, dict)  # `read_manifest` has checked it
    for name, expected in sums.items():
        if Path(name).name != name or name in ("", ".."):
            raise ModelFolderError(f"{path / MANIFEST} names a file outside of the folder: {name!r}")
        stem, _, suffix = name.rpartition(".")
        content = b""
        try:
            if suffix in ("json", "safetensors"):
                content = (path / name).read_bytes()
                found = hashlib.sha256(content).hexdigest()
            else:
                found = _copy_through(path / name, None)
        except FileNotFoundError:
            raise ModelFolderError(
                f"{path}: {name} is missing; copy the whole folder, or save the model again"
            ) from None
        if found != expected:
            raise ModelFolderError(f"{path}: {name} was changed since it was saved (checksum); save the model again")
        if suffix == "json":
            documents[stem] = json.loads(content)
        elif suffix == "safetensors":
            tensors[stem] = load(content)
    return manifest, documents, tensors


def _json(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _write_through(path: Path, content: bytes) -> None:
    """Writes a file and waits until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        _sync_file(file)


def _copy_through(source: Path, target: Path | None) -> str:
    """Copies a file of any size (to nowhere, if there is no target) and returns its checksum."""
    digest = hashlib.sha256()
    with source.open("rb") as from_, target.open("wb") if target else nullcontext() as to:
        while block := from_.read(1 << 24):
            digest.update(block)
            if to:
                to.write(block)
        if to:
            _sync_file(to)
    return digest.hexdigest()


def _sync_file(file: IO[Any]) -> None:
    """Waits until the disk has what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder."""
    if os.name == "nt":  # which cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(new: Path, path: Path) -> None:
    """Puts `new` at `path`; what was there is gone only after the new one stands."""
    if not path.exists():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
    path.rename(old / "model")
    try:
        new.rename(path)
    except OSError:
        (old / "model").rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
