"""The sections of the report: which tables and figures stand where, and the text around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aanmf.data.synthetic import planted
from aanmf.evaluation.significance import Ranking
from aanmf.experiments import claims, figures, paper, tables
from aanmf.experiments.document import Block, Figure, Heading, Table, Text
from aanmf.experiments.jobs import dataset
from aanmf.experiments.plan import MODELS, Found, Plan, label_of
from aanmf.recommender import make_model
from aanmf.versions import versions

TITLE = "Attribute-aware Attentional Neural Matrix Factorization: the experiment rerun"
PAPER_SAYS = {
    "fig4": "AANMF's curves lie under those of SVD++ and NFM; the neural models start with a higher test error and "
    "keep falling.",
    "fig5": "AANMF is lowest throughout; every curve falls and then rises. Mean gain of the neural models over SVD++: "
    "4.5 % on ML-100K, 6.5 % on ML-1M.",
    "fig6": "AANMF+P stands apart from ACMF and AESR. By the paper's own numbers it does not at alpha = .05: the "
    "upper diagram.",
    "fig7": "Action weights gender most, animation age; occupation is always the darkest row. White is high.",
}
"""What its figures show; they are not printed here."""


def report_blocks(found: Sequence[Found], folder: Path, command: str) -> tuple[list[Block], list[claims.Claim]]:
    """The whole report, and the claims it ends in.

    Args:
        found: the runs of each data set.
        folder: where figures are drawn.
        command: what to note as the report's origin.
    """
    items = set(found[0].plan.items)
    blocks: list[Block] = [Heading(TITLE, 1), *_preface(found, command)]
    if items & {"table1", "table2", "table3"}:
        blocks += [Heading("Data"), *_data(items, found)]
    if items & {"fig4", "fig5"}:
        blocks.append(Heading("RQ1: against the traditional attribute-aware models"))
        blocks += [block for each in found for block in _against_traditional(each, folder)]
    if items & {"table4", "table5", "fig6"}:
        blocks += [Heading("RQ2: against other methods"), *_against_others(items, found, folder)]
    if "fig7" in items:
        blocks.append(Heading("RQ3: what the attention shows"))
        blocks += [block for each in found for block in _attention(each, folder)]
    examined = [claim for each in found for claim in claims.examine(each, _name(each), planted())]
    printed, by_rule = papers_rankings()
    examined.append(claims.the_papers_own(by_rule, printed))
    examined.sort(key=lambda claim: claim.question)
    return [*blocks, Heading("The paper's claims"), *_claims(examined)], examined


def papers_rankings() -> tuple[Ranking, Ranking]:
    """From the paper's Table 4: ranks as it prints them, and by its own rule for ties."""
    _, errors = paper.errors()
    return Ranking.of_ranks(paper.RANKED, paper.TABLE_5), Ranking.of_errors(paper.RANKED, errors, paper.TIE)


def _name(found: Found) -> str:
    return paper.NAMES.get(found.plan.source, found.plan.source)


def _preface(found: Sequence[Found], command: str) -> list[Block]:
    profile = found[0].plan.profile
    made = f"Made by `{command}`; " if command else "Made with "
    notes = (
        made + ", ".join(f"{name} {text}" for name, text in versions().items()) + ".",
        "Early stopping and all settings: on ratings held out of training parts. The test part of a split is scored "
        "once per fit, when training is over.",
        "Settings were tuned, where the tables say so, on the training part of one split (`holdout:0.2`, seed 0); "
        "test parts of other splits overlap with it. No fit sees a test rating of its own split.",
        "Every fit is a file in `runs/`: model, settings, seed, hash of the split, errors, epochs, seconds, versions.",
    )
    limits = ", ".join(f"{most} {name}" for name, most in profile.limits.items())
    quick = (
        f"*This is a quick report*: {profile.splits} splits, at most {limits}. It shows that everything works; for "
        "reliable results leave out `--quick`."
    )
    return [*([Text(quick)] if profile.name == "quick" else []), Text("", notes)]


def _data(items: set[str], found: Sequence[Found]) -> list[Block]:
    sets = {each.plan.source: dataset(each.plan.source) for each in found}
    blocks: list[Block] = [tables.data_table(sets)] if "table1" in items else []
    for source, data in sets.items():
        blocks += [tables.attribute_table(source, data)] if "table2" in items else []
        blocks += [tables.sample_table(source, data)] if "table3" in items else []
    return blocks


