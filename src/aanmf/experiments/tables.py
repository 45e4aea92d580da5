"""Tables 1-5, with the paper's figures beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from aanmf.data.dataset import RatingDataset
from aanmf.data.schema import Kind
from aanmf.experiments import paper
from aanmf.experiments.document import Table
from aanmf.experiments.plan import LABELS, Found
from aanmf.experiments.runs import by_key
from aanmf.experiments.spaces import edges
from aanmf.experiments.statistics import Contrast, Ranking, contrasts, smallest_p


def data_table(sets: Mapping[str, RatingDataset]) -> Table:
    """Table 1: what the data sets hold, by source."""
    rows, notes = [], []
    for source, data in sets.items():
        users, items = len(np.unique(data.user)), len(np.unique(data.item))
        stated = paper.RATINGS_STATED.get(source)
        sparsity = 1 - len(data) / (users * items)
        rows.append((data.name, users, len(data.items), items, len(data), f"{sparsity:.2%}", stated))
        if stated is not None and stated != len(data):
            notes.append(f"The paper gives {data.name} {stated:,} ratings; it has {len(data):,}.")
    columns = ("data", "users", "item ids", "items rated", "ratings", "pairs without rating", "ratings in the paper")
    return Table("table1", "Table 1. The data", columns, tuple(rows), " ".join(notes))


def attribute_table(source: str, data: RatingDataset) -> Table:
    """Table 2: the attributes of users, their values and how many users have each."""
    rows = []
    for name in data.users.names:
        kind = data.users.attribute(name).kind
        if kind is Kind.CATEGORICAL:
            counts = data.users.columns[name].value_counts(sort=True)
            shown = ", ".join(f"{value} {count / len(data.users):.0%}" for value, count in counts.head(8).iter_rows())
            rows.append((name, len(counts), shown + (", ..." if len(counts) > 8 else "")))
        else:
            rows.append((name, str(kind), ""))
    return Table(
        f"table2-{source}",
        f"Table 2. Attributes of users, {data.name}",
        ("attribute", "values", "users who have it"),
        tuple(rows),
    )


def sample_table(source: str, data: RatingDataset) -> Table:
    """Table 3: ratings with their users' attributes beside them, as the model sees them."""
    at = [0, 1, 2, len(data) - 3, len(data) - 2, len(data) - 1]
    names = [name for name in data.users.names if data.users.attribute(name).kind is Kind.CATEGORICAL]
    columns = {name: data.users.columns[name] for name in names}
    codes = {
        name: {value: n for n, value in enumerate(sorted(column.drop_nulls().unique()))}
        for name, column in columns.items()
    }
    rows = []
    for row in at:
        user = int(data.user[row])
        values = [columns[name][user] for name in names]
        shown = [f"{value} ({codes[name][value]})" for name, value in zip(names, values, strict=True)]
        ids = data.users.ids.ids[user], data.items.ids.ids[data.item[row]]
        rows.append((str(row), *ids, float(data.rating[row]), *shown))
    cells = tuple((index, user, item, f"{rating:g}", *rest) for index, user, item, rating, *rest in rows)
    heads = ("row", "user id", "item id", "rating", *names)
    note = "First and last rows in the order of the file; in brackets the code of each value."
    return Table(f"table3-{source}", f"Table 3. The data reorganised, {data.name}", heads, cells, note)


def accuracy(found: Found) -> list[dict[str, Any]]:
    """Table 4 as plain values, a dictionary per model: means and standard deviations over splits."""
    rows = []
    for (model,), runs in by_key(found.splits, "model"):
        mae, rmse = [run.test_mae for run in runs], [run.test_rmse for run in runs]
        stated = paper.TABLE_4.get(found.plan.source, {}).get(model, (None, None))
        tuned = found.plan.tuned(model)
        rows.append(
            {
                "model": model,
                "mae": statistics.fmean(mae),
                "mae_std": statistics.stdev(mae) if len(mae) > 1 else 0.0,
                "rmse": statistics.fmean(rmse),
                "rmse_std": statistics.stdev(rmse) if len(rmse) > 1 else 0.0,
                "splits": len(runs),
                "paper_mae": stated[0],
                "paper_rmse": stated[1],
                "seconds": statistics.fmean(run.seconds for run in runs),
                "trials": tuned.tuning.get("trials", 0),
                "at_edge": sorted(edges(model, tuned.settings)) if tuned.tuning else [],
                "settings": {
                    name: value for name, value in runs[0].job.settings.items() if name not in ("seed", "device")
                },
            }
        )
    return rows


def accuracy_table(found: Found, name: str) -> Table:
    """Table 4."""
    rows = accuracy(found)
    cells = tuple(
        (
            LABELS[row["model"]],
            f"{row['mae']:.4f} ± {row['mae_std']:.4f}",
            f"{row['rmse']:.4f} ± {row['rmse_std']:.4f}",
            row["paper_mae"],
            row["paper_rmse"],
            f"{row['seconds']:.0f}",
            _tuning(row),
        )
        for row in rows
    )
    columns = ("model", "MAE", "RMSE", "MAE, paper", "RMSE, paper", "seconds", "settings")
    splits = min((row["splits"] for row in rows), default=0)
    note = (
        f"Mean ± standard deviation over {splits} splits ({found.plan.profile.protocol}, seeds 0-{splits - 1}), the "
        "same for all models. The number of epochs of each fit is chosen on ratings held out of its training part; "
        "the test part is scored once. Seconds are of one fit. The paper does not name its split."
    )
    return Table(f"table4-{found.plan.source}", f"Table 4. MAE and RMSE, {name}", columns, cells, note, rows)


