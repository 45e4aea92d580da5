"""Lists of AANMF++ beside those of its peers: peers tuned by the same number of trials, tests scored once.

    python benchmarks/lists.py [--table ml-100k ml-1m ...] [--models edlae aanmf++ ...] [--trials 12] [--quick]

Each table is a data set, a protocol and some seeds; TABLES names them. Peers are tuned for every seed, on a split of
the training part by the same protocol; AANMF++ has its defaults. Finished fits are kept in OUT/runs, settings in
OUT/settings, and neither is repeated, so a run that was stopped goes on. OUT/lists.json and OUT/lists.md are written
after each fit. `--quick` takes two trials, the first seed of each table, and models that are fitted in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import list_peers
from aanmf import RatingDataset, Recommender, make_model
from aanmf.data.sources import load
from aanmf.data.split import Fold, folds
from aanmf.evaluation.runs import Run, RunStore, candidates_of, fit_and_score, job_of
from aanmf.evaluation.significance import paired_test
from aanmf.experiments.tune import tune
from aanmf.experiments.tuned import Tuned
from aanmf.list_evaluation import rank_test_users
from aanmf.metrics import metric_of, per_user
from aanmf.models.catalog import spec_of

METRICS = ["rmse", "ndcg@10", "recall@10", "coverage@10", "popularity@10", "gini@10"]
MAIN = "ndcg@10"
OURS = "aanmf++"
FOR_NEW_ITEMS = ("random", "attribute knn")


@dataclass(frozen=True)
class Table:
    """What one table compares.

    Attributes:
        data: name of the data set.
        protocol: see `aanmf.data.split`.
        seeds: of splits, searches and models.
        relevant: the lowest relevant rating; None: above the mean.
        peers: the only contenders besides AANMF++; None: all but those for new items.
    """

    data: str
    protocol: str
    seeds: tuple[int, ...]
    relevant: float | None = None
    peers: tuple[str, ...] | None = None

    def has(self, name: str) -> bool:
        """Whether a contender takes part; models of ids alone list new items in the order of the table."""
        if name.startswith(OURS):
            return True
        return name not in FOR_NEW_ITEMS if self.peers is None else name in self.peers


TABLES = {
    "ml-100k": Table("ml-100k", "holdout:0.2", (0, 1, 2, 3, 4), 4),
    "ml-1m": Table("ml-1m", "holdout:0.2", (0, 1, 2), 4),
    "by time, per user": Table("ml-100k", "time:0.2", (0,), 4),
    "by time": Table("ml-100k", "time-global:0.2", (0,), 4),
    "new users": Table("ml-1m", "cold-user:0.1", (0, 1), 4),
    "new users, 5 ratings": Table("ml-1m", "cold-user:0.1+5", (0, 1), 4),
    "new users of ml-100k": Table("ml-100k", "cold-user:0.1", (0, 1), 4),
    "new users of ml-100k, 5 ratings": Table("ml-100k", "cold-user:0.1+5", (0, 1), 4),
    "new items": Table("ml-100k", "cold-item:0.1", (0, 1, 2, 3, 4), 4, FOR_NEW_ITEMS),
    "filmtrust": Table("filmtrust", "holdout:0.2", (0, 1, 2, 3, 4)),
    "restaurants": Table("restaurants", "holdout:0.2", (0, 1, 2, 3, 4)),
    "synthetic": Table("synthetic", "holdout:0.2", (0, 1, 2, 3, 4)),
    "long tail": Table("long-tail", "holdout:0.2", (0, 1, 2, 3, 4)),
}


@dataclass(frozen=True)
class Contender:
    """A model of a table.

    Attributes:
        model: its name in the catalogue.
        fixed: settings that are not tuned.
        tuned: whether its other settings are.
        needs: the side whose attributes it needs, if any.
        variants: how the same fit is scored in further rows: arguments of `Recommender.evaluate` by the row's name.
    """

    model: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    tuned: bool = True
    needs: str | None = None
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


CONTENDERS = {
    "random": Contender("random"),
    "popularity": Contender("popularity"),
    "group popularity": Contender("group-popularity", needs="users"),
    "attribute ridge": Contender("ridge", needs="users"),
    "attribute knn": Contender("attribute-knn", needs="items"),
    "item-knn": Contender("item-knn"),
    "ease": Contender("ease", {"dropout": 0.0}),
    "edlae": Contender("ease"),
    "ease + ridge": Contender("ease+ridge", needs="users"),
    "ials": Contender("ials"),
    "bpr": Contender("bpr"),
    OURS: Contender(
        "aanmf++",
        tuned=False,
        variants={
            f"{OURS}, by rating": {"rank_by": "rating"},
            **{f"{OURS}, diversity {d}": {"diversity": d} for d in (0.1, 0.2, 0.3)},
        },
    ),
    f"{OURS}, uniform attention": Contender("aanmf++", {"attention": "uniform"}, tuned=False),
    f"{OURS}, no history": Contender("aanmf++", {"history": False}, tuned=False),
    f"{OURS}, no attributes": Contender("aanmf++", {"attention": False, "item_attributes": False}, tuned=False),
    f"{OURS}, ids only": Contender("aanmf++", tuned=False),
}
DEFAULT = [name for name in CONTENDERS if not name.startswith(f"{OURS},")]
QUICK = ["random", "popularity", "group popularity", "attribute ridge", "attribute knn", "ease", "ease + ridge"]


# ---------------------------------------------------------------- data


def long_tail(n_users: int = 5000, n_items: int = 6000, n_ratings: int = 30_000, seed: int = 0) -> RatingDataset:
    """Five ratings per item on average, most items with one or two; users choose by topic, and topics go with age."""
    rng = np.random.default_rng(seed)
    topics, ages = 20, ["under 20", "20-39", "40-59", "60+"]
    topic, age = rng.integers(topics, size=n_items), rng.integers(len(ages), size=n_users)
    taste = rng.dirichlet(np.full(topics, 0.3), size=len(ages))[age]
    taste = 0.3 * taste + 0.7 * np.stack([rng.dirichlet(20 * row + 0.05) for row in taste])
    known = 1 / np.arange(1, n_items + 1) ** 0.9
    rng.shuffle(known)
    chance = [np.where(topic == t, known, 0) / known[topic == t].sum() for t in range(topics)]
    user = np.sort(rng.choice(n_users, size=n_ratings, p=rng.dirichlet(np.full(n_users, 0.8))))
    wanted = np.array([rng.choice(topics, p=taste[u]) for u in user])
    item = np.empty(n_ratings, np.int64)
    for t in range(topics):
        item[wanted == t] = rng.choice(n_items, size=int((wanted == t).sum()), p=chance[t])
    quality, bias = 0.5 * rng.normal(size=n_items), 0.4 * rng.normal(size=n_users)
    raw = 3.4 + quality[item] + bias[user] + 0.8 * taste[user, topic[item]] + 0.7 * rng.normal(size=n_ratings)
    ratings = pl.DataFrame({"user": user, "item": item, "rating": np.clip(np.round(raw), 1, 5)})
    return RatingDataset.from_frames(
        ratings.unique(["user", "item"], maintain_order=True),
        users=pl.DataFrame({"user": np.arange(n_users), "age": [ages[a] for a in age]}),
        items=pl.DataFrame({"item": np.arange(n_items), "topic": [f"topic {t}" for t in topic]}),
        name="long-tail",
    )


@cache
def dataset(name: str) -> RatingDataset:
    """A data set by name; filmtrust and restaurants lie in the folder that AANMF_DATA names."""
    folder = Path(os.environ.get("AANMF_DATA", "."))
    if name == "long-tail":
        return long_tail()
    if name == "filmtrust":
        return RatingDataset.read(folder / name / "ratings.txt", separator=" ", repeated="last-row")
    if name == "restaurants":
        return RatingDataset.read(
            folder / "restaurant" / "rating_final.csv",
            users=[folder / "restaurant" / f for f in ("userprofile.csv", "usercuisine.csv", "userpayment.csv")],
            items=[folder / "restaurant" / f for f in ("geoplaces2.csv", "chefmozcuisine.csv", "chefmozparking.csv")],
        )
    return load(name)


# ---------------------------------------------------------------- fits


@dataclass(frozen=True)
class Bench:
    """Where results are kept, and how many trials a model gets."""

    out: Path
    trials: int

    @property
    def store(self) -> RunStore:
        """Of runs."""
        return RunStore(self.out / "runs")

    def settings(self, name: str, table: Table, fold: Fold, train: RatingDataset) -> dict[str, Any]:
        """A contender's settings, tuned on the training part of a fold if they are not known yet."""
        contender = CONTENDERS[name]
        fixed = {"seed": fold.seed, **contender.fixed}
        space = {key: each for key, each in spec_of(contender.model).space.items() if key not in fixed}
        if not (contender.tuned and space):
            return fixed
        path = self.out / "settings" / f"{table.data} {table.protocol} {fold.seed}" / f"{name}.toml"
        if not path.exists() or Tuned.read(path).tuning["trials"] < self.trials:
            journal = path.with_suffix(".trials")
            search = {"fixed": contender.fixed, "seed": fold.seed, "metric": MAIN, "protocol": table.protocol}
            tune(train, contender.model, self.trials, journal, **search).write(path)
        return {**fixed, **Tuned.read(path).settings}

    def runs(self, name: str, table: Table, fold: Fold, data: RatingDataset) -> dict[str, Run]:
        """The runs of a contender on one fold by the names of their rows; fits what is not in the store."""
        contender, (train, test) = CONTENDERS[name], fold.of(data)
        model = make_model(contender.model, **self.settings(name, table, fold, train))
        scored = {"metrics": METRICS} | ({} if table.relevant is None else {"relevant": table.relevant})
        jobs = {
            row: job_of(name, model.get_params(), data, fold, table.protocol, table.data, scored={**scored, **more})
            for row, more in ({name: {}} | dict(contender.variants)).items()
        }
        if self.store.missing(jobs.values()):
            given, candidates = fold.given_of(data), candidates_of(table.protocol, test)
            first = fit_and_score(jobs[name], model, train, test, given=given)
            for row, job in jobs.items():
                run = first
                if row != name:
                    scores = model.evaluate(test, **job.scored, candidates=candidates, given=given)
                    run = Run.of(job, scores, n_test=first.n_test, fit_seconds=first.fit_seconds)
                np.save(self.users_file(run), _by_user(model, test, run.scored, candidates, given))
                self.store.put(run)
        return {row: run for row, job in jobs.items() if (run := self.store.get(job))}

    def users_file(self, run: Run) -> Path:
        """Where the main metric of each user of a run is kept, for paired tests over users."""
        folder = self.out / "users"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{run.key}.npy"


