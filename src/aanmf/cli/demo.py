"""`aanmf demo`: a model of real ratings in seconds: how good it is, lists, a reason, and what attention does."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import AsJson
from aanmf.cli.output import emit, notice, out, program, table, to_json
from aanmf.cli.use import explanation, explanation_table, recommendation_table
from aanmf.cli.validate import scores_table
from aanmf.storage import check_target

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType

    from aanmf.data.dataset import RatingDataset
    from aanmf.data.split import Fold
    from aanmf.recommender import Recommender

MODELS = ("damped-means", "popularity", "aanmf++")
"""What the demo trains, in this order; the last one recommends."""
PAPER = "aanmf"
"""Trained as well where the attention that made the ratings is known."""
LISTS = ("ndcg@10", "coverage@10")
"""Metrics of lists that are shown beside those of ratings."""
NEW_USERS = {
    "restaurants": {"city": "Cuernavaca", "likes": "Mexican", "budget": "low"},
    "ml-100k": {"gender": "F", "age": "25-34", "occupation": "artist"},
}
"""A new user to recommend to, in a line; for other sources one who is like the user that is shown."""
TITLE = 26
"""Characters of a title in the table of lists."""
QUICK = {"factors": 8, "epochs": 3, "batch_size": 2048, "members": 1, "parts": 5, "l2": 70.0, "simplify_up_to": 0}
MOST_GROUPS, FEWEST_RATINGS, MOST_VALUES = 18, 30, 100
"""The heat map shows this many groups of items at most, each with this many ratings at least, by an attribute with so
many values at most."""


def demo(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Choose the data: restaurants, ml-100k, ml-1m, synthetic, synthetic:N, or a file."
        ),
    ] = "restaurants",
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Write models and pictures here.")] = Path(
        "aanmf-demo"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Train small models for few epochs: takes seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train AANMF++ on real ratings of restaurants, which need no download, and show what it is good for.

    Compares its errors and lists with two simple models. Shows a list for a user and for a new one, why the first
    item is on the list, and attention on user attributes. With `synthetic`, compares the learned attention with the
    attention that made the ratings.
    """
    from aanmf.data.sources import load
    from aanmf.data.split import holdout
    from aanmf.data.synthetic import planted

    start = time.perf_counter()
    known = planted() if source.partition(":")[0] == "synthetic" else None
    names = MODELS if known is None else (*MODELS[:-1], PAPER, MODELS[-1])
    for name in names:
        check_target(folder / name)
    data = load(source)
    fold = holdout(len(data), 0.2, seed=0)
    if not as_json:
        introduce(data)
    models, results = compare(names, data, fold, folder, QUICK if quick else {})
    lister, (train, _) = models[-1], fold.of(data)
    user = train.users.ids.ids[int(train.user.min())]  # the first one with ratings
    listed = list_beside_bestsellers(lister, user)
    item = listed["items"][0]["item"] if listed["items"] else train.items.ids.ids[int(train.item[0])]
    found = {"source": data.name, "ratings": len(data), "protocol": fold.name, "seed": fold.seed, "results": results}
    found |= draw(models, data, known, folder)
    found |= {"recommendation": {"user": user, **listed}, "explanation": explanation(lister, user, item)}
    found["new_user"] = list_for_new_user(lister, NEW_USERS.get(source) or like(data, user))
    found["seconds"] = time.perf_counter() - start
    (folder / "results.json").write_text(to_json(found), encoding="utf-8")
    if as_json:
        emit(found)
    else:
        report(found, folder)


def introduce(data: RatingDataset) -> None:
    """What there is to learn from."""
    low, high = data.scale or (data.rating.min(), data.rating.max())
    console = out()
    console.print(f"[bold]{data.name}[/]: {len(data):,} ratings from {low:g} to {high:g}.")
    for side, entities in (("users", data.users), ("items", data.items)):
        console.print(f"{len(entities):,} {side}: {', '.join(entities.names) or 'only their ids are known'}.")
    console.print("Training on a random 80 % of the ratings; the other 20 % are the test.\n")


def compare(
    names: tuple[str, ...], data: RatingDataset, fold: Fold, folder: Path, settings: dict[str, Any]
) -> tuple[list[Recommender], list[dict[str, Any]]]:
    """Trains, scores and saves every model of the demo."""
    from aanmf.evaluation.runs import fit_and_score, job_of
    from aanmf.metrics import METRICS
    from aanmf.recommender import make_model
    from aanmf.training.progress import shown_progress

    models: list[Recommender] = []
    results: list[dict[str, Any]] = []
    train, test = fold.of(data)
    scored = {"metrics": [*METRICS, *LISTS]}
    for name in names:
        known = make_model(name).get_params()
        model = make_model(name, **{setting: value for setting, value in settings.items() if setting in known})
        job = job_of(name, model.get_params(), data, fold, fold.name, scored=scored)
        with shown_progress(name) as on_epoch:
            run = fit_and_score(job, model, train, test, on_epoch)
        model.save(folder / name)
        models.append(model)
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


