"""Models that learn from the context of ratings, from the outside: planted effects, means, leaks, requests, folders."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aanmf import AANMF, MF, AANMFpp, RatingDataset, load_model, make_synthetic
from aanmf.additions import Additions
from aanmf.cli import main
from aanmf.data.context import ContextTable
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import ConfigError, DataError, SchemaError
from aanmf.recommender import Recommender

EFFECT = np.array([-0.6, 0.0, 0.6])
COMPANY = ("alone", "friends", "family")
START = 1_600_000_000
AANMF_SETTINGS = {"context": True, "factors": 8, "epochs": 15, "batch_size": 100}


@cache
def planted() -> RatingDataset:
    """Company moves ratings, the table does not; some cells are missing; and sessions of one mood, an hour apart."""
    data, rng = make_synthetic(n_users=120, n_items=60, n_ratings=3000, seed=0).data, np.random.default_rng(1)
    company, table, mood = rng.integers(3, size=len(data)), rng.integers(2, size=len(data)), 0.5 * rng.normal(size=1200)
    session = data.user * 10 + rng.integers(10, size=len(data))
    known = [None if rng.random() < 0.2 else COMPANY[each] for each in company]
    columns = pl.DataFrame({"company": known, "table": [f"no. {each}" for each in table]})
    rating = (data.rating + EFFECT[company] + mood[session]).clip(1, 5).astype(np.float32)
    time = START + 3600 * session + rng.integers(60, size=len(data))
    declared = tuple(Attribute(name=name, kind=Kind.CATEGORICAL) for name in columns.columns)
    return replace(data, rating=rating, time=time, context=ContextTable(columns, declared, "timestamp"))


def small(**settings: object) -> AANMFpp:
    return AANMFpp(**{"members": 2, "epochs": 6, "l2": 30.0, "match": False, **settings})


@cache
def fitted(model: str, context: tuple[str, ...] = ("company", "table"), **settings: object) -> Recommender:
    train, _ = planted().split(0.2, seed=0)
    made = small(**settings) if model == "aanmf++" else AANMF(**{**AANMF_SETTINGS, **settings})
    return made.fit(train.with_context(context))


def held_out() -> RatingDataset:
    return planted().split(0.2, seed=0)[1]


def rmse(model: Recommender, data: RatingDataset) -> float:
    found = model.evaluate(data).rmse
    assert found is not None
    return float(found)


@pytest.mark.parametrize("model", ["aanmf++", "aanmf"])
def test_planted_context_is_found(model: str) -> None:
    test = held_out()
    without, with_context = fitted(model, ()), fitted(model)
    assert rmse(with_context, test) < 0.95 * rmse(without, test)
    assert rmse(with_context, test) < 0.95 * rmse(with_context, test.with_context([]))
    each = with_context.predict("1", ["7"] * 3, context=[{"company": company} for company in COMPANY])["rating"]
    assert each.is_sorted()
    assert each[2] - each[0] > 0.5


def test_without_context_the_latent_score_is_the_mean_over_the_training_ratings() -> None:
    model = fitted("aanmf++", ("company",), ordinal=False, members=1, cold=0.0)
    known = model.fitted_.context_table.columns["company"].drop_nulls()
    share = np.array([(known == company).sum() for company in COMPANY])
    model.predictor_.scale = (-99.0, 99.0)  # unclipped
    each = np.stack([model.predict("1", list("12345"), context={"company": company})["rating"] for company in COMPANY])
    usual = model.predict("1", list("12345"))["rating"].to_numpy()
    model.predictor_.scale = model.fitted_.training.scale
    assert usual == pytest.approx((share / share.sum()) @ each, abs=1e-5)


@pytest.mark.parametrize("model", ["aanmf++", "aanmf"])
def test_pairs_lists_and_accounts_agree(model: str) -> None:
    found, asked = fitted(model), {"company": "family", "table": "no. 1"}
    listed = found.recommend("3", 60, seen=True, rank_by="rating", context=asked)
    pairs = found.predict("3", listed["item"].to_list(), context=asked)
    assert listed["rating"].to_numpy() == pytest.approx(pairs["rating"].to_numpy(), abs=1e-4)
    assert listed["rating"].to_list() != found.recommend("3", 60, seen=True, rank_by="rating")["rating"].to_list()
    explained = found.explain("3", listed["item"][5], top=1000, context=asked)
    assert explained.prediction == pytest.approx(listed["rating"][5], abs=1e-4)
    parts = explained.parts.filter(pl.col("kind") == "context")
    assert set(parts["name"]) == {"company", "table"}
    assert set(parts["value"]) == {"family", "no. 1"}
    assert parts["attention"].sum() == pytest.approx(1, abs=1e-5)
    company = parts.row(by_predicate=pl.col("name") == "company", named=True)
    assert company["contribution"] > 0.2
    assert "context" not in found.explain("3", listed["item"][5], top=1000).parts["kind"]
    everyone = pl.concat(found.recommend_all(3, rank_by="rating", context=asked))
    own = found.recommend("3", 3, rank_by="rating", context=asked)
    assert everyone.filter(pl.col("user") == "3")["item"].to_list() == own["item"].to_list()


def test_new_users_and_new_ratings_have_a_context_too() -> None:
    model = fitted("aanmf++")
    for asked in ("5", {"gender": "F"}):
        lists = [model.recommend(asked, 60, ratings={"1": 5, "2": 4}, context={"company": each}) for each in COMPANY]
        assert pl.Series([each["rating"].mean() for each in lists]).is_sorted()
    told = model.predict_for({"gender": "F"}, ["3", "4"], ratings={"1": 5}, interval=0.9, context={"company": "alone"})
    assert (told["low"] < told["rating"]).all()


def test_context_in_which_nothing_is_planted_costs_nothing() -> None:
    test = held_out()
    assert rmse(fitted("aanmf++", ("table",)), test) < rmse(fitted("aanmf++", ()), test) + 0.002


@pytest.mark.parametrize("future", [False, True])
def test_sessions_are_found_by_time(future: bool) -> None:
    test = held_out()
    without, timed = rmse(fitted("aanmf++", ()), test), rmse(fitted("aanmf++", ("timestamp",), future=future), test)
    assert timed < (0.97 if future else 0.985) * without


def test_only_earlier_ratings_count_unless_asked() -> None:
    """Ratings after a time change the prediction at that time only in a model of `future`."""
    train, _ = planted().split(0.2, seed=0)
    at = int(np.median(train.time[train.user == train.user[0]]))  # pyright: ignore[reportOptionalSubscript]
    user = train.users.ids.ids[train.user[0]]
    for future in (False, True):
        model = small(future=future, context=False).fit(train.with_context(["timestamp"]))
        drift = model.module_.drift
        assert drift is not None
        before = model.predict(user, "1", context={"timestamp": at})["rating"][0]
        drift.residual[drift.time >= at] += 1.0
        after = model.predict(user, "1", context={"timestamp": at})["rating"][0]
        assert (before == after) is not future


@pytest.mark.parametrize("model", ["aanmf++", "aanmf"])
def test_altered_test_rows_change_nothing_learned(model: str) -> None:
    """Ratings, contexts and times of the test part are planted with another truth: what is learned stays the same."""
    data, rows = planted(), np.arange(2400)
    test = np.arange(2400, len(data))
    table = data.context.columns.with_columns(
        pl.Series("company", [*data.context.columns["company"][:2400], *["planted"] * len(test)])
    )
    time, rating = data.time.copy(), data.rating.copy()  # pyright: ignore[reportOptionalMemberAccess]
    time[test], rating[test] = START - 10**6, 5
    altered = replace(data, rating=rating, time=time, context=replace(data.context, columns=table))
    found = []
    for each in (data, altered):
        made = small(epochs=2) if model == "aanmf++" else AANMF(**{**AANMF_SETTINGS, "epochs": 2})
        made.fit(each.take(rows))
        assert "planted" not in str(made.fitted_.context)
        found.append({name: value.clone() for name, value in made.module_.state_dict().items()})
    one, other = found
    assert one.keys() == other.keys()
    assert all(bool((one[name] == other[name]).all()) for name in one)


@pytest.mark.parametrize("model", ["aanmf++", "aanmf"])
def test_a_folder_keeps_the_context(model: str, tmp_path: Path) -> None:
    found = fitted(model, ("company", "table", "timestamp"))
    found.save(tmp_path / "model")
    again, test = load_model(tmp_path / "model"), held_out()
    assert again.predict_data(test).tolist() == found.predict_data(test).tolist()
    kept = again.fitted_.training_ratings()
    assert kept is not None
    train = planted().split(0.2, seed=0)[0]
    assert kept.context.columns.equals(train.context.columns)
    assert kept.time is not None
    assert train.time is not None
    assert kept.time.tolist() == train.time.tolist()
    assert kept.with_context(["timestamp"]).context.time == "timestamp"


@pytest.mark.parametrize(
    ("request_", "error", "fault"),
    [
        ({"company": "boss"}, SchemaError, "not among the values of the training data; allowed: 'alone'"),
        ({"mood": 1}, SchemaError, "unknown context 'mood'; this model knows: company, table"),
        ([{"company": "alone"}] * 2, DataError, "2 contexts for 1 pairs"),
    ],
)
def test_requests_that_are_refused(request_: object, error: type[Exception], fault: str) -> None:
    with pytest.raises(error, match=fault):
        fitted("aanmf++").predict("1", "1", context=request_)  # pyright: ignore[reportArgumentType]


def test_models_without_context_say_so() -> None:
    train, _ = planted().split(0.2, seed=0)
    plain = MF(factors=4, epochs=1).fit(train)
    with pytest.raises(ConfigError, match=r"mf does not take a context. Available: aanmf\+\+, aanmf"):
        plain.predict("1", "1", context={"company": "alone"})
    paper = AANMF(factors=4, epochs=1).fit(train)
    with pytest.raises(ConfigError, match="learned from no context: .* with context=True"):
        paper.recommend("1", context={"company": "alone"})
    assert paper.fitted_.context.names == []


def test_context_left_out_by_validation_is_accepted_and_changes_nothing() -> None:
    train, _ = planted().split(0.2, seed=0)
    model = small(context=False).fit(train.with_context(["company", "timestamp"]))
    assert model.predict("1", "1", context={"company": "alone"}).equals(model.predict("1", "1"))
    assert model.explain("1", "1", context={"company": "alone"}).parts.filter(pl.col("kind") == "context").height <= 1


def test_the_command_line_reads_and_asks_in_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, folder = planted(), str(tmp_path / "model")
    sides = (("user", data.users, data.user), ("item", data.items, data.item))
    ids = {name: pl.Series(side.ids.ids)[at] for name, side, at in sides}
    frame = pl.DataFrame({**ids, "rating": data.rating, "timestamp": data.time}).hstack(data.context.columns)
    frame.write_csv(tmp_path / "ratings.csv")
    settings = [f"--set={each}" for each in ("members=1", "cold=0", "epochs=6", "l2=30", "match=false")]
    context = ["--context", "company,timestamp", "--test", "0", "--out", folder]
    assert main(["train", str(tmp_path / "ratings.csv"), *context, *settings]) == 0
    pair, rating = ["--user", "1", "--item", "7"], dict[str, float]()
    capsys.readouterr()
    for company in COMPANY:
        asked = ["--context", f"company={company},timestamp=2020-09-13 12:30", "--json"]
        assert main(["predict", folder, *pair, *asked]) == 0
        rating[company] = json.loads(capsys.readouterr().out)["predictions"][0]["rating"]
        assert main(["recommend", folder, "--user", "1", "--rank-by", "rating", *asked]) == 0
        capsys.readouterr()
        assert main(["explain", folder, *pair, "--top", "1000", *asked]) == 0
        parts = json.loads(capsys.readouterr().out)["parts"]
        assert "company" in {part["name"] for part in parts if part["kind"] == "context"}
    assert rating["alone"] < rating["friends"] < rating["family"]
    assert main(["predict", folder, *pair, "--context", "company"]) != 0
    assert "--context: 'company' is not name=value" in " ".join(capsys.readouterr().err.split())


def test_an_update_with_context_is_a_fit_on_all_ratings() -> None:
    """Old ratings keep their context, changed and new ones bring theirs; what lacks is missing, but not the time."""
    train, _ = planted().split(0.2, seed=0)
    users, items = train.users.ids.ids, train.items.ids.ids
    model = small(epochs=2).fit(train)
    known = (users[train.user[5]], items[train.item[5]])
    new = pl.DataFrame(
        {
            "user": ["somebody", known[0], "somebody"],
            "item": [items[0], known[1], items[1]],
            "rating": [5.0, 1.0, 2.0],
            "company": ["family", "alone", None],
            "timestamp": [START, START + 7, START + 9],
            "note": ["a", "b", "c"],
        }
    )
    with pytest.raises(
        DataError, match=r"from the time of ratings \(timestamp\), and these have none: .*--time-column"
    ):
        model.update(new.drop("timestamp"))
    done = model.update(new)
    assert (done.how, done.ratings) == ("full", 3)
    assert "context of ratings is fitted again" in done.why
    after = model.fitted_.training_ratings()
    assert after is not None
    assert len(after) == len(train) + 2
    company, table = (after.context.columns[name] for name in ("company", "table"))
    assert after.time is not None
    assert train.time is not None
    assert [company[5], *company[-2:]] == ["alone", "family", None]
    assert table[-2:].to_list() == [None, None]
    assert after.time[[5, -2, -1]].tolist() == [START + 7, START, START + 9]
    others = np.delete(np.arange(len(train)), 5)
    assert company[others].equals(train.context.columns["company"][others])
    assert (after.time[others] == train.time[others]).all()
    again = small(epochs=2).fit(after)
    asked = {"company": "family", "timestamp": START + 50}
    here, there = (each.predict("somebody", items[:9], context=asked)["rating"] for each in (model, again))
    np.testing.assert_allclose(here, there, atol=1e-6)


def test_a_model_of_times_alone_is_updated_from_its_folder(tmp_path: Path) -> None:
    train, _ = planted().split(0.2, seed=0)
    small(epochs=1).fit(train.with_context(["timestamp"])).save(tmp_path / "model")
    model = load_model(tmp_path / "model")
    new = pl.DataFrame({"user": ["new"], "item": ["1"], "rating": [5.0], "timestamp": [START]})
    assert model.update(new).how == "full"
    assert model.fitted_.context.names == model.fitted_.context_table.names == ["timestamp"]
    model.predict("new", "2", context={"timestamp": START + 9})


def test_an_update_without_new_ratings_forgets_users() -> None:
    train, _ = planted().split(0.2, seed=0)
    model = small(epochs=2).fit(train)
    before = model.fitted_.context_table
    model.add(Additions(forgotten=("1",)))
    kept = model.fitted_
    assert len(kept.context_table) == len(kept.training.train) < len(before)
    assert kept.training.train.context is not None
