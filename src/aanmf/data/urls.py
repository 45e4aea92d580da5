"""What is a URL of a table and what is a path; objects behind URLs are listed, and other files than Parquet read, here.

Polars reads Parquet from URLs by itself. Both it and `obstore` are made of the same library, so credentials, region
and endpoint come from the same variables of the environment, such as `AWS_ACCESS_KEY_ID`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from aanmf.errors import DataError, MissingExtraError

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "http", "https")
"""Of object stores and web servers; `file` is a path, any other scheme is a database."""
RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=30)}


@dataclass(frozen=True)
class Url:
    """The URL of a table, of several (`s3://bucket/ratings/*.parquet`), or of a folder (`s3://bucket/ratings/`).

    In messages it is without its query, which may hold a signature.
    """

    text: str

    def __fspath__(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text.partition("?")[0] if self._is_web else self.text

    @property
    def path(self) -> PurePosixPath:
        """The part after the host or bucket."""
        return PurePosixPath(urlsplit(str(self)).path.lstrip("/"))

    @property
    def suffix(self) -> str:
        """The ending of the name."""
        return self.path.suffix

    @property
    def is_several(self) -> bool:
        """Whether it is a pattern or a folder."""
        return "*" in str(self) or str(self).endswith("/")

    def matches(self, is_table: Callable[[PurePosixPath], bool]) -> list[tuple[Url, list[object]]]:
        """The tables that a pattern or a folder names, in order, with what changes when they do.

        A `*` stands for any part of a name, not for a slash.

        Raises:
            DataError: the store cannot be reached, or has no list of its objects.
        """
        if self._is_web:
            raise DataError(f"{self}: a web server has no list of its files: name one file, or use an object store")
        wanted = self.path.parts if "*" in str(self) else (*self.path.parts, "*")
        folder = next((at for at, part in enumerate(wanted) if "*" in part), 0)
        found = []
        with self._asked("listed") as store:
            for metas in store.list("/".join(wanted[:folder]) or None):
                for meta in metas:
                    path = PurePosixPath(meta["path"])
                    same = len(path.parts) == len(wanted) and all(map(fnmatchcase, path.parts, wanted))
                    if same and ("*" in str(self) or is_table(path)):
                        found.append((Url(f"{self._root}/{path}"), _stamp(meta)))
        return sorted(found, key=lambda each: each[0].text)

    def stamp(self) -> list[object] | None:
        """Size, time of the last change, and entity tag where the store has one; None: there is no such object."""
        with self._asked("looked up") as store:
            try:
                return _stamp(store.head(str(self.path)))
            except FileNotFoundError:
                return None

    def read_bytes(self) -> bytes:
        """All of it."""
        with self._asked("read") as store:
            return bytes(store.get(str(self.path)).bytes())

    @property
    def _is_web(self) -> bool:
        return self.text.startswith(("http://", "https://"))

    @property
    def _root(self) -> str:
        parts = urlsplit(self.text)
        return f"{parts.scheme}://{parts.netloc}"

    @contextmanager
    def _asked(self, what: str) -> Iterator[Any]:
        """The store; its errors become a `DataError`."""
        try:
            from obstore.exceptions import BaseError  # type: ignore[import-not-found,unused-ignore]
            from obstore.store import from_url  # type: ignore[import-not-found,unused-ignore]
        except ModuleNotFoundError:
            raise MissingExtraError(
                f"{self}: to be {what} it needs obstore: pip install 'aanmf[urls]', or name one file of Parquet"
            ) from None
        try:
            yield from_url(self._root, retry_config=RETRIES)
        except (BaseError, OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise unreachable(self, error) from None


def located(source: str | PathLike[str]) -> Path | Url:
    """The one place that decides what is a URL and what is a path; `file:///...` is a path."""
    if isinstance(source, Url):
        return source
    scheme, found, _ = (text := str(source)).partition("://")
    if found and scheme == "file":
        return Path(url2pathname(urlsplit(text).path))
    return Url(text) if found and scheme in SCHEMES else Path(source)


def is_database(source: str) -> bool:
    """Whether a source is the URL of a database rather than a table."""
    return "://" in source and not source.startswith("file://") and isinstance(located(source), Path)


def stamp_of(place: Path | Url) -> list[object] | None:
    """What changes when a table does: of a file path, size and time in nanoseconds; None: it is not there."""
    if isinstance(place, Url):
        found = place.stamp()
        return found and [str(place), *found]
    if not place.is_file():
        return None
    stat = place.stat()
    return [str(place.resolve()), stat.st_size, stat.st_mtime_ns]


def unreachable(place: Url, error: BaseException) -> DataError:
    """What is said where a store does not answer as it should."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).partition("?")[0].strip()
    if isinstance(error, FileNotFoundError):
        return DataError(f"{place}: no such object. Correct the name, the region or the endpoint ({reason})")
    return DataError(
        f"{place}: cannot be read from there ({reason}). See whether the network and the store answer, and whether "
        "the environment has the credentials that Polars uses for this store, such as AWS_ACCESS_KEY_ID"
    )


def _stamp(meta: Any) -> list[object]:
    return [meta["size"], meta["last_modified"].isoformat(), meta["e_tag"]]
