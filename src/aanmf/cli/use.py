"""`aanmf predict`, `recommend`, `explain`: a saved model at work."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import AsJson, ModelFolder, RankBy
from aanmf.cli.output import emit, notice, out, table
from aanmf.cli.parse import read_attributes, read_ids, read_ratings, read_where
from aanmf.errors import AanmfError, ConfigError

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType

    from aanmf.profile import User
    from aanmf.ranking import ListArguments
    from aanmf.recommender import Recommender

UserId = Annotated[str | None, typer.Option("--user", metavar="ID", help="Choose a user of the training data.")]
Attributes = Annotated[
    str | None,
    typer.Option(
        "--attributes",
        metavar="NAME=VALUE,...",
        help="Describe a new user, for instance gender=F,age=25-34. Put a value with a comma in quotes.",
    ),
]
Rated = Annotated[
    list[str] | None,
    typer.Option(
        "--rating",
        metavar="ITEM[=R]",
        help="Add a rating given since training, or an item that was chosen. It counts at once. Repeatable.",
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="ITEM", help="Pretend that the user has not rated this item. Repeatable."),
]
InContext = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME=VALUE,...",
        help="Predict for this context, for instance companion=family. [default: averaged over what is usual]",
    ),
]
Interval = Annotated[
    float | None,
    typer.Option(
        "--interval", metavar="P", help="Show the interval that holds the rating with probability P, for instance 0.9."
    ),
]


def predict(
    folder: ModelFolder,
    user: UserId = None,
    item: Annotated[
        str | None, typer.Option("--item", metavar="ID", help="Choose an item of the training data.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs", metavar="IN.csv", help="Read pairs from a CSV or Parquet file with columns user and item."
        ),
    ] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="OUT.csv", help="Write the predictions here (CSV or Parquet).")
    ] = None,
    context: InContext = None,
    interval: Interval = None,
    as_json: AsJson = False,
) -> None:
    """Predict the rating of one pair, or of a file of pairs.

    A user or item that the model has not seen gets the prediction for an average one, marked as such.
    """
    from aanmf.recommender import load_model

    model = load_model(folder)
    users, items = _asked_pairs(user, item, pairs, model.fitted_.columns)
    predicted = model.predict(users=users, items=items, interval=interval, context=_context(context))
    if out_file:
        write_table(predicted, out_file)
    flagged = predicted["fallback"].drop_nulls()
    if as_json:
        rows = {} if out_file else {"predictions": predicted.to_dicts()}
        emit({**rows, "n": len(predicted), "fallbacks": len(flagged), "out": str(out_file) if out_file else None})
        return
    if out_file:
        out().print(f"{len(predicted):,} predictions written to {out_file}")
    else:
        rows = [tuple("" if cell is None else cell for cell in row) for row in predicted.iter_rows()]
        out().print(table(None, tuple(predicted.columns), rows))
    for reason, count in flagged.value_counts(sort=True).iter_rows():
        notice(f"{count:,} of {len(predicted):,} predicted for an average one: {reason}")


def _context(text: str | None) -> dict[str, str] | None:
    return None if text is None else read_attributes(text, "--context")


def _asked_pairs(
    user: str | None, item: str | None, pairs: Path | None, columns: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    from aanmf.data.frames import pairs_of
    from aanmf.data.tables import Table

    if pairs is None and user is not None and item is not None:
        return [user], [item]
    if pairs is not None and user is None and item is None:
        return pairs_of(Table.read(pairs), columns)
    raise ConfigError("predict needs either --user and --item, or --pairs FILE")


def recommend(
    folder: ModelFolder,
    user: UserId = None,
    attributes: Attributes = None,
    n: Annotated[int, typer.Option("-n", min=1, help="List this many items.")] = 10,
    rated: Rated = None,
    interval: Interval = None,
    rank_by: RankBy = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="NAME=VALUE",
            help="List only items with this attribute: genres=Drama, genres=Drama|Comedy, year=1990..1999. Repeatable.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="ID", help="Leave this item out. Repeatable.")
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option("--candidates", metavar="FILE", help="List only the items in this file, one id per line."),
    ] = None,
    diversity: Annotated[
        float, typer.Option("--diversity", min=0, max=1, help="Prefer items unlike those above them: 0 (off) to 1.")
    ] = 0.0,
    seen: Annotated[bool, typer.Option("--seen", help="List items that the user has rated, too.")] = False,
    without: Without = None,
    context: InContext = None,
    everyone: Annotated[bool, typer.Option("--all", help="Make lists for all users, and write them to --out.")] = False,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="OUT.parquet", help="Write the lists of --all here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user, or to a new one known by attributes and a few ratings. Rated items are left out.

    Under torchrun, all processes make the lists of --all together.
    """
    from aanmf.recommender import load_model
    from aanmf.training.distributed import joined

    if (user is not None) + (attributes is not None) + everyone != 1:
        raise ConfigError("recommend needs one of --user ID, --attributes NAME=VALUE,... and --all")
    if everyone != (out_file is not None):
        raise ConfigError("--all and --out FILE go together")
    options: ListArguments = {
        "rank_by": rank_by,
        "interval": interval,
        "seen": seen,
        "where": read_where(where or []),
        "exclude": exclude or [],
        "candidates": read_ids(candidates) if candidates else None,
        "diversity": diversity,
    }
    if everyone and out_file is not None:
        with joined() as ranks:
            tables = load_model(folder).recommend_all(n, context=_context(context), ranks=ranks, **options)
            rows = write_tables(tables, out_file) if ranks.first else sum(map(len, tables))
        if as_json:
            emit({"rows": rows, "out": str(out_file)})
        else:
            out().print(f"{rows:,} recommendations written to {out_file}")
        return
    asked = str(user) if attributes is None else read_attributes(attributes)
    model, ratings = load_model(folder), read_ratings(rated or [])
    found = model.recommend(asked, n, ratings=ratings, without=without, context=_context(context), **options)
    if as_json:
        known = None if attributes is None else asked
        emit({"user": user, "attributes": known, "ratings": ratings, "items": found.to_dicts()})
        return
    out().print(recommendation_table(f"For {_described(asked)}", found))


