"""What notebooks show of each object: well-formed HTML without markup from the data, and what a reader looks for."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import polars as pl
import pytest

from aanmf import AANMF, MF, RatingDataset, cross_validate
from aanmf.attention_map import AttentionMap
from aanmf.data.dataset import Vocabulary
from aanmf.evaluation.cross_validate import CrossValidation
from aanmf.experiments.tuned import Tuned
from aanmf.metrics import Scores
from aanmf.model_html import model_html
from tests.conftest import small_dataset

BAD = "<script>alert('x')</script>"
TAGS = {"div", "strong", "p", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}


class Reader(HTMLParser):
    """Collects the texts; fails where a tag is unknown or not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= {"style", "scope"}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def texts(shown: object) -> list[str]:
    page = shown._repr_html_()  # type: ignore[attr-defined]
    assert "background:" not in page
    assert "color:#" not in page
    return Reader(page).texts


def row_of(cells: list[str], name: str, width: int) -> list[str]:
    """The texts of a row that begins with a name."""
    at = cells.index(name)
    return cells[at : at + width]


@pytest.fixture(scope="module")
def bad() -> RatingDataset:
    """The small data set with markup in its name, ids, titles, attributes and their values."""
    data = small_dataset()
    users, items = data.users, data.items
    attributes = (users.attributes[0].model_copy(update={"name": BAD}), *users.attributes[1:])
    columns = users.columns.rename({"gender": BAD}).with_columns(pl.col(BAD).replace({"F": BAD}))
    users = replace(
        users, columns=columns, attributes=attributes, ids=Vocabulary(f"{BAD}{each}" for each in users.ids.ids)
    )
    genres = pl.Series("genres", [[BAD], ["war"], None] * 7, dtype=pl.List(pl.String))
    items = replace(items, columns=genres.to_frame(), labels=(BAD,) * len(items), notices=(f"column {BAD} left out",))
    return replace(data, users=users, items=items, name=BAD)


@pytest.fixture(scope="module")
def model(bad: RatingDataset) -> AANMF:
    return AANMF(factors=4, epochs=3, l2=7.5).fit(bad)


def test_data_set(small: RatingDataset) -> None:
    found = texts(small)
    assert found[0] == "How small was read"
    assert row_of(found, "ratings", 2) == ["ratings", "600 from 1 to 5, mean 3.26"]
    assert row_of(found, "users", 2) == ["users", "42 (40 with ratings)"]
    assert row_of(found, "times", 2) == ["times", "1970-01-01 to 1970-01-01"]
    assert row_of(found, "gender", 4) == ["gender", "categorical", "2", "4"]
    assert "attributes of users: gender, hobbies, age, voice" in found


def test_data_set_of_choices_and_without_rows(small: RatingDataset) -> None:
    choices = texts(replace(small, has_ratings=False))
    assert row_of(choices, "choices", 2) == ["choices", "600"]
    assert "of each" not in choices
    empty = texts(small.take(small.user[:0]).with_attributes([], []))
    assert row_of(empty, "ratings", 2) == ["ratings", "0"]
    assert "attributes of users: none" in empty


def test_untrained_model() -> None:
    found = texts(MF(factors=4))
    assert found[0] == "MF(factors=4)"
    assert row_of(found, "trained", 2) == ["trained", "no: call fit, or load a saved model"]
    assert row_of(found, "factors", 3) == ["factors", "4", "given"]
    assert row_of(found, "seed", 3) == ["seed", "0", "default"]


def test_trained_model(small: RatingDataset) -> None:
    model = AANMF(factors=4, epochs=3).fit(small)
    found = texts(model)
    assert row_of(found, "trained on", 2)[1] == "small: 600 ratings of 20 items by 40 users"
    assert row_of(found, "user attributes", 2)[1] == "gender, hobbies, age, voice"
    rmse = model.fitted_.training_log.validation_rmse
    assert rmse is not None
    assert f"{rmse:.4f}" in found
    assert row_of(found, "can", 2)[1] == "predict ratings, show attention, be exported"


