"""Writes the figures of README.md and docs/*.md from the result files: `make figures`.

Results are JSON files in `docs/results/figures`, written by the benchmarks and by `aanmf cross-validate --json`.
Each has a `summary`: a row per model, with `NAME_mean` and `NAME_std` of every metric. Documents show them in two ways:

    <!--ml-100k-lists aanmf++ ndcg@10-->0.4109<!---->     a figure in a sentence: file, model, metric
    <!-- figures: lists-ml-100k -->                       a table of `docs/results/tables.toml`, down to
    <!-- end of figures -->                               this line

`METRIC±` adds the standard deviation. Of trials and timings whose raw results were not kept, `docs/results/records` has
the cells as they were noted: `columns` and `rows`. They are shown in the same way. A test holds that documents and
files agree.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
FIGURE = re.compile(r"<!--(\S+) (\S+) ([\w@-]+±?)-->(.*?)<!---->")
TABLE = re.compile(r"<!-- figures: (\S+) -->\n(.*?)<!-- end of figures -->", re.DOTALL)
ABSENT = "-"


def pages() -> list[Path]:
    """The documents that may hold figures."""
    return [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]


@cache
def summary(file: str) -> dict[str, dict[str, Any]]:
    """The rows of a result file by model.

    Raises:
        FileNotFoundError: no such file.
    """
    rows = json.loads((RESULTS / "figures" / f"{file}.json").read_text(encoding="utf-8"))["summary"]
    return {row["model"]: row for row in rows}


def mean(file: str, model: str, metric: str) -> float:
    """A figure.

    Raises:
        KeyError: no such model or metric in the file.
    """
    row = summary(file).get(model)
    if row is None:
        raise KeyError(f"{file}.json has no model {model}")
    return row[f"{metric}_mean"]


def shown(file: str, model: str, metric: str, digits: int | None = None) -> str:
    """A figure as documents show it: a count as it is, else no decimals from 10 on and four below, or as many as asked.

    After `METRIC±` stands the standard deviation.

    Raises:
        KeyError: no such model or metric in the file.
    """
    name = metric.removesuffix("±")
    value = mean(file, model, name)
    if isinstance(value, int):
        return f"{value:,}"
    digits = (0 if abs(value) >= 10 else 4) if digits is None else digits
    deviation = summary(file)[model][f"{name}_std"] if metric.endswith("±") else None
    return f"{value:.{digits}f}" if deviation is None else f"{value:.{digits}f} ± {deviation:.{digits}f}"


@dataclass(frozen=True)
class Table:
    """A table of `docs/results/tables.toml`.

    Attributes:
        rows: a `title` and words for `cell`, for every row.
        columns: the same for every column; with `best`, `high` or `low`, the best figure is set in bold, and
            with `digits` it has so many decimals.
        cell: FILE MODEL METRIC with words of the row and the column in braces.
        corner: title of the first column.
    """

    rows: list[dict[str, str]]
    columns: list[dict[str, str]]
    cell: str
    corner: str = ""

    def markdown(self) -> str:
        """The table as Markdown.

        Raises:
            ValueError: a row or a column has no figure at all.
        """
        columns = {column["title"]: self._column(column) for column in self.columns}
        rows = {row["title"]: list(cells) for row, *cells in zip(self.rows, *columns.values(), strict=True)}
        for title, cells in [*columns.items(), *rows.items()]:
            if set(cells) == {ABSENT}:
                raise ValueError(f"no result for {title!r}")
        return lined([[self.corner, *columns], *([title, *rows[title]] for title in rows)])

    def _column(self, column: dict[str, str]) -> list[str]:
        """The cells of a column; a figure that its file does not have is `ABSENT`."""
        places = [self.cell.format(**{**row, **column}).split() for row in self.rows]
        means = [summary(file).get(model, {}).get(f"{metric.removesuffix('±')}_mean") for file, model, metric in places]
        there = [round(value, 4) for value in means if value is not None]
        best = {"high": max, "low": min}[column["best"]](there) if "best" in column and there else None
        digits = int(column["digits"]) if "digits" in column else None
        texts = [
            ABSENT if value is None else shown(*place, digits=digits)
            for place, value in zip(places, means, strict=True)
        ]
        return [
            f"**{text}**" if value is not None and round(value, 4) == best else text
            for text, value in zip(texts, means, strict=True)
        ]


def lined(cells: list[list[str]]) -> str:
    """Markdown of a table whose first line is its head."""
    head, *rows = cells
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in [head, ["---"] * len(head), *rows])


@dataclass(frozen=True)
class Record:
    """A table whose cells were noted."""

    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The table as Markdown."""
        return lined([self.columns, *self.rows])


@cache
def tables() -> dict[str, Table | Record]:
    """The tables by name."""
    found = tomllib.loads((RESULTS / "tables.toml").read_text(encoding="utf-8"))
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS / "records").glob("*.json")}
    described = {name: Table(**each) for name, each in found.items()}
    return described | {name: Record(**each) for name, each in records.items()}


def filled(text: str) -> str:
    """A document with the figures of the files.

    Raises:
        KeyError: no such table, model or metric.
    """
    text = TABLE.sub(lambda m: f"<!-- figures: {m[1]} -->\n{tables()[m[1]].markdown()}<!-- end of figures -->", text)
    return FIGURE.sub(lambda m: f"<!--{m[1]} {m[2]} {m[3]}-->{shown(m[1], m[2], m[3])}<!---->", text)


def main() -> None:
    """Writes every document anew."""
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
