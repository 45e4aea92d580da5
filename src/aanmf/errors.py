"""The exceptions of the library. Every message says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AanmfError(Exception):
    """Base of everything this library raises on purpose."""


class DataError(AanmfError, ValueError):
    """A table, a column or a value cannot be used as it is."""


class DataWarning(UserWarning):
    """Tables were read, but a part of them is not used, was guessed, or looks wrong: what, and what to do."""


class SchemaError(DataError):
    """An attribute is declared in a way that its column, or the request, does not fit."""


class DownloadError(AanmfError):
    """A public data set is not on this machine and could not be fetched."""


class ConfigError(AanmfError, ValueError):
    """A setting has an unknown name or a value outside its range."""


class UnknownIdError(AanmfError, KeyError):
    """A user or item id that the model has never seen, where one is required."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotFittedError(AanmfError):
    """The model was asked for something before `fit` or `load`."""


class ModelFolderError(AanmfError):
    """A saved model is incomplete, was changed, or comes from a newer version."""


class CheckpointError(AanmfError):
    """A checkpoint cannot be written, or belongs to another training."""


class MissingExtraError(AanmfError, ImportError):
    """An optional library is needed; the message names the extra that installs it."""


def unknown(what: str, name: str, available: Iterable[str]) -> str:
    """The message for a name that does not exist: `Unknown model 'mff'. Did you mean 'mf'? Available: aanmf, mf`."""
    names = list(available)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {what} {name!r}.{hint} Available: {', '.join(names)}"
