"""Fills the figures of README.md and docs/*.md from the JSON files in docs/results/figures.

    aanmf cross-validate ml-100k --protocol holdout:0.2 --seeds 0,1,2,3,4 --model mf --model aanmf --json \
        > docs/results/figures/ml-100k-holdout.json
    python benchmarks/figures.py

A figure stands between two comments, `<!--FILE MODEL METRIC-->0.9110<!---->`: the mean of `METRIC` over the runs of
`MODEL` in `FILE.json`, and after `METRIC±` its standard deviation too. A test holds that documents and files agree.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "results" / "figures"
FIGURE = re.compile(r"<!--(\S+) (\S+) ([\w@]+)(±?)-->(.*?)<!---->")


def pages() -> list[Path]:
    """The documents that may hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def figure(file: str, model: str, metric: str, deviates: bool) -> str:
    """A figure as documents show it.

    Raises:
        KeyError: no such model or metric in the file.
    """
    summary = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))["summary"]
    row = next((row for row in summary if row["model"] == model), None)
    if row is None:
        raise KeyError(f"{file}.json has no model {model}")
    mean, deviation = row[f"{metric}_mean"], row[f"{metric}_std"]
    digits = 0 if abs(mean) >= 10 else 4
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}" if deviates else f"{mean:.{digits}f}"


def filled(text: str) -> str:
    """A document with the figures of the files."""
    return FIGURE.sub(lambda m: f"<!--{m[1]} {m[2]} {m[3]}{m[4]}-->{figure(m[1], m[2], m[3], bool(m[4]))}<!---->", text)


def main() -> None:
    """Writes every document anew."""
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