def _by_user(
    model: Recommender,
    test: RatingDataset,
    scored: Mapping[str, Any],
    candidates: list[str] | None,
    given: RatingDataset | None,
) -> NDArray[np.float64]:
    """The main metric (U,) of every test user, in the order of the test part's table of users."""
    options = {name: value for name, value in scored.items() if name != "metrics"}
    made = rank_test_users(model.predictor_, test, metric_of(MAIN).k, **options, candidates=candidates, given=given)
    return np.asarray(per_user(made.lists, [MAIN])[MAIN])


# ---------------------------------------------------------------- tables

Found = dict[str, dict[str, list[Run]]]
"""Runs by table and row, one per fold."""


def markdown(found: Found, bench: Bench) -> str:
    """All tables."""
    lines: list[str] = []
    for title, rows in found.items():
        one = next(iter(rows.values()))[0]
        seeds = max(map(len, rows.values()))
        name = title[0].upper() + title[1:]
        lines += [f"## {name}: `{one.source}`, `{one.protocol}`, {seeds} seed{'s' * (seeds > 1)}\n"]
        columns = f"model|NDCG@10|{OURS} minus this|p, users|p, seeds|recall@10|coverage|popularity|Gini|RMSE|fit"
        lines += ["| " + " | ".join(columns.split("|")) + " |"]
        lines += ["|---" * 11 + "|"]
        lines += [_row(name, runs, rows.get(OURS, []), bench) for name, runs in rows.items()]
        lines += [""]
    return "\n".join(lines)