def _against_traditional(found: Found, folder: Path) -> list[Block]:
    name, strengths, blocks = _name(found), found.plan.profile.strengths, list[Block]()
    if found.curves:
        figures.learning_curves(name, found.curves, folder)
        caption = (
            f"Figure 4, {name}. Training and test error of the weights after each epoch, split seed 0. The number of "
            "epochs was fixed before; both errors were measured after training, from the weights that each epoch "
            "left, and nothing was chosen by them. The first epoch may lie above the scale. {compared_in(found.plan)}"
        )
        blocks.append(Figure(f"fig4-{figures.slug(name)}", caption, PAPER_SAYS["fig4"]))
    if found.factors:
        figures.factor_curves(name, found.factors, folder)
        multiples = ", ".join(f"{strength:g}" for strength in strengths)
        chosen = (
            f"l2 was chosen for each on validation ratings, among {multiples} times the tuned one."
            if len(strengths) > 1
            else "All other settings stay as tuned; with other numbers of factors another l2 may suit better."
        )
        caption = (
            f"Figure 5, {name}. Test error against the number of latent factors, split seed 0. {chosen} "
            f"{compared_in(found.plan)}"
        )
        blocks.append(Figure(f"fig5-{figures.slug(name)}", caption, PAPER_SAYS["fig5"]))
    return blocks


def compared_in(plan: Plan) -> str:
    """What the models of Figures 4 and 5 know, and how large they are."""
    described: list[str] = []
    for model in paper.CURVES:
        settings = make_model(model, **plan.settings(model)).get_params()
        knows = "ids alone" if settings.get("attributes") is False else "ids and user attributes"
        layers = f", dense layers of {', '.join(map(str, settings['layers']))}" if settings.get("layers") else ""
        described.append(f"{label_of(model)} {knows}{layers}")
    return f"What each knows: {'; '.join(described)}. SVD++ also knows which items a user rated."


def _against_others(items: set[str], found: Sequence[Found], folder: Path) -> list[Block]:
    blocks: list[Block] = [tables.accuracy_table(each, _name(each)) for each in found if "table4" in items]
    printed, by_rule = papers_rankings()
    rmse = [each.scores("rmse") for each in found]
    ours = Ranking.of_errors(MODELS, [row for scores in rmse for row in zip(*map(scores.get, MODELS), strict=True)])
    described = ", ".join(f"{each.plan.profile.splits} of {_name(each)}" for each in found)
    if "table5" in items:
        blocks += [tables.paper_rank_table(printed, by_rule), tables.rank_table(ours, described)]
        for each, scores in zip(found, rmse, strict=True):
            for model in ("aanmf+p", "aanmf++"):
                blocks.append(tables.contrast_table(each.plan.source, _name(each), scores, model))
    if "fig6" in items:
        panels = {
            "The paper's ranks: data sets and metrics, 4 rows": printed,
            f"Our ranks of RMSE: splits, {described}": ours,
        }
        figures.critical_distance(panels, folder / "fig6")
        caption = (
            "Figure 6. Average ranks, the best at the left; bars join models whose ranks differ by less than the "
            "critical distance of Nemenyi's test at alpha = .05."
        )
        blocks.append(Figure("fig6", caption, PAPER_SAYS["fig6"]))
    return blocks


def _attention(found: Found, folder: Path) -> list[Block]:
    name, truth = _name(found), planted()
    figures.attention_maps(
        name, found.attention(), folder, truth if found.plan.source.startswith("synthetic") else None
    )
    caption = (
        f"Figure 7, {name}. Mean attention on the attributes of users by genre, over the test ratings of each fit (an "
        "item of several genres counts for each) and over fits, with the standard deviation between fits. White is "
        "high."
    )
    blocks: list[Block] = [Figure(f"fig7-{figures.slug(name)}", caption, PAPER_SAYS["fig7"])]
    if found.planted:
        figures.attention_maps("synthetic ratings", found.planted, folder, truth)
        caption = (
            "Figure 7, synthetic ratings. How far such a map can be trusted: AANMF on ratings that were drawn with a "
            "known attention, above, and what it found, below."
        )
        blocks.append(Figure("fig7-synthetic-ratings", caption))
    return blocks


def _claims(examined: Sequence[claims.Claim]) -> list[Block]:
    verdicts = [claim.verdict for claim in examined]
    count = {verdict: verdicts.count(verdict) for verdict in ("held", "not held", "depends")}
    said = ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number)
    rows = tuple((claim.question, claim.claim, claim.data, claim.verdict, claim.found) for claim in examined)
    columns = ("", "the paper says", "on", "verdict", "we found")
    rules = (
        "A claim about several cases (epochs, numbers of factors, genres, fits) is *held* when it is so in all of "
        "them, *not held* when in none, and *depends* otherwise. A percentage is held when it is reached within half "
        "a point, depends when the gain is smaller, not held when there is none. A comparison of errors is held when "
        "the model is better with p < .05 (Wilcoxon, Holm), not held when it is worse on average, and depends "
        "otherwise."
    )
    slips = (
        f"Table 1 gives ML-1M {paper.RATINGS_STATED['ml-1m']:,} ratings; it has 1,000,209.",
        "Table 5, row ML-100K RMSE: .9186 and .9176 are nearer than .01 and tie by the paper's own rule.",
        "Eq 8 prints RMSE without its outer root; here it is the square root of the mean squared error.",
    )
    table = Table("claims", f"{len(examined)} claims: {said}", columns, rows)
    return [table, Text(rules), Text("Slips in the paper, which are not copied here:", slips)]
