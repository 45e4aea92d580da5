"""`aanmf train`: from ratings to a model folder."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import AsJson, ConfigFile, Settings, Source, reads_source
from aanmf.cli.output import MODELS_IN_HELP, emit, epochs, facts, notice, out
from aanmf.cli.parse import one_model, read_settings

if TYPE_CHECKING:
    from aanmf.recommender import Recommender


@reads_source
def train(
    source: Source,
    model: Annotated[str, typer.Option("--model", help=f"Which model: {MODELS_IN_HELP}.")] = "aanmf",
    settings: Settings = None,
    config: ConfigFile = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the model goes; an older model there is replaced."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Same seed, same model. [default: 0]")] = None,
    as_json: AsJson = False,
) -> None:
    """Learn a model from ratings. Ctrl-C keeps what was learned so far (with --out)."""
    from aanmf.registry import make_model

    chosen = one_model(model, read_settings(settings or [], config))
    untrained = make_model(model, **(chosen if seed is None else {**chosen, "seed": seed}))
    check_target(out_folder)
    data = source.load()
    start, interrupted = time.perf_counter(), False
    try:
        with epochs(model) as on_epoch:
            untrained.fit(data, on_epoch=on_epoch)
    except KeyboardInterrupt:
        interrupted = True
        if not untrained.is_fitted or not untrained.fitted_.history.epochs:
            notice("stopped before the first epoch was done: nothing was learned, nothing is saved")
            raise
    found = figures(untrained, time.perf_counter() - start) | {"interrupted": interrupted, "out": None}
    if out_folder:
        untrained.save(out_folder)
        found["out"] = str(out_folder)
    _report(found, as_json)
    if interrupted:
        where = f"what was learned so far is in {out_folder}" if out_folder else "give --out to keep what was learned"
        notice(f"training was stopped; {where}")
        raise typer.Exit(130)


def check_target(folder: Path | None) -> None:
    """Finds out before training that a model cannot be saved there.

    Raises:
        ModelFolderError: something that is not a model stands there.
    """
    from aanmf.errors import ModelFolderError
    from aanmf.storage import MANIFEST

    if folder is None or not folder.exists() or (folder / MANIFEST).is_file():
        return
    if folder.is_file() or any(folder.iterdir()):
        raise ModelFolderError(f"{folder} exists and is not a model folder: choose another one, or remove it")


def figures(model: Recommender, seconds: float) -> dict[str, Any]:
    """What a fit came to, as plain values."""
    fitted = model.fitted_
    history = fitted.history
    valid = [epoch.valid_mse for epoch in history.epochs if epoch.valid_mse is not None]
    return {
        "model": repr(model),
        "ratings": len(fitted.context.train),
        "users": fitted.context.n_users,
        "items": fitted.context.n_items,
        "attributes": fitted.user_encoder.names,
        "epochs": history.best_epoch,
        "train_rmse": math.sqrt(history.epochs[-1].train_mse),
        "validation_rmse": math.sqrt(min(valid)) if valid else None,
        "fit_seconds": seconds,
        "parameters": sum(each.numel() for each in model.module_.parameters()),
    }


def _report(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    lines = [
        ("model", found["model"]),
        (
            "learned from",
            f"{found['ratings']:,} ratings of {found['items']:,} items by {found['users']:,} users",
        ),
        ("user attributes", ", ".join(found["attributes"]) or "none"),
        ("epochs", found["epochs"]),
        ("RMSE, training", found["train_rmse"]),
        ("RMSE, validation", found["validation_rmse"]),
        ("time", f"{found['fit_seconds']:.1f} s"),
        ("saved in", found["out"] or "nowhere: give --out DIR to keep it"),
    ]
    out().print(facts(None, lines))
    if found["out"]:
        out().print(f"Next: [bold]aanmf recommend {found['out']} --user USER[/]")