def similar(
    folder: ModelFolder,
    item: Annotated[str | None, typer.Option("--item", metavar="ID", help="Find items similar to this one.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Find users similar to this one.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Show this many.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Find the items, or the users, that are most similar to one."""
    from aanmf.recommender import load_model

    if (item is None) == (user is None):
        raise ConfigError("similar needs either --item ID or --user ID")
    model = load_model(folder)
    found = model.similar(item, n) if item is not None else model.similar_users(str(user), n)
    if as_json:
        emit({"item": item, "user": user, "similar": found.to_dicts()})
        return
    what = f"item {item}" if item is not None else f"user {user}"
    out().print(table(f"Similar to {what}", tuple(found.columns), list(found.iter_rows())))


def explain(
    folder: ModelFolder,
    item: Annotated[str, typer.Option("--item", metavar="ID", help="Choose an item of the training data.")],
    user: UserId = None,
    attributes: Attributes = None,
    rated: Rated = None,
    top: Annotated[int, typer.Option("--top", min=1, help="List this many parts, and the sum of the others.")] = 10,
    of: Annotated[
        str | None,
        typer.Option(
            "--of", metavar="rating|match", help="Explain the predicted rating, or the match that ranks lists."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="ID", help="Compare with another item: why the first one and not this one."),
    ] = None,
    without: Without = None,
    context: InContext = None,
    as_json: AsJson = False,
) -> None:
    """Explain a prediction: what each rated item, attribute and part of the model adds to it."""
    from aanmf.recommender import load_model

    if (user is None) == (attributes is None):
        raise ConfigError("explain needs either --user ID or --attributes NAME=VALUE,...")
    asked = str(user) if attributes is None else read_attributes(attributes)
    more = {"of": of, "against": against, "without": without, "context": _context(context)}
    found = explanation(load_model(folder), asked, item, read_ratings(rated or []), top, **more)
    if as_json:
        emit(found)
        return
    out().print(explanation_table(found))
    if found["fallback"]:
        notice(found["fallback"])


def explanation(
    model: Recommender,
    user: User,
    item: str,
    ratings: Mapping[str, float | None] | None = None,
    top: int = 10,
    **more: Any,
) -> dict[str, Any]:
    """Prediction and explanation of one pair as JSON values; the user by id or by attributes."""
    found = model.explain(user, item, top, ratings=ratings, **more)
    who = {"user": None, "given": dict(user)} if isinstance(user, Mapping) else {"user": user, "given": None}
    against = None if found.against is None else found.against[0]
    return {
        **who,
        **dataclasses.asdict(found),
        "against": against,
        "title": found.title,
        "parts": found.parts.to_dicts(),
    }


def explanation_table(found: dict[str, Any]) -> RenderableType:
    """An explanation to read."""
    who = _described(found["user"] if found["given"] is None else found["given"])
    title = f"{who[0].upper()}{who[1:]} and {found['title']}"
    rows = [("part", "", "attention", f"adds to the {found['of']}"), ("base", "", "", f"{found['base']:.3f}")]
    for each in found["parts"]:
        what = " ".join(each[name] for name in ("name", "value") if each[name])
        weight = "" if each["attention"] is None else f"{each['attention']:.3f}"
        rows.append((each["kind"], what, weight, f"{each['contribution']:+.3f}"))
    shown = (True, True, any(each["attention"] is not None for each in found["parts"]), True)
    header, *rest = (tuple(itertools.compress(row, shown)) for row in rows)
    return table(title, header, rest)


def _described(user: User) -> str:
    """A user as a person reads it."""
    if not isinstance(user, Mapping):
        return f"user {user}"
    return f"a new user ({', '.join(f'{name} {value}' for name, value in user.items())})"


def recommendation_table(title: str, found: pl.DataFrame) -> RenderableType:
    """Recommended items to read."""
    names = [name for name in ("item", "label", "rating", "low", "high", "match") if name in found.columns]
    rows = [(str(place), *row) for place, row in enumerate(found.select(names).iter_rows(), start=1)]
    if not rows:
        return f"{title}: nothing left to recommend"
    return table(title, ("", *names), rows)


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Writes one table; see `write_tables`."""
    write_tables(iter([frame]), path)


def write_tables(frames: Iterator[pl.DataFrame], path: Path) -> int:
    """Writes tables below each other as CSV (or Parquet, by the name's ending), one in memory at a time.

    Returns:
        How many rows.

    Raises:
        AanmfError: the place cannot be written to.
    """
    import polars as pl
    from polars.io.plugins import register_io_source

    from aanmf.storage import replace_file

    first = next(frames)
    rows = 0

    def each(*_: object) -> Iterator[pl.DataFrame]:
        nonlocal rows
        for frame in itertools.chain([first], frames):
            rows += len(frame)
            yield frame

    lazy = register_io_source(each, schema=first.schema)
    try:
        with replace_file(path) as file:
            (lazy.sink_parquet if path.suffix.lower() in (".parquet", ".pq") else lazy.sink_csv)(file.name)
    except (OSError, pl.exceptions.ComputeError) as error:
        raise AanmfError(f"--out {path}: cannot be written ({error})") from None
    return rows


def _bar(share: float, width: int = 12) -> str:
    return "█" * round(share * width)
