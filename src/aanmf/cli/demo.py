"""`aanmf demo`: lists with reasons, comparison, attention and explanation on real ratings in a few minutes."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import AsJson
from aanmf.cli.output import emit, epochs, err, notice, out, table, to_json
from aanmf.cli.use import explanation, explanation_table
from aanmf.cli.validate import labels_of
from aanmf.errors import DownloadError
from aanmf.storage import check_target

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType

    from aanmf.data.dataset import RatingDataset
    from aanmf.data.split import Fold
    from aanmf.recommender import Recommender

MODELS = ("popularity", "mf", "aanmf", "aanmf+p", "aanmf++")
"""What the demo trains, in this order; the last one recommends."""
SHOWN = "aanmf"
"""The model whose attention is drawn and which explains."""
LISTS = ("ndcg@10", "recall@10", "coverage@10")
"""Metrics of lists that are shown beside those of ratings."""
TITLE = 26
"""Characters of a title in the table of lists."""
FALLBACK_SOURCE = "synthetic"
QUICK_SOURCE = "synthetic:20000"
QUICK_SETTINGS = {"factors": 8, "epochs": 6, "batch_size": 2048, "members": 1, "parts": 5}
MOST_GROUPS, FEWEST_RATINGS = 18, 30
"""The heat map shows this many groups of items at most, each with this many ratings at least."""


def demo(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Write models and pictures here.")] = Path(
        "aanmf-demo"
    ),
    source: Annotated[
        str | None, typer.Option("--source", help="Use these ratings instead of MovieLens 100K: see `aanmf data -h`.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Use a small synthetic data set and few epochs: takes seconds.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Recommend with AANMF++ on MovieLens 100K, compare it with bestsellers, MF and AANMF, and show AANMF's attention.

    Without MovieLens (neither on this machine nor to be downloaded), the demo uses synthetic ratings and says so.
    """
    from aanmf.data.split import holdout

    start = time.perf_counter()
    for name in MODELS:
        check_target(folder / name)
    data, planted = choose_data(source or (QUICK_SOURCE if quick else None))
    fold = holdout(len(data), 0.2, seed=0)
    if not as_json:
        size = f"{len(data):,} ratings of {len(data.items):,} items by {len(data.users):,} users."
        out().print(f"[bold]{data.name}[/]: {size}")
        out().print("Training on a random 80 % of them (seed 0), testing on the rest.\n")
    models, results = compare(data, fold, folder, QUICK_SETTINGS if quick else {})
    shown, lister, (train, test) = models[SHOWN], models[MODELS[-1]], fold.of(data)
    user = train.users.ids.ids[int(train.user.min())]  # the first one with ratings
    listed = list_beside_bestsellers(lister, user)
    item = listed["items"][0]["item"] if listed["items"] else train.items.ids.ids[int(train.item[0])]
    found = {"source": data.name, "ratings": len(data), "protocol": fold.name, "seed": fold.seed, "results": results}
    found |= draw(shown, test, planted, folder)
    found |= {"recommendation": {"user": user, **listed}, "explanation": explanation(shown, user, item)}
    found["seconds"] = time.perf_counter() - start
    (folder / "results.json").write_text(to_json(found), encoding="utf-8")
    if as_json:
        emit(found)
    else:
        report(found, folder)


def choose_data(source: str | None) -> tuple[RatingDataset, pl.DataFrame | None]:
    """MovieLens 100K if it can be loaded, else synthetic ratings; for those the known attention, too."""
    from aanmf.data.movielens import RELEASES, find_movielens, load_movielens
    from aanmf.data.sources import load
    from aanmf.data.synthetic import planted

    if source is None:
        try:
            with err().status("looking for MovieLens 100K (a download is given up after 15 s)"):
                if find_movielens("100k") is None and not answers(RELEASES["100k"].url):
                    raise DownloadError(f"the server of {RELEASES['100k'].url} is unreachable")
                return load_movielens("100k"), None
        except (DownloadError, OSError) as error:
            notice(f"Could not load MovieLens 100K: {error}")
            notice("Using synthetic ratings with known attention weights; results do not describe real films.")
    source = source or FALLBACK_SOURCE
    return load(source), planted() if source.startswith("synthetic") else None


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


def compare(
    data: RatingDataset, fold: Fold, folder: Path, settings: dict[str, Any]
) -> tuple[dict[str, Recommender], list[dict[str, Any]]]:
    """Trains, scores and saves every model of the demo."""
    from aanmf.evaluation.runs import fit_and_score, job_of
    from aanmf.metrics import METRICS
    from aanmf.recommender import make_model

    models: dict[str, Recommender] = {}
    results: list[dict[str, Any]] = []
    train, test = fold.of(data)
    scored = {"metrics": [*METRICS, *LISTS]}
    for name in MODELS:
        known = make_model(name).get_params()
        model = make_model(name, **{setting: value for setting, value in settings.items() if setting in known})
        job = job_of(name, model.get_params(), data, fold, fold.name, scored=scored)
        with epochs(name) as on_epoch:
            run = fit_and_score(job, model, train, test, on_epoch)
        model.save(folder / name)
        models[name] = model
        results.append({**run.row(), "folder": str(folder / name)})
    return models, results


