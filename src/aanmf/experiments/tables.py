"""Tables 1-5, with the paper's results next to ours."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from aanmf.data.dataset import RatingDataset
from aanmf.data.kinds import KINDS
from aanmf.evaluation.significance import Contrast, Ranking, contrasts, nemenyi_q, smallest_p
from aanmf.experiments import paper
from aanmf.experiments.document import Table
from aanmf.experiments.jobs import grouped
from aanmf.experiments.plan import Found, label_of
from aanmf.metrics import METRICS
from aanmf.models.catalog import spec_of


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
    for attribute in data.users.attributes:
        kind, column = KINDS[attribute.kind], data.users.columns[attribute.name]
        if kind.has_labels:
            counts = (column.explode() if kind.is_list else column).drop_nulls().value_counts(sort=True)
            shown = [f"{value} {count / len(data.users):.0%}" for value, count in counts.head(8).iter_rows()]
            rows.append((attribute.name, len(counts), ", ".join([*shown, "..."] if len(counts) > 8 else shown)))
        else:
            rows.append((attribute.name, str(attribute.kind), kind.summarise(column, attribute)[1]))
    columns = ("attribute", "values", "users who have it")
    return Table(f"table2-{source}", f"Table 2. Attributes of users, {data.name}", columns, tuple(rows))


def sample_table(source: str, data: RatingDataset) -> Table:
    """Table 3: ratings with their users' attributes, as the model receives them."""
    kinds = {attribute.name: KINDS[attribute.kind] for attribute in data.users.attributes}
    names = [name for name, kind in kinds.items() if kind.has_labels and not kind.is_list]
    codes = {name: sorted(data.users.columns[name].drop_nulls().unique()) for name in names}
    rows = []
    for row in (0, 1, 2, len(data) - 3, len(data) - 2, len(data) - 1):
        user, item = int(data.user[row]), int(data.item[row])
        values = {name: data.users.columns[name][user] for name in names}
        shown = [None if value is None else f"{value} ({codes[name].index(value)})" for name, value in values.items()]
        ids = data.users.ids.ids[user], data.items.ids.ids[item]
        rows.append((str(row), *ids, f"{data.rating[row]:g}", *shown))
    columns = ("row", "user id", "item id", "rating", *names)
    note = "First and last rows in the order of the file; in brackets the code of each value."
    return Table(f"table3-{source}", f"Table 3. The data reorganised, {data.name}", columns, tuple(rows), note)


def accuracy_table(found: Found, name: str) -> Table:
    """Table 4: mean and standard deviation of every metric over splits, the paper's first."""
    stated = paper.TABLE_4.get(found.plan.source, {})
    metrics = [*paper.METRICS, *(metric for metric in METRICS if metric not in paper.METRICS)]
    rows, cells = [], []
    for model, runs in grouped(found.splits, "model").items():
        row: dict[str, Any] = {"model": model}
        for metric in metrics:
            scores = [run.score(metric) for run in runs]
            row[metric], row[f"{metric}_std"] = statistics.fmean(scores), float(np.std(scores, ddof=len(scores) > 1))
        row["splits"] = len(runs)
        row |= {f"paper_{metric}": stated.get(model, {}).get(metric) for metric in paper.METRICS}
        tuned = found.plan.tuned(model)
        row |= {
            "seconds": statistics.fmean(run.fit_seconds for run in runs),
            "trials": tuned.tuning.get("trials", 0),
            "at_edge": sorted(spec_of(model).edges(tuned.settings)) if tuned.tuning else [],
            "settings": {key: value for key, value in runs[0].settings.items() if key not in ("seed", "device")},
        }
        rows.append(row)
        ours = [f"{row[metric]:.4f} ± {row[f'{metric}_std']:.4f}" for metric in metrics]
        theirs = [row[f"paper_{metric}"] for metric in paper.METRICS]
        cells.append((label_of(model), *ours, *theirs, f"{row['seconds']:.0f}", _tuning(row)))
    labels = [METRICS[metric].label for metric in metrics]
    theirs = [f"{METRICS[metric].label}, paper" for metric in paper.METRICS]
    splits = min((row["splits"] for row in rows), default=0)
    note = (
        f"Mean ± standard deviation over {splits} splits ({found.plan.profile.protocol}, seeds 0-{splits - 1}), the "
        "same for all models. The number of epochs of each fit is chosen on ratings held out of its training part; "
        "the test part is scored once. Seconds are of one fit. The paper does not name its split."
    )
    caption = f"Table 4. {' and '.join(labels)}, {name}"
    columns = ("model", *labels, *theirs, "seconds", "settings")
    return Table(f"table4-{found.plan.source}", caption, columns, tuple(cells), note, rows)


