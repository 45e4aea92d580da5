"""`aanmf reproduce`: the paper's tables, figures and claims, rerun."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aanmf.cli.options import AsJson
from aanmf.cli.output import emit, err, notice, out, table

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from aanmf.experiments.queue import Progress
    from aanmf.experiments.report import Report


def reproduce(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="ml-100k, ml-1m, synthetic, or all of them: all.")],
    out_folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")] = Path("report"),
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="ITEMS", help="table1, ..., table5, fig4, ..., fig7; several with commas."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer splits, epochs and factors: minutes, and figures not to rely on.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", help="Splits, seeds 0 to N - 1. [default: 10, ML-1M: 3]")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Fits at a time. [default: one per core, at most 8]"),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="DIR", help="Tuned settings, DIR/SOURCE/MODEL.toml. [default: those shipped]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rerun the paper's whole experiment: report with tables, figures, and what became of each claim.

    Writes index.html, report.md, report.json, figures/ and runs/ (a JSON file per fit). A stopped report goes on where
    it was: finished fits are not repeated.
    """
    from aanmf.experiments.plan import read_items
    from aanmf.experiments.report import SOURCES
    from aanmf.experiments.report import reproduce as rerun

    items = read_items(only)
    workers = jobs or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    console = err()
    with _bar() as bar:
        task = bar.add_task("planning", total=None, left="")

        def on_progress(progress: Progress) -> None:
            _show(bar, task, progress)
            run = progress.last
            if run and not console.is_terminal:  # a log
                done, total = progress.done, progress.done + len(progress.running) + progress.to_come
                error = run.rmse or run.validation_rmse
                text = (
                    f"{done}/{total} {run.job.label}: {f'RMSE {error:.4f}' if error else 'done'}, {run.seconds:.0f} s"
                )
                console.print(f"{text}; {_left(progress.seconds_left)}", soft_wrap=True, markup=False)

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
            notice(f"stopped; finished fits are in {out_folder / 'runs'}: the same command goes on from there")
            raise typer.Exit(130) from None
    _report(report, as_json)


def _report(report: Report, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "out": str(report.folder),
                "runs": report.runs,
                "tables": dict(report.tables),
                "claims": [claim.to_json() for claim in report.claims],
            }
        )
        return
    rows = [(claim.question, claim.claim, claim.data, claim.verdict, claim.found) for claim in report.claims]
    out().print(table("The paper's claims", ("", "the paper says", "on", "verdict", "we found"), rows))
    out().print(
        f"[bold]{report.folder / 'index.html'}[/], report.md, figures/, runs/ ({report.runs} fits)", soft_wrap=True
    )


def _bar() -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = err()
    columns = (
        MofNCompleteColumn(),
        TextColumn("fits"),
        BarColumn(bar_width=12),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("[dim]{task.description}"),
    )
    return Bar(*columns, console=console, transient=True, disable=not console.is_terminal)


def _show(bar: Bar, task: TaskID, progress: Progress) -> None:
    running = "; ".join(progress.running) or "drawing"
    bar.update(
        task,
        completed=progress.done,
        total=progress.done + len(progress.running) + progress.to_come,
        description=f"running: {running}; to come: {progress.to_come}",
        left=_left(progress.seconds_left),
    )


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "time left: not known yet"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"about {hours}:{minutes:02}:{rest:02} left"