def list_beside_bestsellers(model: Recommender, user: str, n: int = 10) -> dict[str, Any]:
    """A user's list, with the rated item that each resembles most (`because`), and the bestsellers among the rest."""
    from aanmf.beside_lists import bestsellers, reasons
    from aanmf.ranking import ListOptions

    predictor = model.predictor_
    items, profile = predictor.items, predictor.profile(user)
    rows = model.recommend(user, n=n).to_dicts()
    because = reasons(predictor, profile, [items.position(row["item"]) for row in rows])
    popular = [items.ids[at] for at in bestsellers(predictor, profile, ListOptions(n))]
    return {
        "model": model.spec.name,
        "items": [row | {"because": reason and reason[0]} for row, reason in zip(rows, because, strict=True)],
        "bestsellers": [{"item": each, "label": items.label(items.position(each))} for each in popular],
    }


def draw(model: Recommender, test: RatingDataset, planted: pl.DataFrame | None, folder: Path) -> dict[str, Any]:
    """Heat map of attention over the test pairs, as PNG and SVG; above it the known one of synthetic ratings.

    Returns:
        `attention` (a row per group of items), `pictures`, and `attention_correlation` with the known attention.
    """
    from aanmf.experiments.figures import correlation
    from aanmf.plots import attention_heatmaps

    by = grouping(test)
    if by is None or not test.users.names:
        notice("no heat map: it needs an item attribute with few values, and user attributes")
        return {"attention": [], "pictures": []}
    learned = model.attention_map(test, by=by).table
    most = learned.filter(learned["n"] >= FEWEST_RATINGS).top_k(MOST_GROUPS, by="n")
    learned = learned.filter(learned[by].is_in(most[by].to_list())) if len(most) else learned
    tables, known = {f"Attention of {model.spec.label} on each user attribute, by {by}": learned}, {}
    if planted is not None:
        tables = {"Planted: the attention that made the ratings": planted, "Learned from the ratings": learned}
        known = {"attention_correlation": correlation(planted, learned)}
    pictures = [str(attention_heatmaps(tables, folder / f"attention.{kind}")) for kind in ("png", "svg")]
    return {"attention": learned.to_dicts(), "pictures": pictures, **known}


def grouping(data: RatingDataset) -> str | None:
    """The item attribute to group by: genres where there are any, else the one with the fewest values."""
    from aanmf.data.kinds import KINDS

    names = [each.name for each in data.items.attributes if KINDS[each.kind].has_labels]
    for name in ("genres", "genre"):
        if name in names:
            return name
    columns = {name: data.items.columns[name] for name in names}
    sizes = {
        name: (column.explode() if column.dtype.is_nested() else column).n_unique() for name, column in columns.items()
    }
    return min(sizes, key=lambda name: sizes[name], default=None)


def report(found: dict[str, Any], folder: Path) -> None:
    """What is shown at the end: the list first."""
    from aanmf.metrics import METRICS

    console, results, user = out(), found["results"], found["recommendation"]["user"]
    console.print(list_table(found["recommendation"]))
    metrics = (*METRICS, *LISTS)
    rows = [(each["model"], *(each[name] for name in metrics), f"{each['fit_seconds']:.1f} s") for each in results]
    title = f"Scores on {results[0]['n_test']:,} test ratings (errors: lower is better; lists: higher)"
    console.print(table(title, ("model", *labels_of(metrics), "time"), rows))
    console.print(explanation_table(found["explanation"]))
    if "attention_correlation" in found:
        console.print(f"Learned and planted attention correlate with r = {found['attention_correlation']:.2f}.")
    for path in found["pictures"][:1]:
        console.print(f"Attention of {SHOWN} as a picture: [bold]{path}[/]")
    console.print(f"Models, pictures and results.json: [bold]{folder}/[/] ({found['seconds']:.0f} s in all)\n")
    own = [each for each in found["explanation"]["parts"] if each["kind"] == "user attribute"][:2]
    new_user = ",".join(f"{each['name']}={each['value']}" for each in own)
    console.print("Next:")
    lister = folder / found["recommendation"]["model"]
    for line in (
        f"aanmf recommend {lister} --user {user}",
        *([f'aanmf recommend {lister} --attributes "{new_user}"'] if new_user else []),
        "aanmf train ratings.csv --users users.csv --items items.csv --out model",
    ):
        console.print(f"  [bold]{line}[/]", soft_wrap=True)


def list_table(listed: dict[str, Any]) -> RenderableType:
    """The list, the reasons, and the bestsellers beside it; a star marks what is on both."""
    popular = listed["bestsellers"]
    both = {row["item"] for row in popular}

    def title(row: dict[str, Any], star: bool = False) -> str:
        return shorten(row.get("label") or row["item"], TITLE, placeholder=" ...") + (" *" if star else "")

    rows = []
    for place in range(max(len(listed["items"]), len(popular))):
        own = listed["items"][place] if place < len(listed["items"]) else None
        seller = title(popular[place]) if place < len(popular) else ""
        because = shorten((own and own["because"]) or "", TITLE, placeholder=" ...")
        rows.append((str(place + 1), title(own, own["item"] in both) if own else "", because, seller))
    head = f"What {listed['model']} recommends to user {listed['user']} (* a bestseller)"
    return table(head, ("", "item", "like, of those rated well", "bestsellers"), rows)