def _tuning(row: Mapping[str, Any]) -> str:
    if not row["trials"]:
        return "defaults"
    edge = f", at the edge: {', '.join(row['at_edge'])}" if row["at_edge"] else ""
    return f"{row['trials']} trials{edge}"


def paper_rank_table(printed: Ranking, by_rule: Ranking) -> Table:
    """Table 5 as printed, and by the paper's own rule for ties."""
    names, errors = paper.errors()
    rows: list[tuple[object, ...]] = []
    for at, name in enumerate(names):
        wrong = " (*breaks the rule*)" if (printed.ranks[at] != by_rule.ranks[at]).any() else ""
        rows.append(
            (
                name,
                *(
                    _list(each, digits)
                    for each, digits in ((errors[at], 4), (printed.ranks[at], 1), (by_rule.ranks[at], 1))
                ),
            )
        )
        rows[-1] = (*rows[-1][:2], f"{rows[-1][2]}{wrong}", rows[-1][3])
    rows.append(("average rank", "", _list(printed.average, 3), _list(by_rule.average, 3)))
    rows.append(("Friedman's test", "", *(_friedman(each) for each in (printed, by_rule))))
    for alpha in (0.05, 0.10):
        rows.append((f"Nemenyi, alpha = {alpha:g}", "", *(_nemenyi(each, alpha) for each in (printed, by_rule))))
    columns = ("ACMF, AESR, AANMF+P", "errors", "ranks as printed", f"ranks by its rule (nearer than {paper.TIE} tie)")
    note = (
        "Computed from the paper's own Table 4. Its claim that AANMF+P differs from both others needs a gap of average "
        f"ranks above the critical distance at alpha = .05, which is {by_rule.critical_distance():.3f}; the gaps are "
        f"{printed.average[0] - printed.average[2]:g} and {printed.average[1] - printed.average[2]:g} as printed, "
        f"{by_rule.average[0] - by_rule.average[2]:g} by its rule."
    )
    return Table("table5-paper", "Table 5, the paper's. Ranks of three models", columns, tuple(rows), note)


def rank_table(ranking: Ranking, splits: str) -> Table:
    """Table 5 from our splits: average ranks, and which models differ."""
    order = np.argsort(ranking.average, kind="stable")
    p = ranking.nemenyi_p()
    rows = tuple(
        (
            LABELS[ranking.models[at]],
            float(ranking.average[at]),
            ", ".join(LABELS[worse] for better, worse in ranking.differ() if better == ranking.models[at]) or "-",
        )
        for at in order
    )
    n, k = ranking.ranks.shape
    note = (
        f"Ranks of RMSE over {n} splits ({splits}). Friedman's test: {_friedman(ranking)}. Nemenyi, alpha = .05: q = "
        f"{ranking.q():.3f}, critical distance {ranking.critical_distance():.3f} for {k} models."
    )
    data = [
        {
            "model": model,
            "rank": float(ranking.average[at]),
            "nemenyi_p": dict(zip(ranking.models, p[at].tolist(), strict=True)),
        }
        for at, model in enumerate(ranking.models)
    ]
    return Table(
        "table5-ours",
        "Table 5, ours. Average ranks",
        ("model", "average rank", "better than (Nemenyi)"),
        rows,
        note,
        data,
    )


def contrast_table(source: str, name: str, errors: Mapping[str, Sequence[float]], model: str) -> Table:
    """One model against all others on paired splits: Wilcoxon with Holm's correction."""
    found = contrasts(errors, model)
    rows = tuple(
        (LABELS[each.other], f"{each.difference:+.4f}", f"{each.p:.4f}", f"{each.p_holm:.4f}", verdict(each))
        for each in found
    )
    splits = found[0].splits
    least = smallest_p(splits)
    short = (
        f" With {splits} splits no p-value can be below {least:.3g}, and none below "
        f"{min(1.0, least * len(found)):.3g} after the "
        f"correction: no difference can show here, whatever its size."
        if least * len(found) > 0.05
        else ""
    )
    note = (
        f"Difference of RMSE, {LABELS[model]} minus the other, mean of {splits} splits; p of Wilcoxon's signed-rank "
        f"test, and with Holm's correction for {len(found)} tests. Splits share ratings: read p as a guide.{short}"
    )
    return Table(
        f"table5-{model}-{source}",
        f"{LABELS[model]} against each other model, {name}",
        ("other", "difference", "p", "p, Holm", f"{LABELS[model]} is"),
        rows,
        note,
        [vars(each) for each in found],
    )


def verdict(contrast: Contrast, alpha: float = 0.05) -> str:
    """`better`, `worse` or `not told apart`."""
    if contrast.p_holm >= alpha:
        return "not told apart"
    return "better" if contrast.difference < 0 else "worse"


def map_table(name: str, title: str, mean: pl.DataFrame, spread: pl.DataFrame | None) -> Table:
    """The numbers of a map of Figure 7."""
    columns = mean.columns
    rows = []
    for at in range(mean.height):
        values = [f"{mean[c][at]:.3f}" + (f" ± {spread[c][at]:.3f}" if spread is not None else "") for c in columns[1:]]
        rows.append((mean[columns[0]][at], *values))
    return Table(name, title, tuple(columns), tuple(rows), data=mean.to_dicts())


def _list(values: Any, digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _friedman(ranking: Ranking) -> str:
    return f"chi² = {ranking.friedman_statistic:.2f}, p = {ranking.friedman_p:.2g}"


def _nemenyi(ranking: Ranking, alpha: float) -> str:
    pairs = [f"{LABELS[better]} from {LABELS[worse]}" for better, worse in ranking.differ(alpha)]
    return f"CD = {ranking.critical_distance(alpha):.3f}: parts {'; '.join(pairs) or 'no pair'}"
