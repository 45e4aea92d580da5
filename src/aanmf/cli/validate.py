"""`aanmf evaluate` and `aanmf cross-validate`: how good a model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aanmf.cli.options import AsJson, ConfigFile, ModelFolder, Settings, Source, reads_source
from aanmf.cli.output import MODELS_IN_HELP, emit, err, notice, out, table
from aanmf.cli.parse import read_settings
from aanmf.errors import ConfigError

if TYPE_CHECKING:
    from aanmf.evaluation.cross_validate import CrossValidation, Run


@reads_source
def evaluate(folder: ModelFolder, source: Source, as_json: AsJson = False) -> None:
    """Measure a saved model on ratings that it was not trained on."""
    from aanmf.recommender import load_model

    model = load_model(folder)
    data = source.load()
    scores = model.evaluate(data)
    trained_on = model.fitted_.data.get("fingerprint") == data.fingerprint
    if trained_on:
        notice("these are the ratings that the model was trained on: the errors say little about new ones")
    if as_json:
        emit(
            {
                "model": repr(model),
                "source": data.name,
                "rmse": scores.rmse,
                "mae": scores.mae,
                "n": scores.n,
                "trained_on_these": trained_on,
            }
        )
        return
    rows = [(repr(model), scores.rmse, scores.mae, scores.n)]
    out().print(table(f"{data.name}", ("model", "RMSE", "MAE", "ratings"), rows))


@reads_source
def cross_validate(
    source: Source,
    models: Annotated[list[str], typer.Option("--model", help=f"Which models: {MODELS_IN_HELP}. Repeatable.")],
    protocol: Annotated[
        str,
        typer.Option("--protocol", help="u1, u1-u5, holdout:0.2, kfold:5, time, time:0.1, cold-user, cold-user:0.1."),
    ] = "holdout:0.2",
    seeds: Annotated[str, typer.Option("--seeds", metavar="0,1,2", help="One set of folds and of models each.")] = "0",
    settings: Settings = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Train and score models side by side on the same folds. Every test part is scored once.

    A setting is for all models, unless the name of one stands before it: --set aanmf.dropout=0.2
    """
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from aanmf.data.split import folds
    from aanmf.evaluation.cross_validate import CrossValidation
    from aanmf.evaluation.cross_validate import cross_validate as run_all

    chosen, numbers = read_settings(settings or [], config), read_seeds(seeds)
    data = source.load()
    total = len(folds(data, protocol, numbers)) * len(models)
    console, runs = err(), []
    columns = (
        TextColumn("cross-validating"),
        MofNCompleteColumn(),
        TextColumn("runs  {task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)

        def on_run(run: Run) -> None:
            runs.append(run)
            text = f"{run.model} {run.fold} seed {run.seed}: RMSE {run.rmse:.4f}"
            progress.update(task, advance=1, description=text)
            if not console.is_terminal:  # a log
                console.print(
                    f"{text}  MAE {run.mae:.4f}  {run.epochs} epochs  {run.fit_seconds:.1f} s", soft_wrap=True
                )

        try:
            found, stopped = run_all(data, models, protocol, numbers, chosen, on_run), False
        except KeyboardInterrupt:
            found, stopped = CrossValidation(tuple(runs)), True
    if as_json:
        emit(found.to_json() | ({"interrupted": True} if stopped else {}))
    elif runs:
        print_runs(found, f"{data.name}, {protocol}")
    if stopped:
        notice(f"stopped: {len(runs)} of {total} runs were made")
        raise typer.Exit(130)


def print_runs(found: CrossValidation, title: str) -> None:
    """Runs, means and differences as tables."""
    console = out()
    several = len(found.runs) > len(found.models)
    if several:
        rows = [
            (run.model, run.fold, str(run.seed), run.rmse, run.mae, run.n_test, run.epochs, f"{run.fit_seconds:.1f} s")
            for run in found.runs
        ]
        console.print(table(title, ("model", "fold", "seed", "RMSE", "MAE", "n test", "epochs", "fit"), rows))
    rows = [
        (
            each.model,
            f"{each.rmse_mean:.4f}" + (f" ± {each.rmse_std:.4f}" if several else ""),
            f"{each.mae_mean:.4f}" + (f" ± {each.mae_std:.4f}" if several else ""),
            f"{each.fit_seconds:.1f} s",
        )
        for each in found.summary
    ]
    heading = f"Mean ± standard deviation over {len(found.runs) // len(found.models)} runs" if several else title
    console.print(table(heading, ("model", "RMSE", "MAE", "fit"), rows))
    rows = [
        (f"{each.model} - {each.other}", f"{each.difference:+.4f}", f"{each.p_value:.3g}", each.folds)
        for each in found.comparisons
    ]
    if rows:
        names = ("RMSE of", "difference", "p (paired t-test)", "folds")
        console.print(table("Differences on the same folds (below 0: the first is better)", names, rows))


def read_seeds(text: str) -> list[int]:
    """`0,1,2` as numbers.

    Raises:
        ConfigError: something in it is not a whole number from 0, or stands there twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--seeds {text}: write whole numbers with commas between, for instance 0,1,2")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: a seed is there twice, and would give the same runs twice")
    return seeds
