"""The exceptions of the library. Every message says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AanmfError(Exception):
    """Base of everything this library raises on purpose.

    >>> from aanmf import make_model
    >>> try:
    ...     make_model("autorek")
    ... except AanmfError as error:
    ...     print(str(error).partition(" Available")[0])
    Unknown model 'autorek'. Did you mean 'autorec'?
    """


class DataError(AanmfError, ValueError):
    """A table, a column or a value cannot be used as it is.

    >>> from aanmf import RatingDataset
    >>> RatingDataset.read("nowhere.csv")
    Traceback (most recent call last):
    aanmf.errors.DataError: nowhere.csv: no such file
    """


class DataWarning(UserWarning):
    """Tables were read, but a part of them is not used, was guessed, or looks wrong: what, and what to do."""


class SchemaError(DataError):
    """An attribute is declared in a way that does not fit its column, or a request has other attributes.

    >>> from aanmf import Popularity, load_restaurants
    >>> Popularity().fit(load_restaurants()).recommend_for({"city": "Paris"})
    Traceback (most recent call last):
    aanmf.errors.SchemaError: attribute 'city': 'Paris' is not among the values of the training data; allowed: ...
    """


class DownloadError(AanmfError):
    """A public data set is not on this machine and could not be fetched."""


class ConfigError(AanmfError, ValueError):
    """A setting has an unknown name or a value outside its range."""


class UnknownIdError(AanmfError, KeyError):
    """A user or item id that the model has never seen, if one is required.

    >>> from aanmf import Popularity, load_restaurants
    >>> Popularity().fit(load_restaurants()).recommend("nobody")
    Traceback (most recent call last):
    aanmf.errors.UnknownIdError: user 'nobody' is not in the training data; for a new user give attributes
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ForgottenError(AanmfError):
    """A user who was forgotten on request: nothing is stored under this id."""


class NotFiniteError(AanmfError, ArithmeticError):
    """A weight or a prediction is infinite, or no number: the model is damaged, or its training diverged."""


class NotFittedError(AanmfError):
    """The model was asked for something before `fit` or `load`."""


class ModelFolderError(AanmfError):
    """A saved model is incomplete, was changed, or comes from a newer version."""


class BusyError(AanmfError):
    """A folder is being written by another process, or another thread."""


class RankError(AanmfError):
    """Of several processes that train together, one did not come, or has ended, or does not answer."""


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
