"""`aanmf evaluate` and `aanmf cross-validate`: how good a model is."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Annotated

import typer

from aanmf.cli.options import DEFAULT_MODEL, AsJson, ConfigFile, ModelFolder, RankBy, Settings, Source, reads_source
from aanmf.cli.output import cell, emit, err, fits, notice, out, progress, table
from aanmf.cli.parse import read_settings
from aanmf.errors import ConfigError
from aanmf.models.catalog import CATALOG

Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAME,...",
        help="Report these metrics: rmse, mae; for lists of 10: ndcg@10, recall@10, precision@10, hit@10, ...",
    ),
]
Relevant = Annotated[
    float | None,
    typer.Option(
        "--relevant", metavar="R", help="Count items rated R or higher as relevant. [default: above the mean]"
    ),
]

GroupBy = Annotated[
    str | None,
    typer.Option("--group-by", metavar="NAME", help="Report the metrics for each value of this user attribute, too."),
]

if TYPE_CHECKING:
    from rich.console import RenderableType

    from aanmf.evaluation.cross_validate import CrossValidation
    from aanmf.evaluation.runs import Run


@reads_source
def evaluate(
    folder: ModelFolder,
    source: Source,
    metrics: Metrics = None,
    relevant: Relevant = None,
    rank_by: RankBy = None,
    group_by: GroupBy = None,
    as_json: AsJson = False,
) -> None:
    """Measure a saved model on ratings that it was not trained on, and compare it with two simple models.

    Under torchrun, all processes measure together.
    """
    from aanmf.data.report import notices_of
    from aanmf.evaluation.baselines import fitted_baselines, headline_metrics
    from aanmf.recommender import load_model
    from aanmf.training.distributed import apart, joined

    with joined() as ranks:
        model = load_model(folder)
        data, training = source.load(), model.fitted_.training_ratings()
        asked = split_names(metrics) or headline_metrics(training or data, data)
        scores = model.evaluate(data, asked, relevant=relevant, rank_by=rank_by, group_by=group_by, ranks=ranks)
        with apart():
            beside = [each for each in fitted_baselines(training) if each.spec is not model.spec] if training else []
        others = [
            {"model": each.spec.name, **each.evaluate(data, asked, relevant=relevant, ranks=ranks)} for each in beside
        ]
    trained_on = model.fitted_.data.get("fingerprint") == data.fingerprint
    if trained_on:
        notice("the model was trained on these ratings: its scores say nothing about new ones")
    if as_json:
        groups = [{group_by: value, **found} for value, found in scores.groups.items()] if group_by else None
        found = {
            "model": repr(model),
            "source": data.name,
            **scores,
            "baselines": others,
            "trained_on_these": trained_on,
            "notices": notices_of(data.notices, data.users, data.items),
        }
        emit(found | ({} if groups is None else {"groups": groups}))
        return
    out().print(scores_table(data.name, [{"model": repr(model), **scores}, *others]))
    if group_by:
        rows = [(value, *found.values()) for value, found in scores.groups.items()]
        out().print(table(f"By {group_by}", (group_by, *labels_of(scores)), rows))


@reads_source
def cross_validate(
    source: Source,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help=f"Choose models: {', '.join(CATALOG)}. Repeatable. [default: {DEFAULT_MODEL}]",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="Split by u1, u1-u5, holdout:0.2, kfold:5, time:0.1, time-global:0.2, cold-item:0.1, cold-user:0.1 "
            "or cold-user:0.1+5: new users who tell five ratings after training.",
        ),
    ] = "holdout:0.2",
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="0,1,2", help="Repeat everything once per seed, with other folds.")
    ] = "0",
    metrics: Metrics = None,
    relevant: Relevant = None,
    rank_by: RankBy = None,
    group_by: GroupBy = None,
    settings: Settings = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Train and score models side by side on the same folds. Every test part is scored once.

    Under torchrun, the runs are divided among the processes.

    A setting applies to all models, unless the name of one precedes it: --set aanmf.dropout=0.2
    """
    from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn

    from aanmf.evaluation.cross_validate import CrossValidation
    from aanmf.evaluation.cross_validate import cross_validate as run_all
    from aanmf.training.distributed import joined

    chosen, numbers = read_settings(settings or [], config), read_seeds(seeds)
    data = source.load()
    console, total = err(), 0
    runs: list[Run] = []
    text = TextColumn("cross-validating"), MofNCompleteColumn(), TextColumn("runs  {task.description}")
    with joined() as ranks, progress(*text, TimeElapsedColumn(), shown=ranks.first) as bar:
        task = bar.add_task("", total=None)

        def on_start(number: int) -> None:
            nonlocal total
            total = number
            bar.update(task, total=number)

        def on_run(run: Run) -> None:
            runs.append(run)
            scores = zip(labels_of(run.scores), run.scores.values(), strict=True)
            shown = "  ".join(f"{label} {cell(value)}" for label, value in scores)
            line = f"{run.model} {run.fold} seed {run.seed}: {shown}"
            bar.update(task, advance=1, description=line)
            if not console.is_terminal:  # a log
                console.print(f"{line}  {run.epochs} epochs  {_seconds(run.fit_seconds)}", soft_wrap=True)

        stopped = False
        try:
            of_lists = {"metrics": split_names(metrics), "relevant": relevant, "rank_by": rank_by, "group_by": group_by}
            given = (data, models or [DEFAULT_MODEL], protocol, numbers, chosen, on_run)
            found = run_all(*given, on_start=on_start, ranks=ranks, **of_lists)
        except KeyboardInterrupt:
            found, stopped = CrossValidation(tuple(runs)), True
    if as_json:
        emit(found.to_json() | ({"interrupted": True} if stopped else {}))
    elif found.runs:
        print_runs(found, f"{data.name}, {protocol}")
        if group_by:
            print_groups(found, group_by)
    if stopped:
        notice(f"stopped: {len(runs)} of {total} runs were made")
        raise typer.Exit(130)


