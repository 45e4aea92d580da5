"""`aanmf train`: from ratings to a model folder."""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import DEFAULT_MODEL, AsJson, ConfigFile, ModelName, Settings, Source, reads_source
from aanmf.cli.output import cell, emit, facts, notice, out, program
from aanmf.cli.parse import one_model, read_settings
from aanmf.cli.validate import scores_table
from aanmf.errors import ConfigError
from aanmf.locks import locked
from aanmf.storage import check_target

if TYPE_CHECKING:
    from aanmf.data.dataset import RatingDataset
    from aanmf.data.stream import StreamedDataset
    from aanmf.recommender import Recommender
    from aanmf.training.distributed import Ranks

_LONG = "Long trainings"
TEST_SHARE, FEWEST_TEST_RATINGS = 0.1, 10
"""What is held out to measure a model, and how many ratings that must be."""


@reads_source
def train(
    source: Source,
    model: ModelName = DEFAULT_MODEL,
    settings: Settings = None,
    config: ConfigFile = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Save the model here; an older model there is replaced.")
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(
            "--test",
            min=0,
            max=0.9,
            metavar="SHARE",
            help="Measure the model: after training, fit it again without this share of the ratings, and compare it on "
            "them with two simple models; 0: do not measure. [default: 0.1; 0 for long trainings]",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, help="Random seed for training: the same seed gives the same model. [default: 0]"
        ),
    ] = None,
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
            help="Under torchrun: divide tables of at least N users or items; default: more than a batch has ratings.",
            rich_help_panel=_LONG,
        ),
    ] = None,
    on_disk: Annotated[
        bool,
        typer.Option(
            "--on-disk",
            help="Keep the ratings, and what AANMF++ computes per rating, in files in DIR.training instead of memory. "
            "(Models that read ratings from disk in every epoch do so with several files anyway.)",
            rich_help_panel=_LONG,
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on ratings, and measure it. Ctrl-C saves what was learned so far (with --out).

    Under torchrun, all processes train one model together.
    """
    from aanmf.data.report import notices_of
    from aanmf.recommender import make_model
    from aanmf.training.checkpoint import Checkpoints
    from aanmf.training.distributed import apart, joined
    from aanmf.training.progress import shown_progress

    chosen = one_model(model, read_settings(settings or [], config))
    untrained = make_model(model, **(chosen if seed is None else {**chosen, "seed": seed}))
    if out_folder is not None:
        check_target(out_folder)
    wanted = resume or checkpoint_every is not None
    if wanted and out_folder is None:
        raise ConfigError("--checkpoint-every and --resume need --out DIR: checkpoints go into DIR.training")
    with joined() as ranks, _training_folder(out_folder, ranks) as place:
        every = checkpoint_every or "epoch"
        checkpoints = Checkpoints(place / "checkpoints", every, resume=resume) if wanted else None
        data = _load(source, untrained, place, ranks, on_disk)
        start, interrupted = time.perf_counter(), False
        try:
            with shown_progress(model, shown=ranks.first) as on_epoch:
                untrained.fit(data, on_epoch=on_epoch, checkpoints=checkpoints, shard_rows=spread_rows)
        except KeyboardInterrupt:
            interrupted = True
            if not untrained.is_fitted or not untrained.fitted_.training_log.epochs:
                notice("stopped before the first epoch was done: nothing was saved")
                raise
        seconds = time.perf_counter() - start
        if ranks.first:
            found = summary(untrained, seconds) | {"interrupted": interrupted, "out": None, "resumed_from": None}
            found["notices"] = notices_of(data.notices, data.users, data.items)
            if checkpoints and checkpoints.started_from:
                found["resumed_from"] = str(checkpoints.started_from)
            if out_folder:
                untrained.save(out_folder)
                found["out"] = str(out_folder)
            share = (0.0 if wanted or not ranks.alone else TEST_SHARE) if test is None else test
            with apart():  # the others have nothing to do with it
                found["test"] = None if interrupted else _measured(untrained, data, share)
            _report(found, as_json)
            if not interrupted:  # checkpoints are no longer needed
                shutil.rmtree(place, ignore_errors=True)
        ranks.wait()
    if interrupted:
        where = f"what was learned so far is in {out_folder}" if out_folder else "give --out to keep what was learned"
        notice(f"training was stopped; {where}")
        raise typer.Exit(130)


@contextmanager
def _training_folder(folder: Path | None, ranks: Ranks) -> Iterator[Path]:
    """For checkpoints and prepared ratings: DIR.training next to the model; without --out, a temporary folder.

    Meanwhile no other process can write the model.
    """
    if folder is not None:
        with locked(folder) if ranks.first else nullcontext():
            yield folder.with_name(f"{folder.name}.training")
        return
    with tempfile.TemporaryDirectory(prefix="aanmf-") as place:
        yield Path(place)


def _load(
    source: Source, model: Recommender, place: Path, ranks: Ranks, on_disk: bool
) -> RatingDataset | StreamedDataset:
    """Reads the ratings, or prepares them to be read from disk: the first process prepares them for all."""
    from aanmf.data.shards import is_sharded
    from aanmf.models.catalog import with_capability

    spec = model.spec
    able = [f"--model {each}" for capability in ("streams", "on_disk") for each in with_capability(capability)]
    if on_disk and not (spec.streams or spec.on_disk):
        raise ConfigError(f"{spec.name} does not support --on-disk: leave it out. Models that do: {', '.join(able)}")
    if not on_disk and not (is_sharded(source.source) and spec.streams):
        if is_sharded(source.source):
            others = f"Models that can leave them on disk: {', '.join(able)}"
            also = "--on-disk keeps them in files" if spec.on_disk else others
            notice(f"{spec.name} needs all ratings at a time: all are read into memory. {also}")
        return source.load()
    prepared = source.stream(place / "data") if ranks.first else None
    ranks.wait_for_first()
    return prepared or source.stream(place / "data")


def _measured(model: Recommender, data: RatingDataset | StreamedDataset, share: float) -> dict[str, Any] | None:
    """Scores of the model and of the simplest ones on a share of the ratings; None where nothing is measured."""
    from aanmf.data.dataset import RatingDataset
    from aanmf.evaluation.baselines import measure
    from aanmf.training.progress import shown_progress

    if not isinstance(data, RatingDataset) or round(len(data) * share) < FEWEST_TEST_RATINGS:
        return None
    try:
        with shown_progress(f"measuring {model.spec.name}") as on_epoch:
            runs = measure(model, data, share, on_epoch)
    except KeyboardInterrupt:
        notice("measuring was stopped; the model is complete")
        return None
    results = [{"model": run.model, **{name: run.scores[name] for name in run.scored["metrics"]}} for run in runs]
    return {"share": share, "ratings": runs[0].n_test, "results": results}


def summary(model: Recommender, seconds: float) -> dict[str, Any]:
    """Summary of a fit, as JSON has it; users and items are those with ratings."""
    fitted, log = model.fitted_, model.fitted_.training_log
    return {
        "model": repr(model),
        "ratings": len(fitted.training.train),
        "has_ratings": fitted.training.has_ratings,
        "users": int((fitted.users.n_ratings > 0).sum()),
        "items": int((fitted.items.n_ratings > 0).sum()),
        "example_user": fitted.users.ids[int(fitted.users.n_ratings.argmax())],
        "attributes": fitted.users.encoder.names,
        "item_attributes": fitted.items.encoder.names,
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
        *([("chosen by fit", ", ".join(f"{name}={cell(value)}" for name, value in chosen.items()))] if chosen else []),
        ("learned from", f"{found['ratings']:,} {rows} of {found['items']:,} items by {found['users']:,} users"),
        ("user attributes", ", ".join(found["attributes"]) or "none"),
        ("item attributes", ", ".join(found["item_attributes"]) or "none"),
        *([("epochs", found["epochs"])] if found["epochs"] else []),
        *([("resumed from", found["resumed_from"])] if found["resumed_from"] else []),
        ("time", f"{found['fit_seconds']:.1f} s"),
        ("saved in", found["out"] or "nowhere: give --out DIR to keep it"),
    ]
    out().print(facts(None, lines))
    if test := found["test"]:
        title = f"Scores on {test['ratings']:,} ratings, of models fitted to the others (errors: lower is better)"
        out().print(scores_table(title, test["results"]))
    if found["out"]:
        command = shlex.join(["recommend", found["out"], "--user", found["example_user"]])
        out().print(f"Next: [bold]{program()} {command}[/]", soft_wrap=True)
