"""`aanmf train`: from ratings to a model folder."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import AsJson, ConfigFile, Settings, Source, reads_source
from aanmf.cli.output import MODELS_IN_HELP, emit, epochs, facts, notice, out
from aanmf.cli.parse import one_model, read_settings

if TYPE_CHECKING:
    from aanmf.data.dataset import RatingDataset
    from aanmf.data.stream import StreamedDataset
    from aanmf.recommender import Recommender
    from aanmf.training.checkpoint import Checkpoints
    from aanmf.training.distributed import Ranks

_LONG = "Long trainings"


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
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            "--checkpoint-every",
            metavar="WHEN",
            help="Write checkpoints into DIR.training: after each epoch (epoch), so many steps (500), or a time "
            "(30s, 10m).",
            rich_help_panel=_LONG,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the last checkpoint in DIR.training, if there is one; writes more, after each epoch if "
            "--checkpoint-every does not say otherwise.",
            rich_help_panel=_LONG,
        ),
    ] = False,
    spread_rows: Annotated[
        int | None,
        typer.Option(
            "--spread-rows",
            min=1,
            metavar="N",
            help="Under torchrun: tables of at least N users are spread over the processes.",
            rich_help_panel=_LONG,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learn a model from ratings. Ctrl-C keeps what was learned so far (with --out).

    Started by torchrun, all processes train one model together.
    """
    from aanmf.recommender import make_model
    from aanmf.training.distributed import joined

    chosen = one_model(model, read_settings(settings or [], config))
    untrained = make_model(model, **(chosen if seed is None else {**chosen, "seed": seed}))
    check_target(out_folder)
    checkpoints = _checkpoints(out_folder, checkpoint_every, resume)
    with joined() as ranks, _workplace(out_folder) as place:
        data = _load(source, untrained, place, ranks)
        start, interrupted = time.perf_counter(), False
        try:
            with epochs(model, shown=ranks.first) as on_epoch:
                untrained.fit(data, on_epoch=on_epoch, checkpoints=checkpoints, shard_rows=spread_rows)
        except KeyboardInterrupt:
            interrupted = True
            if not untrained.is_fitted or not untrained.fitted_.training_log.epochs:
                notice("stopped before the first epoch was done: nothing was learned, nothing is saved")
                raise
        seconds = time.perf_counter() - start
        if ranks.first:
            _finish(untrained, out_folder, checkpoints, seconds, interrupted, as_json)
            if not interrupted:  # nothing there is of more use
                shutil.rmtree(place, ignore_errors=True)
        ranks.wait()
    if interrupted:
        where = f"what was learned so far is in {out_folder}" if out_folder else "give --out to keep what was learned"
        notice(f"training was stopped; {where}")
        raise typer.Exit(130)


def _checkpoints(folder: Path | None, every: str | None, resume: bool) -> Checkpoints | None:
    """Where checkpoints go, if any are wanted.

    Raises:
        ConfigError: no --out, which tells where.
    """
    from aanmf.errors import ConfigError
    from aanmf.training.checkpoint import Checkpoints

    if every is None and not resume:
        return None
    if folder is None:
        raise ConfigError("--checkpoint-every and --resume need --out DIR: checkpoints go into DIR.training")
    return Checkpoints(_beside(folder) / "checkpoints", every or "epoch", resume=resume)


def _beside(folder: Path) -> Path:
    """Where things lie while a model is trained."""
    return folder.with_name(f"{folder.name}.training")


@contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    """DIR.training beside the model; without --out, a folder that is gone in the end."""
    if folder is not None:
        yield _beside(folder)
        return
    with tempfile.TemporaryDirectory(prefix="aanmf-") as place:
        yield Path(place)


def _load(source: Source, model: Recommender, place: Path, ranks: Ranks) -> RatingDataset | StreamedDataset:
    """Reads the ratings, or prepares them to be read from disk: the first process does, for all."""
    from aanmf.data.stream import is_sharded

    if not is_sharded(source.source):
        return source.load()
    if not model.spec.streams:
        notice(f"{model.spec.name} looks at other ratings beside the one to predict: all are read into memory")
        return source.load()
    prepared = source.stream(place / "data") if ranks.first else None
    ranks.wait()
    return prepared or source.stream(place / "data")


def _finish(
    model: Recommender,
    folder: Path | None,
    checkpoints: Checkpoints | None,
    seconds: float,
    interrupted: bool,
    as_json: bool,
) -> None:
    """Saves and reports."""
    found = figures(model, seconds) | {"interrupted": interrupted, "out": None, "resumed_from": None}
    if checkpoints and checkpoints.started_from:
        found["resumed_from"] = str(checkpoints.started_from)
    if folder:
        model.save(folder)
        found["out"] = str(folder)
    _report(found, as_json)


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
    history = fitted.training_log
    valid = [epoch.valid_mse for epoch in history.epochs if epoch.valid_mse is not None]
    return {
        "model": repr(model),
        "ratings": len(fitted.training.train),
        "users": fitted.training.n_users,
        "items": fitted.training.n_items,
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
        ("learned from", f"{found['ratings']:,} ratings of {found['items']:,} items by {found['users']:,} users"),
        ("user attributes", ", ".join(found["attributes"]) or "none"),
        ("epochs", found["epochs"]),
        ("RMSE, training", found["train_rmse"]),
        ("RMSE, validation", found["validation_rmse"]),
        *([("went on from", found["resumed_from"])] if found["resumed_from"] else []),
        ("time", f"{found['fit_seconds']:.1f} s"),
        ("saved in", found["out"] or "nowhere: give --out DIR to keep it"),
    ]
    out().print(facts(None, lines))
    if found["out"]:
        out().print(f"Next: [bold]aanmf recommend {found['out']} --user USER[/]")
