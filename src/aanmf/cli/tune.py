"""`aanmf tune`: settings of a model, chosen on ratings held out of the training part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from aanmf.cli.options import DEFAULT_MODEL, AsJson, ConfigFile, ModelName, Settings, Source, reads_source
from aanmf.cli.output import emit, err, facts, notice, out
from aanmf.cli.parse import one_model, read_settings

if TYPE_CHECKING:
    from aanmf.experiments.tune import Pruner, Trial
    from aanmf.experiments.tuned import Tuned


@reads_source
def tune(
    source: Source,
    model: ModelName = DEFAULT_MODEL,
    trials: Annotated[int, typer.Option("--trials", min=1, metavar="N", help="Try this many settings in all.")] = 30,
    protocol: Annotated[
        str, typer.Option("--protocol", help="Split the ratings and search on the training part of the first fold.")
    ] = "holdout:0.2",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed for splitting, search and training.")] = 0,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="Judge a trial by this metric on validation ratings.")
    ] = "rmse",
    pruner: Annotated[
        str,
        typer.Option(
            "--pruner",
            metavar="NAME",
            help="Stop trials that fall behind: halving (keep the best third after a fifth and after three fifths of "
            "the epochs), median, or none.",
        ),
    ] = "halving",
    space: Annotated[
        Path | None,
        typer.Option(
            "--space",
            metavar="FILE.toml",
            help="Search these settings instead of the model's usual ones: `l2 = { low = 1, high = 100 }`, "
            "`layers = [[32], [64, 32]]`.",
        ),
    ] = None,
    settings: Settings = None,
    config: ConfigFile = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.toml", help="Write the settings here. [default: settings/MODEL.toml]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search for good settings of a model with optuna, on validation ratings cut from the training part.

    Settings given with --set and --config are fixed, not searched. A search that was stopped is continued: every
    trial is kept in FILE.trials next to FILE.toml.
    """
    from aanmf.data.split import folds
    from aanmf.experiments.tune import tune as search
    from aanmf.models.space import read_space

    ranges = None if space is None else read_space(space)
    fixed = one_model(model, read_settings(settings or [], config))
    target = out_file or Path("settings") / f"{model}.toml"
    data = source.load()
    fold = folds(data, protocol, [seed])[0]
    train, _ = fold.of(data)
    console = err()

    def on_trial(trial: Trial) -> None:
        score, best = ("-" if value is None else f"{value:.4f}" for value in (trial.score, trial.best))
        values = ", ".join(f"{name}={value}" for name, value in trial.settings.items() if value is not None)
        line = f"{model} trial {trial.number + 1}/{trials}: {score} {trial.state}, best {best}  {values}"
        console.print(line, soft_wrap=True, markup=False)

    journal = target.with_suffix(".trials")
    found = search(
        train,
        model,
        trials,
        journal,
        fixed=fixed,
        seed=seed,
        space=ranges,
        pruner=cast("Pruner", pruner),
        metric=metric,
        on_trial=on_trial,
    )
    found.tuning["split"] = f"{fold.name}, seed {seed}"
    found.settings.update({name: value for name, value in fixed.items() if name != "seed"})
    found.write(target)
    if as_json:
        emit({"settings": found.settings, "tuning": found.tuning, "out": str(target)})
    else:
        _report(found, metric, target)
    if found.tuning["at_edge"]:
        notice(
            f"{', '.join(found.tuning['at_edge'])}: the best value lies at the edge of the search space, and a better "
            "one may lie beyond; give more trials, or a wider space with --space"
        )


def _report(found: Tuned, metric: str, target: Path) -> None:
    from aanmf.metrics import metric_of

    tuning, label = found.tuning, metric_of(metric).label
    lines = [
        ("model", tuning["model"]),
        ("trials", f"{tuning['trials']}, {tuning['pruned']} of them stopped early"),
        (f"{label}, validation", tuning[f"validation_{metric}"]),
        (f"{label} of the defaults", tuning[f"validation_{metric}_of_defaults"]),
        *((name, str(value)) for name, value in found.settings.items()),
        ("saved in", str(target)),
    ]
    out().print(facts(None, lines))
    out().print(f"Next: [bold]aanmf train SOURCE --model {tuning['model']} --config {target}[/]")
