"""`aanmf demo`: the whole story on real ratings in a few minutes, into a folder to look at."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import AsJson
from aanmf.cli.output import emit, epochs, err, notice, out, plain, table
from aanmf.cli.train import check_target
from aanmf.cli.use import explanation, explanation_table, recommendation_table
from aanmf.errors import DownloadError

if TYPE_CHECKING:
    import polars as pl

    from aanmf.data.dataset import RatingDataset
    from aanmf.recommender import Recommender

CATALOG = ("mf", "aanmf", "aanmf+p", "aanmf++")
"""What the demo trains, in this order."""
SHOWN = "aanmf"
"""The model whose attention is drawn and which recommends and explains."""
FALLBACK_SOURCE = "synthetic"
QUICK_SOURCE = "synthetic:20000"
QUICK_SETTINGS = {"factors": 8, "epochs": 6, "batch_size": 2048, "members": 1, "parts": 5}
MOST_GROUPS, FEWEST_RATINGS = 18, 30
"""The heat map shows this many groups of items at most, each with this many ratings at least."""


def demo(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where models and pictures go.")] = Path(
        "aanmf-demo"
    ),
    source: Annotated[
        str | None, typer.Option("--source", help="Ratings to use in place of MovieLens 100K: see `aanmf data --help`.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small made-up data set and few epochs: seconds, poor figures.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train MF, AANMF, AANMF+P and AANMF++ on MovieLens 100K, compare them, and see what AANMF looks at.

    Where MovieLens is not at hand and cannot be downloaded, ratings are made up (and the demo says so).
    """
    start = time.perf_counter()
    for name in CATALOG:
        check_target(folder / name)
    data, planted = choose_data(source or (QUICK_SOURCE if quick else None))
    train, test = data.split(test=0.2, seed=0)
    if not as_json:
        out().print(
            f"[bold]{data.name}[/]: {len(data):,} ratings of {len(data.items):,} items by {len(data.users):,} users."
        )
        out().print("Learning from 80 % of them (drawn at random, seed 0), testing on the rest.\n")
    models, results = compare(train, test, folder, QUICK_SETTINGS if quick else {})
    found: dict[str, Any] = {
        "source": data.name,
        "ratings": len(data),
        "protocol": "holdout:0.2",
        "seed": 0,
        "results": results,
    }
    shown = models[SHOWN]
    found["attention"], found["pictures"] = draw(shown, test, planted, folder)
    if planted is not None and found["attention"]:
        found["attention_correlation"] = correlation(planted, found["attention"])
    user, item, best = first_recommendation(shown, train)
    found |= {"recommendation": {"user": user, "items": best.to_dicts()}, "explanation": explanation(shown, user, item)}
    found["seconds"] = time.perf_counter() - start
    write_results(found, folder / "results.json")
    if as_json:
        emit(found)
        return
    report(found, best, folder)


def choose_data(source: str | None) -> tuple[RatingDataset, pl.DataFrame | None]:
    """MovieLens 100K where it can be had, else synthetic ratings; of those the planted attention, too."""
    if source and source.startswith("synthetic"):
        return synthetic(source)
    if source:
        from aanmf.data.sources import load

        return load(source), None
    try:
        with err().status("looking for MovieLens 100K (a download is given up after 15 s)"):
            return movielens(), None
    except (DownloadError, OSError) as error:
        notice(f"MovieLens 100K is not to be had here: {error}")
        notice("made-up ratings with a planted attention are used instead: they say nothing about films")
    return synthetic(FALLBACK_SOURCE)


def movielens() -> RatingDataset:
    """MovieLens 100K, found or downloaded.

    Raises:
        DownloadError: it is not here, and its server does not answer in a few seconds.
    """
    from aanmf.data.movielens import RELEASES, find_movielens, load_movielens

    url = RELEASES["100k"].url
    if find_movielens("100k") is None and not answers(url):
        raise DownloadError(f"{url} does not answer")
    return load_movielens("100k")


def answers(url: str, seconds: float = 5.0) -> bool:
    """Whether a server answers in time. A thread asks, since looking up a name cannot be given a limit."""
    import requests

    done: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(requests.RequestException):
            done.append(requests.head(url, timeout=seconds).ok)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return done == [True]


def synthetic(source: str) -> tuple[RatingDataset, pl.DataFrame]:
    """`synthetic` or `synthetic:N` (ratings), and the attention planted in it."""
    import polars as pl

    from aanmf.data.sources import load
    from aanmf.data.synthetic import ATTENTION, VALUES

    planted = [{"genres": genre, **dict(zip(VALUES, row, strict=True))} for genre, row in ATTENTION.items()]
    return load(source), pl.DataFrame(planted)