def paper_rank_table(printed: Ranking, by_rule: Ranking) -> Table:
    """Table 5 as printed, and by the paper's own rule for ties."""
    names, errors = paper.errors()
    both, rows = (printed, by_rule), list[tuple[object, ...]]()
    for name, values, shown, ranks in zip(names, errors, printed.ranks, by_rule.ranks, strict=True):
        wrong = " (*breaks the rule*)" if (shown != ranks).any() else ""
        rows.append((name, _list(values, 4), _list(shown, 1) + wrong, _list(ranks, 1)))
    rows.append(("average rank", "", *(_list(ranking.average, 3) for ranking in both)))
    rows.append(("Friedman's test", "", *(_friedman(ranking) for ranking in both)))
    for alpha in (0.05, 0.10):
        rows.append((f"Nemenyi, alpha = {alpha:g}", "", *(_nemenyi(ranking, alpha) for ranking in both)))
    columns = ("ACMF, AESR, AANMF+P", "errors", "ranks as printed", f"ranks by its rule (nearer than {paper.TIE} tie)")
    gaps, ruled = ([ranking.average[at] - ranking.average[2] for at in (0, 1)] for ranking in both)
    note = (
        "Computed from the paper's own Table 4. Its claim that AANMF+P differs from both others needs a gap of average "
        f"ranks above the critical distance at alpha = .05, which is {by_rule.critical_distance():.3f}; the gaps are "
        f"{gaps[0]:g} and {gaps[1]:g} as printed, {ruled[0]:g} by its rule."
    )
    return Table("table5-paper", "Table 5, the paper's. Ranks of three models", columns, tuple(rows), note)


def rank_table(ranking: Ranking, splits: str) -> Table:
    """Table 5 from our splits: average ranks, and which models differ."""
    better = {model: [label_of(worse) for best, worse in ranking.differ() if best == model] for model in ranking.models}
    rank = dict(zip(ranking.models, ranking.average.tolist(), strict=True))
    order = sorted(ranking.models, key=lambda model: rank[model])
    rows = tuple((label_of(model), rank[model], ", ".join(better[model]) or "-") for model in order)
    n, k = ranking.ranks.shape
    note = (
        f"Ranks of RMSE over {n} splits ({splits}). Friedman's test: {_friedman(ranking)}. Nemenyi, alpha = .05: q = "
        f"{nemenyi_q(k):.3f}, critical distance {ranking.critical_distance():.3f} for {k} models."
    )
    data = [
        {"model": model, "rank": rank[model], "nemenyi_p": dict(zip(ranking.models, p.tolist(), strict=True))}
        for model, p in zip(ranking.models, ranking.nemenyi_p(), strict=True)
    ]
    columns = ("model", "average rank", "better than (Nemenyi)")
    return Table("table5-ours", "Table 5, ours. Average ranks", columns, rows, note, data)


def contrast_table(source: str, name: str, errors: Mapping[str, Sequence[float]], model: str) -> Table:
    """One model against all others on paired splits: Wilcoxon with Holm's correction."""
    found, label = contrasts(errors, model), label_of(model)
    rows = tuple(
        (label_of(each.other), f"{each.difference:+.4f}", f"{each.p:.4f}", f"{each.p_holm:.4f}", verdict(each))
        for each in found
    )
    splits = found[0].splits
    least, corrected = smallest_p(splits), smallest_p(splits) * len(found)
    note = (
        f"Difference of RMSE, {label} minus the other, mean of {splits} splits; p of Wilcoxon's signed-rank "
        f"test, and with Holm's correction for {len(found)} tests. Splits share ratings: read p as a guide."
    )
    if corrected > 0.05:
        note += (
            f" With {splits} splits no p-value can be below {least:.3g}, and none below {min(1.0, corrected):.3g} "
            "after the correction: no difference can show here, whatever its size."
        )
    columns, caption = (
        ("other", "difference", "p", "p, Holm", f"{label} is"),
        f"{label} against each other model, {name}",
    )
    return Table(f"table5-{model}-{source}", caption, columns, rows, note, [vars(each) for each in found])


def verdict(contrast: Contrast, alpha: float = 0.05) -> str:
    """`better`, `worse` or `not told apart`."""
    if contrast.p_holm >= alpha:
        return "not told apart"
    return "better" if contrast.difference < 0 else "worse"


def _tuning(row: Mapping[str, Any]) -> str:
    if not row["trials"]:
        return "defaults"
    edge = f", at the edge: {', '.join(row['at_edge'])}" if row["at_edge"] else ""
    return f"{row['trials']} trials{edge}"


def _list(values: Iterable[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _friedman(ranking: Ranking) -> str:
    return f"chi² = {ranking.friedman_statistic:.2f}, p = {ranking.friedman_p:.2g}"


def _nemenyi(ranking: Ranking, alpha: float) -> str:
    pairs = [f"{label_of(better)} from {label_of(worse)}" for better, worse in ranking.differ(alpha)]
    return f"CD = {ranking.critical_distance(alpha):.3f}: parts {'; '.join(pairs) or 'no pair'}"