def test_what_fit_chose_is_shown(model: AANMF) -> None:
    fitted = replace(model.fitted_, training_log=replace(model.fitted_.training_log, chosen={"l2": 70.0, "trust": 0.9}))
    found = Reader(model_html("M()", model.spec, model.config, fitted)).texts
    assert row_of(found, "l2", 3) == ["l2", "70", "chosen by fit"]
    assert row_of(found, "trust", 3) == ["trust", "0.9", "chosen by fit"]


def test_scores() -> None:
    scores = Scores({"rmse": 0.91, "ndcg@10": None, "mine": 2.0}, n=1200)
    found = texts(scores)
    assert row_of(found, "RMSE", 2) == ["RMSE", "0.9100"]
    assert row_of(found, "NDCG@10", 2) == ["NDCG@10", "–"]
    assert row_of(found, "mine", 2) == ["mine", "2.0000"]
    assert row_of(found, "ratings", 2) == ["ratings", "1,200"]
    scores.groups = {BAD: Scores({"rmse": 1.5}, n=3)}
    assert row_of(texts(scores), BAD, 3) == [BAD, "1.5000", "3"]


def test_cross_validation(small: RatingDataset) -> None:
    validation = cross_validate(small, ["mf", "damped-means"], "kfold:3", settings={"mf": {"epochs": 1, "factors": 2}})
    found, (mf, _) = texts(validation), validation.summary
    assert found[0] == "Cross-validation: kfold:3 of small, 3 runs of each model"
    assert row_of(found, "mf", 2)[1] == f"{mf.rmse_mean:.4f} ± {mf.rmse_std:.4f}"
    assert found.count("mf – damped-means") == 2  # RMSE and MAE
    assert sum(text.startswith("kfold:3/") for text in found) == 6
    assert texts(CrossValidation(()))[0] == "Cross-validation: no runs"


def test_attention_map(model: AANMF, bad: RatingDataset) -> None:
    made = model.attention_map(bad)
    table = made.table
    assert made.attributes == [BAD, "hobbies", "age", "voice"]
    found = texts(made)
    expected = [f"{value:.2f}" for value in table.row(by_predicate=pl.col("genres") == "war")[1:-1]]
    assert row_of(found, "war", 6) == ["war", *expected, str(table.filter(pl.col("genres") == "war")["n"][0])]
    assert "rgba(31,95,168,0.60)" in made._repr_html_()
    planted = texts(AttentionMap("genres", table.drop("n")))
    assert "pairs" not in planted
    assert row_of(planted, "war", 5) == ["war", *expected]
    assert texts(AttentionMap("genres", table.clear()))[1:] == ["genres", *made.attributes, "pairs"]


def test_an_attention_map_by_an_attribute_that_users_have_too(bad: RatingDataset) -> None:
    users, items = bad.users, bad.items
    renamed = items.attributes[0].model_copy(update={"name": "hobbies"})
    shared = replace(items, columns=items.columns.rename({"genres": "hobbies"}), attributes=(renamed,))
    data = replace(bad, users=users, items=shared)
    made = AANMF(factors=4, epochs=1).fit(data).attention_map(data, by="hobbies")
    assert made.table.columns == ["hobbies", BAD, "hobbies of users", "age", "voice", "n"]
    assert made.table["hobbies"].to_list() == [BAD, "war"]


def test_tuned_settings() -> None:
    found = texts(Tuned({"l2": 24.0, BAD: BAD}, {"model": "aanmf", "trials": 12, "at_edge": ["l2"]}))
    assert found[0] == "Tuned settings of aanmf"
    assert row_of(found, "l2", 2) == ["l2", "24"]
    assert row_of(found, "trials", 2) == ["trials", "12"]
    assert any(text.endswith("lie beyond: l2") for text in found)
    assert "none: the defaults" in texts(Tuned())


def test_markup_in_data_is_shown_as_text(model: AANMF, bad: RatingDataset) -> None:
    shown = [bad, model, model.attention_map(bad), model.evaluate(bad, group_by=BAD)]
    for each in shown:
        assert any(BAD in text for text in texts(each)), type(each).__name__
    explanation = model.explain(bad.users.ids.ids[0], bad.items.ids.ids[0])._repr_html_()
    assert "<script" not in explanation
    assert "&lt;script" in explanation
