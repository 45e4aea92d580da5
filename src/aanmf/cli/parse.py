"""Texts of the command line as values: settings of a model, attributes of a new user, kinds of columns."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aanmf.errors import ConfigError, SchemaError


def read_settings(texts: Iterable[str], config: Path | None) -> dict[str, Any]:
    """Settings from `--config` and, over them, `--set`: `factors=16`, `layers=[32, 16]`, `aanmf.dropout=0.2`.

    Raises:
        ConfigError: a text without `=`, or a file that does not exist or is not TOML.
    """
    settings = _read_toml(config) if config else {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {text}: write name=value, for instance factors=16")
        model, _, name = path.strip().rpartition(".")
        target = settings.setdefault(model, {}) if model else settings
        target[name] = toml_value(value.strip())
    return settings


def toml_value(text: str) -> Any:
    """A number, truth value, array or quoted text as TOML has them; anything else is the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def read_attributes(text: str, option: str = "--attributes") -> dict[str, str]:
    """`gender=F,age=25-34,occupation="sales, marketing"` as a dictionary; quotes keep commas together.

    Raises:
        SchemaError: a part without `=`, or an attribute named twice.
    """
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.quotes, lexer.escape, lexer.commenters = ",", True, '"', "", ""
    values: dict[str, str] = {}
    try:
        parts = [part for part in lexer if part.strip()]
    except ValueError:
        raise SchemaError(f"{option} {text}: a quotation mark is not closed") from None
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise SchemaError(f"{option}: {part!r} is not name=value; write for instance gender=F,age=25-34")
        if name.strip() in values:
            raise SchemaError(f"{option}: {name.strip()!r} is given twice")
        values[name.strip()] = value.strip()
    return values


def read_ratings(given: list[str]) -> dict[str, float | None]:
    """`["50=5", "172"]` as ratings by item id; None for an item that was chosen and not rated.

    Raises:
        ConfigError: a part that is neither ITEM=NUMBER nor ITEM.
    """
    ratings: dict[str, float | None] = {}
    for part in given:
        item, equals, value = part.rpartition("=") if "=" in part else (part, "", "")
        try:
            ratings[item.strip()] = float(value) if equals else None
        except ValueError:
            item = ""
        if not item.strip():
            raise ConfigError(f"--rating: {part!r} is neither ITEM=NUMBER nor ITEM; write for instance --rating 50=5")
    return ratings


def read_where(given: list[str]) -> dict[str, object]:
    """`["genres=Drama|Comedy", "year=1990..1999"]` as conditions; see `aanmf.data.where`.

    Raises:
        ConfigError: a part without `=`.
    """
    where: dict[str, object] = {}
    for part in given:
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ConfigError(f"--where: {part!r} is not NAME=VALUE; write for instance --where genres=Drama")
        low, dots, high = value.partition("..")
        ends = low.strip() or None, high.strip() or None
        where[name.strip()] = ends if dots else [each.strip() for each in value.split("|")]
    return where


def read_ids(path: Path) -> list[str]:
    """Ids, one per line.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--candidates {path}: cannot be read ({error})") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        document.pop("tuning", None)  # what `aanmf tune` writes of its search
        return document
    except FileNotFoundError:
        raise ConfigError(f"--config {path}: no such file") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ConfigError(f"--config {path}: not readable as TOML ({error})") from None


def one_model(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the one model that a command trains, out of those for many (see `settings_for`)."""
    from aanmf.evaluation.cross_validate import settings_for
    from aanmf.models.catalog import CATALOG

    return settings_for(model, settings, list(CATALOG))
