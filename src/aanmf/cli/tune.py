"""`aanmf tune`: settings of a model, chosen on ratings held out of the training part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aanmf.cli.options import AsJson, ConfigFile, Settings, Source, reads_source
from aanmf.cli.output import MODELS_IN_HELP, emit, err, facts, notice, out
from aanmf.cli.parse import one_model, read_settings

if TYPE_CHECKING:
    from aanmf.experiments.tune import Trial
    from aanmf.experiments.tuned import Tuned


@reads_source
def tune(
    source: Source,
    model: Annotated[str, typer.Option("--model", help=f"Which model: {MODELS_IN_HELP}.")] = "aanmf",
    trials: Annotated[int, typer.Option("--trials", min=1, metavar="N", help="How many settings to try in all.")] = 30,
    protocol: Annotated[
        str, typer.Option("--protocol", help="Only the training part of this split is read.")
    ] = "holdout:0.2",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split, the search and the models.")] = 0,
    settings: Settings = None,
    config: ConfigFile = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.toml", help="Where the settings go. [default: settings/MODEL.toml]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search settings for a model with optuna, on validation ratings cut from the training part.

    --set and --config fix settings that are then not searched. A search that was stopped goes on where it was: every
    trial is kept in FILE.trials beside FILE.toml.
    """
    from aanmf.data.split import folds
    from aanmf.experiments.tune import tune as search

    fixed = one_model(model, read_settings(settings or [], config))
    target = out_file or Path("settings") / f"{model}.toml"
    data = source.load()
    fold = folds(data, protocol, [seed])[0]
    train, _ = fold.of(data)
    console = err()

    def on_trial(trial: Trial) -> None:
        rmse = "-" if trial.rmse is None else f"{trial.rmse:.4f}"
        best = "-" if trial.best is None else f"{trial.best:.4f}"
        values = ", ".join(f"{name}={value:g}" for name, value in trial.settings.items())
        line = f"{model} trial {trial.number + 1}/{trials}: {rmse} {trial.state}, best {best}  {values}"
        console.print(line, soft_wrap=True, markup=False)

    journal = target.with_suffix(".trials")
    found = search(train, model, trials, journal, fixed=fixed, seed=seed, on_trial=on_trial)
    found.tuning["split"] = f"{fold.name}, seed {seed}"
    kept = {name: value for name, value in fixed.items() if name != "seed"}
    found.settings.update(kept)
    found.write(target)
    _report(found, target, as_json)


def _report(found: Tuned, target: Path, as_json: bool) -> None:
    tuning = found.tuning
    if as_json:
        emit({"settings": found.settings, "tuning": tuning, "out": str(target)})
    else:
        lines = [
            ("model", tuning["model"]),
            ("trials", f"{tuning['trials']}, {tuning['pruned']} of them given up early"),
            ("RMSE, validation", tuning["validation_rmse"]),
            ("RMSE of the defaults", tuning["validation_rmse_of_defaults"]),
            *((name, str(value)) for name, value in found.settings.items()),
            ("saved in", str(target)),
        ]
        out().print(facts(None, lines))
        out().print(f"Next: [bold]aanmf train SOURCE --model {tuning['model']} --config {target}[/]")
    if tuning["at_edge"]:
        notice(
            f"{', '.join(tuning['at_edge'])}: the best value lies at the edge of the search space, and a better one "
            "may lie beyond; widen the space in aanmf/experiments/spaces.py, or give more trials"
        )