def print_runs(found: CrossValidation, title: str) -> None:
    """Runs (where the table fits), means and differences as tables."""
    console, labels, names = out(), labels_of(found.metrics), found.metrics
    several = len(found.runs) > len(found.models)
    if several:
        made = _runs_table(found, title)
        if fits(made):
            console.print(made)
        title = f"{title}: mean ± standard deviation over {len(found.runs) // len(found.models)} runs"
    rows = []
    for summary in found.summary:
        values = [(summary.scores[f"{name}_mean"], summary.scores[f"{name}_std"]) for name in names]
        means = [f"{cell(mean)} ± {std:.4f}" if several and std is not None else cell(mean) for mean, std in values]
        rows.append((summary.model, *means, _seconds(summary.fit_seconds)))
    console.print(_either_way(title, ("model", *labels, "fit"), rows))
    rows = [
        (label, f"{each.model} - {each.other}", f"{each.difference:+.4f}", f"{each.p_value:.3g}", each.folds)
        for each in found.comparisons
        for label in labels_of([each.metric])
    ]
    if rows:
        names = ("", "models", "difference", "p (paired t-test)", "folds")
        console.print(table("Differences on the same folds: the first model minus the second", names, rows))


def _runs_table(found: CrossValidation, title: str) -> RenderableType:
    """A row per run, without what is the same in all of them."""
    counted = "users" if "n_users" in found.runs[0].scores else "n test"
    labels = labels_of(found.metrics)
    split = ("fold", "seed", counted, "epochs")
    splits = [(run.fold, str(run.seed), run.scores.get("n_users", run.n_test), run.epochs) for run in found.runs]
    differs = [len(set(column)) > 1 for column in zip(*splits, strict=True)]
    rows = [
        (
            run.model,
            *compress(values, differs),
            *(run.scores[name] for name in found.metrics),
            _seconds(run.fit_seconds),
        )
        for run, values in zip(found.runs, splits, strict=True)
    ]
    return table(title, ("model", *compress(split, differs), *labels, "fit"), rows)


def print_groups(found: CrossValidation, group_by: str) -> None:
    """The mean over runs of every metric, for each model and group."""
    names, rows = found.metrics, list[tuple[object, ...]]()
    for model, group in dict.fromkeys((row["model"], row["group"]) for row in found.groups):
        own = [row for row in found.groups if (row["model"], row["group"]) == (model, group)]
        values = [[row[name] for row in own if row.get(name) is not None] for name in names]
        means = (statistics.fmean(each) if each else None for each in values)
        users = round(statistics.fmean(row.get("n_users", row["n"]) for row in own))
        rows.append((f"{model}, {group}", *map(cell, means), f"{users:,}"))
    counted = "users" if any("n_users" in row for row in found.groups) else "ratings"
    out().print(_either_way(f"By {group_by}", ("", *labels_of(names), counted), rows))


def _either_way(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType:
    """A table with a row per model; where that is too wide for the console, with a column per model."""
    made = table(title, columns, rows)
    if fits(made):
        return made
    (_, *models), *values = zip(columns, *rows, strict=True)
    return table(title, ("", *models), values)


def scores_table(title: str, rows: Sequence[Mapping[str, object]]) -> RenderableType:
    """A row per model: its name, and its scores by metric."""
    return table(
        title, ("model", *labels_of(name for name in rows[0] if name != "model")), [(*row.values(),) for row in rows]
    )


def labels_of(metrics: Iterable[str]) -> list[str]:
    """How tables name metrics."""
    from aanmf.metrics import label_of

    return [label_of(name) for name in metrics]


def split_names(text: str | None) -> list[str] | None:
    """`rmse,ndcg@10` as names."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"


def read_seeds(text: str) -> list[int]:
    """`0,1,2` as numbers.

    Raises:
        ConfigError: something in it is not a whole number from 0, or a duplicate.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--seeds {text}: write whole numbers separated by commas, for instance 0,1,2")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: a duplicate seed would give the same runs again")
    return seeds
