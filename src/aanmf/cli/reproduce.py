"""`aanmf reproduce`: the paper's tables, figures and claims, rerun."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aanmf.cli.options import AsJson
from aanmf.cli.output import emit, err, notice, out, progress, table

if TYPE_CHECKING:
    from aanmf.experiments.queue import Progress
    from aanmf.experiments.report import Report


def reproduce(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Choose the data: ml-100k, ml-1m, synthetic, or all of them (all).")
    ],
    out_folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Write the report here.")] = Path("report"),
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="ITEMS",
            help="Make only these, separated by commas: table1, ..., table5, fig4, ..., fig7.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Use fewer splits, epochs and factors: takes minutes; results are unreliable."),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", metavar="N", help="Use N random splits, seeds 0 to N - 1. [default: 10, ML-1M: 3]"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, metavar="N", help="Fit this many models at a time. [default: one per core, at most 8]"
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", metavar="DIR", help="Read tuned settings from DIR/SOURCE/MODEL.toml.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rerun the paper's whole experiment: a report with its tables, plots, and a verdict on each claim.

    Writes index.html, report.md, report.json, figures/ and runs/ (a JSON file per fit). A report that was stopped is
    continued: finished fits are not repeated.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    from aanmf.experiments.plan import read_items
    from aanmf.experiments.report import SOURCES
    from aanmf.experiments.report import reproduce as rerun

    items = read_items(only)
    workers = jobs or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    console = err()
    columns = MofNCompleteColumn(), TextColumn("fits"), BarColumn(bar_width=12), TimeElapsedColumn()
    with progress(*columns, TextColumn("{task.fields[left]}"), TextColumn("[dim]{task.description}")) as bar:
        task = bar.add_task("planning", total=None, left="")

        def on_progress(state: Progress) -> None:
            total, left = state.done + len(state.running) + state.to_come, _left(state.seconds_left)
            running = f"running: {'; '.join(state.running) or 'drawing'}; to come: {state.to_come}"
            bar.update(task, completed=state.done, total=total, description=running, left=left)
            if (run := state.last) and not console.is_terminal:  # a log
                error = run.scores.get("rmse", run.validation_rmse)
                text = f"{state.done}/{total} {run.label}: {f'RMSE {error:.4f}' if error else 'done'}"
                console.print(f"{text}, {run.fit_seconds:.0f} s; {left}", soft_wrap=True, markup=False)

        try:
            report = rerun(
                list(SOURCES) if source == "all" else [source],
                out_folder,
                items=items,
                quick=quick,
                splits=seeds,
                workers=workers,
                settings=settings,
                command="aanmf " + shlex.join(sys.argv[1:]) if sys.argv[1:2] == ["reproduce"] else "",
                on_progress=on_progress,
            )
        except KeyboardInterrupt:
            notice(f"stopped; finished fits are in {out_folder / 'runs'}: run the same command again to continue")
            raise typer.Exit(130) from None
    _report(report, as_json)


def _report(report: Report, as_json: bool) -> None:
    if as_json:
        claims = [asdict(claim) for claim in report.claims]
        emit({"out": str(report.folder), "runs": report.runs, "tables": dict(report.tables), "claims": claims})
        return
    rows = [(claim.question, claim.claim, claim.data, claim.verdict, claim.found) for claim in report.claims]
    out().print(table("The paper's claims", ("", "the paper says", "on", "verdict", "we found"), rows))
    parts = f"[bold]{report.folder / 'index.html'}[/], report.md, figures/, runs/ ({report.runs} fits)"
    out().print(parts, soft_wrap=True)


def _left(seconds: float | None) -> str:
    return "time left: not known yet" if seconds is None else f"about {timedelta(seconds=round(seconds))} left"