def compare(
    train: RatingDataset, test: RatingDataset, folder: Path, settings: dict[str, Any]
) -> tuple[dict[str, Recommender], list[dict[str, Any]]]:
    """Trains, scores and saves every model of the demo."""
    from aanmf.evaluation.cross_validate import warm_up
    from aanmf.recommender import make_model

    warm_up()
    models: dict[str, Recommender] = {}
    results: list[dict[str, Any]] = []
    for name in CATALOG:
        start = time.perf_counter()
        with epochs(name) as on_epoch:
            there = make_model(name).get_params()
            own = {setting: value for setting, value in settings.items() if setting in there}
            models[name] = make_model(name, **own).fit(train, on_epoch=on_epoch)
        seconds = time.perf_counter() - start
        scores = models[name].evaluate(test)
        models[name].save(folder / name)
        results.append(
            {
                "model": name,
                "rmse": scores.rmse,
                "mae": scores.mae,
                "n_test": scores.n,
                "epochs": models[name].fitted_.training_log.best_epoch,
                "fit_seconds": seconds,
                "folder": str(folder / name),
            }
        )
    return models, results


def draw(
    model: Recommender, test: RatingDataset, planted: pl.DataFrame | None, folder: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """Heat map of attention over the test pairs, as PNG and SVG, below the planted one if there is one."""
    from aanmf.plots import attention_heatmaps

    by = grouping(test)
    if by is None or not test.users.names:
        notice("no heat map: it takes an item attribute with few values, and user attributes")
        return [], []
    learned = model.attention_map(test, by=by)
    most = learned.filter(learned["n"] >= FEWEST_RATINGS).top_k(MOST_GROUPS, by="n")
    learned = learned.filter(learned[by].is_in(most[by].to_list())) if len(most) else learned
    tables = {f"Attention of {type(model).__name__} on each user attribute, by {by}": learned}
    if planted is not None:
        tables = {"Planted: the attention that made the ratings": planted, "Learned from the ratings": learned}
    pictures = [attention_heatmaps(tables, folder / f"attention.{kind}") for kind in ("png", "svg")]
    return learned.to_dicts(), [str(path) for path in pictures]


def correlation(planted: pl.DataFrame, learned: list[dict[str, Any]]) -> float:
    """Pearson's r between the planted and the learned attention, over genres and attributes."""
    import numpy as np

    rows = {row["genres"]: row for row in learned}
    both = [
        (value, rows[row["genres"]][name])
        for row in planted.iter_rows(named=True)
        for name, value in row.items()
        if name != "genres" and row["genres"] in rows
    ]
    return float(np.corrcoef(np.array(both).T)[0, 1])


def grouping(data: RatingDataset) -> str | None:
    """The item attribute to group by: genres where there are any, else the one with the fewest values."""
    from aanmf.data.kinds import KINDS

    names = [each.name for each in data.items.attributes if KINDS[each.kind].has_labels]
    for name in ("genres", "genre"):
        if name in names:
            return name
    sizes = {
        name: data.items.columns[name].explode().n_unique()
        if data.items.columns[name].dtype.is_nested()
        else data.items.columns[name].n_unique()
        for name in names
    }
    return min(sizes, key=lambda name: sizes[name], default=None)


def first_recommendation(model: Recommender, train: RatingDataset) -> tuple[str, str, pl.DataFrame]:
    """Five items for the first user with ratings."""
    user = train.users.ids.ids[int(train.user.min())]
    best = model.recommend(user, n=5)
    item = best["item"][0] if len(best) else train.items.ids.ids[int(train.item[0])]
    return user, item, best


def write_results(found: dict[str, Any], path: Path) -> None:
    """All figures of the demo as JSON."""
    import json

    path.write_text(json.dumps(plain(found), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def report(found: dict[str, Any], best: pl.DataFrame, folder: Path) -> None:
    """What a person reads at the end."""
    console = out()
    rows = [
        (each["model"], each["rmse"], each["mae"], each["epochs"], f"{each['fit_seconds']:.1f} s")
        for each in found["results"]
    ]
    title = f"Errors on {found['results'][0]['n_test']:,} test ratings (lower is better)"
    console.print(table(title, ("model", "RMSE", "MAE", "epochs", "time"), rows))
    user = found["recommendation"]["user"]
    console.print(recommendation_table(f"What {SHOWN} recommends to user {user}", best))
    console.print(explanation_table(found["explanation"]))
    if "attention_correlation" in found:
        console.print(f"Learned and planted attention correlate with r = {found['attention_correlation']:.2f}.")
    for path in found["pictures"][:1]:
        console.print(f"Where {SHOWN} looks, as a picture: [bold]{path}[/]")
    console.print(f"Models, pictures and results.json: [bold]{folder}/[/] ({found['seconds']:.0f} s in all)\n")
    new_user = ",".join(f"{each['attribute']}={each['value']}" for each in found["explanation"]["attributes"][:2])
    console.print("Next:")
    for line in (
        f"aanmf recommend {folder / SHOWN} --user {user}",
        *([f'aanmf recommend {folder / SHOWN} --attributes "{new_user}"'] if new_user else []),
        "aanmf train ratings.csv --users users.csv --items items.csv --out model",
    ):
        console.print(f"  [bold]{line}[/]", soft_wrap=True)
