"""`aanmf reproduce`: makes the fits, then the report out of their files: tables, figures, claims, raw runs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aanmf.errors import ConfigError
from aanmf.evaluation.runs import RunStore
from aanmf.experiments.claims import Claim
from aanmf.experiments.document import Table, to_html, to_markdown
from aanmf.experiments.jobs import dataset
from aanmf.experiments.paper import CURVES
from aanmf.experiments.plan import ITEMS, Found, Plan, profile_for
from aanmf.experiments.queue import OnProgress, run_all
from aanmf.experiments.sections import TITLE, report_blocks
from aanmf.storage import replace_file
from aanmf.versions import versions

SOURCES = ("ml-100k", "ml-1m", "synthetic")
"""Data sets of the paper's experiment."""


@dataclass(frozen=True)
class Report:
    """What a report came to.

    Attributes:
        folder: where it is: `index.html`, `report.md`, `report.json`, `figures/`, `runs/`.
        claims: each claim that could be examined.
        tables: for machines, by name.
        runs: how many fits it rests on.
    """

    folder: Path
    claims: tuple[Claim, ...]
    tables: Mapping[str, list[dict[str, Any]]]
    runs: int


def reproduce(
    sources: Sequence[str],
    out: str | Path,
    *,
    items: Collection[str] = ITEMS,
    quick: bool = False,
    splits: int | None = None,
    workers: int = 1,
    settings: Path | None = None,
    command: str = "",
    on_progress: OnProgress | None = None,
) -> Report:
    """Reruns the experiment; fits whose files are in `out/runs` are not repeated.

    Args:
        sources: data sets: `ml-100k`, `ml-1m`, `synthetic`, `synthetic:N`.
        out: folder of the report.
        items: which tables and figures.
        quick: less of everything, to see that it works.
        splits: how many, instead of the usual number.
        workers: fits at a time.
        settings: folder of tuned settings, instead of those that come with the library.
        command: what to note in the report as its origin.
        on_progress: see `run_all`.

    Raises:
        ConfigError: an unknown data set, or a model that cannot be trained as set.
        DataError: a data set cannot be read.
    """
    for source in sources:
        if source.partition(":")[0] not in SOURCES:
            raise ConfigError(f"no experiment for {source!r}. Available: {', '.join(SOURCES)}, all")
    out = Path(out)
    plans = [Plan(source, profile_for(source, quick=quick, splits=splits), items, settings) for source in sources]
    found = _make(plans, RunStore(out / "runs"), workers, on_progress)
    blocks, examined = report_blocks(found, out / "figures", command)
    made = {block.name: block.records() for block in blocks if isinstance(block, Table)}
    runs = {run.key for each in found for run in (*each.splits, *each.curves, *each.factors, *each.planted)}
    document = {
        "command": command,
        "quick": quick,
        "data": {source: dataset(source).fingerprint for source in sources},
        "versions": versions(),
        "tables": made,
        "claims": [asdict(claim) for claim in examined],
        "runs": sorted(runs),
    }
    texts = {
        "report.md": to_markdown(blocks),
        "index.html": to_html(TITLE, blocks),
        "report.json": json.dumps(document, ensure_ascii=False, indent=1),
    }
    for name, text in texts.items():
        with replace_file(out / name, "w", encoding="utf-8") as file:
            file.write(text)
    return Report(out, tuple(examined), made, len(runs))


def _make(plans: Sequence[Plan], store: RunStore, workers: int, on_progress: OnProgress | None) -> list[Found]:
    """All fits: first those that Figure 5's settings are chosen by, then everything else."""
    candidates = [plan.candidate_jobs() for plan in plans]
    fixed = [(plan.split_jobs(), plan.curve_jobs(), plan.planted_jobs()) for plan in plans]
    later = sum(len(jobs) for groups in fixed for jobs in groups)
    later += sum(len(plan.profile.factors) * len(CURVES) for plan in plans if "fig5" in plan.items)
    run_all([job for jobs in candidates for job in jobs], store, workers, on_progress, later)
    factors = [plan.factor_jobs(store.all(jobs)) for plan, jobs in zip(plans, candidates, strict=True)]
    every = [job for groups, jobs in zip(fixed, factors, strict=True) for group in (*groups, jobs) for job in group]
    run_all(every, store, workers, on_progress)
    return [
        Found(plan, store.all(splits), store.all(curves), store.all(jobs), store.all(planted))
        for plan, (splits, curves, planted), jobs in zip(plans, fixed, factors, strict=True)
    ]