def like(data: RatingDataset, user: str) -> dict[str, Any]:
    """The first three attributes that are known of a user."""
    row = data.users.columns.row(data.users.ids.ids.index(user), named=True) if data.users.names else {}
    return dict([(name, value) for name, value in row.items() if value is not None][:3])


def list_for_new_user(model: Recommender, attributes: dict[str, Any], n: int = 5) -> dict[str, Any]:
    """The list of someone without ratings."""
    return {"attributes": attributes, "items": model.recommend_for(attributes, n=n).to_dicts()}


def draw(models: list[Recommender], data: RatingDataset, planted: pl.DataFrame | None, folder: Path) -> dict[str, Any]:
    """Heat maps of attention over the rated pairs, as PNG and SVG; above them the known one of synthetic ratings.

    Returns:
        `attention` of the last model (a row per group of items), `pictures`, and `attention_correlation` of every model
        with the known attention.
    """
    from aanmf.experiments.figures import correlation
    from aanmf.plots import attention_heatmaps

    by = grouping(data)
    attentive = [each for each in models if each.spec.attention and each.chosen_.get("user_attributes", True)]
    if by is None or not data.users.names or not attentive:
        notice("no heat map: it needs user attributes that help to predict, and an item attribute to group by")
        return {"attention": [], "pictures": []}
    tables = {} if planted is None else {"Planted: the attention that made the ratings": planted}
    correlations: dict[str, float] = {}
    for model in attentive:
        learned = most_rated(model.attention_map(data, by=by).table)
        tables[f"Attention of {model.spec.label} on each user attribute, by {by}"] = learned
        if planted is not None:
            correlations[model.spec.name] = correlation(planted, learned)
    pictures = [str(attention_heatmaps(tables, folder / f"attention.{kind}")) for kind in ("png", "svg")]
    known = {"attention_correlation": correlations} if correlations else {}
    return {"attention": list(tables.values())[-1].to_dicts(), "pictures": pictures, **known}


def most_rated(attention: pl.DataFrame) -> pl.DataFrame:
    """The groups of items with most ratings, in the order of their names."""
    most = attention.filter(attention["n"] >= FEWEST_RATINGS).top_k(MOST_GROUPS, by="n")
    return most.sort(most.columns[0]) if len(most) else attention


def grouping(data: RatingDataset) -> str | None:
    """The item attribute to group by: of those with several values per item, or else of all, the one with most."""
    from aanmf.data.kinds import KINDS

    sizes: dict[str, tuple[bool, int]] = {}
    for each in data.items.attributes:
        kind, column = KINDS[each.kind], data.items.columns[each.name]
        size = (column.explode() if kind.is_list else column).n_unique()
        if kind.has_labels and size <= MOST_VALUES:
            sizes[each.name] = kind.is_list, size
    return max(sizes, key=lambda name: sizes[name], default=None)


def report(found: dict[str, Any], folder: Path) -> None:
    """What is shown at the end."""
    import polars as pl

    from aanmf.metrics import METRICS

    console, results, user = out(), found["results"], found["recommendation"]["user"]
    title = (
        f"Scores on {results[0]['n_test']:,} test ratings (RMSE and MAE: lower is better; NDCG and coverage: higher)"
    )
    console.print(scores_table(title, [{name: each[name] for name in ("model", *METRICS, *LISTS)} for each in results]))
    console.print(list_table(found["recommendation"]))
    new, lister = found["new_user"], folder / found["recommendation"]["model"]
    known = ", ".join(f"{name} {value}" for name, value in new["attributes"].items())
    console.print(recommendation_table(f"For a new user ({known or 'nothing is known'})", pl.DataFrame(new["items"])))
    console.print(explanation_table(found["explanation"]))
    for model, r in found.get("attention_correlation", {}).items():
        console.print(f"Attention of {model} and the attention that made the ratings correlate with r = {r:.2f}.")
    for path in found["pictures"][:1]:
        console.print(f"A picture of attention: [bold]{path}[/]")
    console.print(f"Models, pictures and results.json: [bold]{folder}/[/] ({found['seconds']:.0f} s in all)\n")
    described = ",".join(f"{name}={value}" for name, value in new["attributes"].items())
    console.print("Next, the page of the model in a browser; or recommend from here; or train on tables of your own:")
    for command in (
        ["serve", str(lister)],
        ["recommend", str(lister), "--user", user],
        *([["recommend", str(lister), "--attributes", described]] if described else []),
        ["train", "ratings.csv", "--users", "users.csv", "--items", "items.csv", "--out", "model"],
    ):
        console.print(f"  [bold]{program()} {shlex.join(command)}[/]", soft_wrap=True)


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