def _row(name: str, runs: list[Run], ours: list[Run], bench: Bench) -> str:
    """A model's means over folds, and how far AANMF++ is ahead."""
    base = {(run.fold, run.seed): run for run in ours}
    pairs = [(base[run.fold, run.seed], run) for run in runs if (run.fold, run.seed) in base]
    ahead = [""] * 3
    if pairs and name != OURS:
        users = [np.concatenate([np.load(bench.users_file(run)) for run in side]) for side in zip(*pairs, strict=True)]
        test = paired_test(*users)
        ahead = [f"{np.mean([a.score(MAIN) - b.score(MAIN) for a, b in pairs]):+.4f}", f"{test.t_p:.2g}", "-"]
        if len(pairs) > 1:
            ahead[2] = f"{paired_test(*zip(*((a.score(MAIN), b.score(MAIN)) for a, b in pairs), strict=True)).t_p:.2g}"
    main = [run.score(MAIN) for run in runs]
    spread = f" ± {statistics.stdev(main):.4f}" if len(main) > 1 else ""
    means = {
        metric: statistics.fmean(values)
        if (values := [run.scores[metric] for run in runs if run.scores[metric] is not None])
        else None
        for metric in METRICS
    }
    shown = [
        f"{means['recall@10']:.4f}",
        f"{means['coverage@10']:.4f}",
        f"{means['popularity@10']:.0f}",
        f"{means['gini@10']:.4f}",
        "-" if means["rmse"] is None else f"{means['rmse']:.4f}",
        f"{statistics.median(run.fit_seconds for run in runs):.1f} s",
    ]
    return "| " + " | ".join([name, f"{statistics.fmean(main):.4f}{spread}", *ahead, *shown]) + " |"


