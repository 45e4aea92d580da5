"""`aanmf train`: from ratings to a model folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import AsJson, ConfigFile, ModelName, Settings, Source, reads_source
from aanmf.cli.output import emit, epochs, facts, notice, out
from aanmf.cli.parse import one_model, read_settings
from aanmf.errors import ConfigError
from aanmf.storage import check_target

if TYPE_CHECKING:
    from aanmf.data.dataset import RatingDataset
    from aanmf.data.stream import StreamedDataset
    from aanmf.recommender import Recommender
    from aanmf.training.distributed import Ranks

_LONG = "Long trainings"


@reads_source
def train(
    source: Source,
    model: ModelName = "aanmf",
    settings: Settings = None,
    config: ConfigFile = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Save the model here; an older model there is replaced.")
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
            help="Resume from the last checkpoint in DIR.training, if there is one, and write more: after each epoch "
            "unless --checkpoint-every is given.",
            rich_help_panel=_LONG,
        ),
    ] = False,
    spread_rows: Annotated[
        int | None,
        typer.Option(
            "--spread-rows",
            min=1,
            metavar="N",
            help="Under torchrun: divide tables of at least N users among the processes.",
            rich_help_panel=_LONG,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on ratings. Ctrl-C saves what was learned so far (with --out).

    Under torchrun, all processes train one model together.
    """
    from aanmf.recommender import make_model
    from aanmf.training.checkpoint import Checkpoints
    from aanmf.training.distributed import joined

    chosen = one_model(model, read_settings(settings or [], config))
    untrained = make_model(model, **(chosen if seed is None else {**chosen, "seed": seed}))
    if out_folder is not None:
        check_target(out_folder)
    wanted = resume or checkpoint_every is not None
    if wanted and out_folder is None:
        raise ConfigError("--checkpoint-every and --resume need --out DIR: checkpoints go into DIR.training")
    with joined() as ranks, _training_folder(out_folder) as place:
        every = checkpoint_every or "epoch"
        checkpoints = Checkpoints(place / "checkpoints", every, resume=resume) if wanted else None
        data = _load(source, untrained, place, ranks)
        start, interrupted = time.perf_counter(), False
        try:
            with epochs(model, shown=ranks.first) as on_epoch:
                untrained.fit(data, on_epoch=on_epoch, checkpoints=checkpoints, shard_rows=spread_rows)
        except KeyboardInterrupt:
            interrupted = True
            if not untrained.is_fitted or not untrained.fitted_.training_log.epochs:
                notice("stopped before the first epoch was done: nothing was saved")
                raise
        seconds = time.perf_counter() - start
        if ranks.first:
            found = figures(untrained, seconds) | {"interrupted": interrupted, "out": None, "resumed_from": None}
            if checkpoints and checkpoints.started_from:
                found["resumed_from"] = str(checkpoints.started_from)
            if out_folder:
                untrained.save(out_folder)
                found["out"] = str(out_folder)
            _report(found, as_json)
            if not interrupted:  # checkpoints are no longer needed
                shutil.rmtree(place, ignore_errors=True)
        ranks.wait()
    if interrupted:
        where = f"what was learned so far is in {out_folder}" if out_folder else "give --out to keep what was learned"
        notice(f"training was stopped; {where}")
        raise typer.Exit(130)


@contextmanager
def _training_folder(folder: Path | None) -> Iterator[Path]:
    """For checkpoints and prepared ratings: DIR.training next to the model; without --out, a temporary folder."""
    if folder is not None:
        yield folder.with_name(f"{folder.name}.training")
        return
    with tempfile.TemporaryDirectory(prefix="aanmf-") as place:
        yield Path(place)


def _load(source: Source, model: Recommender, place: Path, ranks: Ranks) -> RatingDataset | StreamedDataset:
    """Reads the ratings, or prepares them to be read from disk: the first process prepares them for all."""
    from aanmf.data.stream import is_sharded

    if not is_sharded(source.source):
        return source.load()
    if not model.spec.streams:
        notice(f"{model.spec.name} cannot read ratings from disk during training: all are read into memory")
        return source.load()
    prepared = source.stream(place / "data") if ranks.first else None
    ranks.wait()
    return prepared or source.stream(place / "data")


def figures(model: Recommender, seconds: float) -> dict[str, Any]:
    """Summary of a fit, as JSON has it."""
    fitted, log = model.fitted_, model.fitted_.training_log
    return {
        "model": repr(model),
        "ratings": len(fitted.training.train),
        "has_ratings": fitted.training.has_ratings,
        "users": fitted.training.n_users,
        "items": fitted.training.n_items,
        "attributes": fitted.users.encoder.names,
        "chosen": model.chosen_,
        "epochs": log.best_epoch,
        "train_rmse": log.train_rmse,
        "validation_rmse": log.validation_rmse,
        "fit_seconds": seconds,
        "parameters": sum(each.numel() for each in model.module_.parameters()),
    }


def _report(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    chosen, rows = found["chosen"], "ratings" if found["has_ratings"] else "choices (there is no rating column)"
    lines = [
        ("model", found["model"]),
        *([("chosen by fit", ", ".join(f"{name}={value}" for name, value in chosen.items()))] if chosen else []),
        ("learned from", f"{found['ratings']:,} {rows} of {found['items']:,} items by {found['users']:,} users"),
        ("user attributes", ", ".join(found["attributes"]) or "none"),
        *([("epochs", found["epochs"]), ("RMSE, training", found["train_rmse"])] if found["epochs"] else []),
        *([("RMSE, validation", found["validation_rmse"])] if found["epochs"] else []),
        *([("resumed from", found["resumed_from"])] if found["resumed_from"] else []),
        ("time", f"{found['fit_seconds']:.1f} s"),
        ("saved in", found["out"] or "nowhere: give --out DIR to keep it"),
    ]
    out().print(facts(None, lines))
    if found["out"]:
        out().print(f"Next: [bold]aanmf recommend {found['out']} --user USER[/]")
