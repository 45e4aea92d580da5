"""Settings found by tuning: TOML files, one per data set and model, which `aanmf reproduce` reads.

A file holds the settings, as `aanmf train --config` takes them, and a table `[tuning]` that says how they were found.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aanmf import html
from aanmf.errors import ConfigError
from aanmf.storage import replace_file

FOLDER = Path(__file__).parent / "settings"
"""The files that come with the library: FOLDER / data set / model.toml."""

_BARE = re.compile(r"[\w-]+", re.ASCII)
"""Names that TOML takes without quotes; `validation_ndcg@10` is none."""


@dataclass(frozen=True)
class Tuned:
    """Settings of one model, and how they were found (empty: they are the defaults)."""

    settings: dict[str, Any] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        if not self.settings and not self.tuning:
            return html.block("Tuned settings", html.line("none: the defaults"))
        how = ((name.replace("_", " "), value) for name, value in self.tuning.items() if name != "at_edge")
        edges = self.tuning.get("at_edge") or []
        warning = [html.line(f"at the edge of the search space, a better value may lie beyond: {', '.join(edges)}")]
        title = f"Tuned settings of {self.tuning['model']}" if "model" in self.tuning else "Tuned settings"
        found = html.fold("how they were found", html.facts(how))
        return html.block(title, html.facts(self.settings.items()), *(warning if edges else []), found)

    @classmethod
    def read(cls, path: str | Path) -> Tuned:
        """From a file.

        Raises:
            ConfigError: the file is missing, or not TOML.
        """
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; `aanmf tune` writes such files") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from None
        tuning = document.pop("tuning", {})
        return cls(document, tuning)

    def write(self, path: str | Path) -> Path:
        """To a file, replacing an older one; values of None (the default) are left out."""
        path = Path(path)
        with replace_file(path, "w", encoding="utf-8") as file:
            file.write("\n".join([*_lines(self.settings), "", "[tuning]", *_lines(self.tuning), ""]))
        return path


def tuned_settings(source: str, model: str, folder: Path | None = None) -> Tuned:
    """What was found for a model on a data set; empty where nothing was.

    Args:
        source: name of the data set; `synthetic:N` counts as `synthetic`.
        model: by name.
        folder: instead of the files that come with the library.
    """
    path = (folder or FOLDER) / source.partition(":")[0] / f"{model}.toml"
    return Tuned.read(path) if path.exists() else Tuned()


def _lines(values: Mapping[str, Any]) -> list[str]:
    """JSON's text of numbers, truth values, strings and lists is TOML's too."""
    return [
        f"{name if _BARE.fullmatch(name) else json.dumps(name)} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if value is not None
    ]