def write(found: Found, bench: Bench) -> None:
    """JSON and Markdown of what is there so far."""
    rows = [
        {"table": title, **run.row(), "model": row, "settings": dict(run.settings)}
        for title, table in found.items()
        for row, runs in table.items()
        for run in runs
    ]
    bench.out.mkdir(parents=True, exist_ok=True)
    (bench.out / "lists.json").write_text(json.dumps(rows, indent=1))
    (bench.out / "lists.md").write_text(markdown(found, bench))


def fill(
    tables: Mapping[str, Table], names: list[str], bench: Bench, say: Callable[[str], object] = sys.stdout.write
) -> Found:
    """Makes the fits that are missing, and writes the tables after each."""
    found: Found = {}
    for title, table in tables.items():
        data = dataset(table.data)
        for fold in folds(data, table.protocol, table.seeds):
            for name in names:
                contender, given = CONTENDERS[name], data
                if not table.has(name) or (contender.needs and not getattr(data, contender.needs).attributes):
                    continue
                if name == f"{OURS}, ids only":
                    given = data.with_attributes(users=[], items=[])
                for row, run in bench.runs(name, table, fold, given).items():
                    found.setdefault(title, {}).setdefault(row, []).append(run)
                    say(f"{title}, seed {fold.seed}, {row}: NDCG@10 {run.score(MAIN):.4f}, {run.fit_seconds:.1f} s\n")
                write(found, bench)
    return found


def main() -> None:
    """Fills the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", default=list(TABLES), choices=TABLES, metavar="TABLE", dest="tables")
    parser.add_argument("--models", nargs="+", choices=CONTENDERS, metavar="MODEL")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/lists"))
    options = parser.parse_args()
    list_peers.register()
    tables = {title: TABLES[title] for title in options.tables}
    trials, names = options.trials, options.models or DEFAULT
    if options.quick:
        trials, names = 2, options.models or QUICK
        tables = {title: replace(table, seeds=table.seeds[:1]) for title, table in tables.items()}
    bench = Bench(options.out, trials)
    sys.stdout.write(markdown(fill(tables, names, bench), bench))


if __name__ == "__main__":
    main()
