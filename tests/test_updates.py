"""Which way an update takes, and that what it was is known to the next one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from aanmf import AANMFpp, load_model
from aanmf.additions import RATINGS, Additions, grow
from aanmf.models.catalog import CATALOG
from aanmf.recommender import Recommender
from aanmf.training.log import Epoch
from aanmf.updates import Way
from tests.conftest import small_dataset

DATA = replace(small_dataset(), rating=small_dataset().rating.round())


@cache
def fitted(name: str = "aanmf++") -> Recommender:
    assert name == "aanmf++"
    return AANMFpp(factors=2, epochs=4, members=1, parts=2, l2=5.0, simplify_up_to=0).fit(DATA)


def rows(start: int, n: int) -> Additions:
    """Ratings by new users, one each."""
    new = [(f"v{k}", f"i{k % 20}", float(1 + k % 5)) for k in range(start, start + n)]
    return Additions(pl.DataFrame(new, schema=RATINGS, orient="row"))


@pytest.mark.parametrize(
    ("new", "part", "why"),
    [
        (12, 0.0, "1.96% of the ratings came since the last training, at most 2%"),
        (13, 0.25, "2.12% of the ratings came since the last training, more than 2%"),
        (30, 0.25, "4.76%"),
        (33, 0.5, "5.21%"),
        (257, 0.5, "29.99%"),
        (258, 1.0, "30% of the ratings came since the last full fit, more than 30%"),
    ],
)
def test_the_share_of_new_ratings_decides(new: int, part: float, why: str) -> None:
    known = fitted().fitted_
    way = Way.of(CATALOG["aanmf++"], known, grow(known, rows(0, new)), full=False)
    assert way.part == part
    assert why in way.why


def test_a_full_fit_where_it_is_asked_for_or_the_only_way() -> None:
    known = fitted().fitted_
    grown = grow(known, rows(0, 1))
    assert Way.of(CATALOG["aanmf++"], known, grown, full=True) == Way(1, "a full fit was asked for")
    assert Way.of(CATALOG["mf"], known, grown, full=False) == Way(1, "mf has no faster way than a full fit")


def test_updates_add_up(tmp_path: Path) -> None:
    """Ratings wait for a training until there are enough of them, and for a full fit after that."""
    fitted().save(tmp_path / "m")
    model = load_model(tmp_path / "m")
    assert model.add(rows(0, 8)).how == "histories"
    assert model.add(rows(8, 8)).how == "training"  # 16 of 616
    model.save(tmp_path / "m")
    model = load_model(tmp_path / "m")
    assert model.add(rows(16, 4)).how == "histories"  # 4 since then
    assert model.add(rows(20, 210)).how == "training"
    assert model.add(rows(230, 20)).how == "training"
    done = model.add(rows(250, 20))
    assert (done.how, done.why) == ("full", "31% of the ratings came since the last full fit, more than 30%")
    assert model.add(rows(270, 4)).how == "histories"  # and a new count


def test_a_full_update_is_a_fit_of_all_data() -> None:
    model = AANMFpp(factors=2, epochs=1, members=1, parts=2, l2=5.0).fit(DATA)
    data = grow(model.fitted_, rows(0, 3)).data
    done = model.add(rows(0, 3), full=True)
    again = AANMFpp(factors=2, epochs=1, members=1, parts=2, l2=5.0).fit(data)
    assert (done.how, done.ratings) == ("full", 3)
    assert model.predict_data(DATA).tolist() == again.predict_data(DATA).tolist()
    assert model.add(Additions()).how == "none"
    assert model.add(Additions(), full=True).how == "full"


def test_a_new_value_of_ratings_needs_a_full_fit() -> None:
    model, met = AANMFpp(factors=2, epochs=1, members=1, parts=2, l2=5.0).fit(DATA), list[Epoch]()
    half = Additions(pl.DataFrame([("u1", "i19", 4.5)], schema=RATINGS, orient="row"))
    done = model.add(half, on_epoch=met.append)
    assert (done.how, done.why) == ("full", "ratings have values that the model has no level for")
    assert {each.phase for each in met} == {"search", "final"}
    assert model.predict("u1", "i19")["rating"][0] > 0


def test_load_with_is_load_and_add(tmp_path: Path) -> None:
    fitted().save(tmp_path / "m")
    fast, done = AANMFpp.load_with(tmp_path / "m", lambda _: rows(0, 5))
    slow = AANMFpp.load(tmp_path / "m")
    assert slow.add(rows(0, 5)) == done
    assert fast.predict_data(DATA).tolist() == slow.predict_data(DATA).tolist()
    assert fast.chosen_ == slow.chosen_ == fitted().chosen_
    nothing, done = AANMFpp.load_with(tmp_path / "m", lambda _: Additions())
    assert (nothing.is_fitted, done.how) == (False, "none")
