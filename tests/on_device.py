"""What a test of devices runs in a process of its own: models fitted and used on the CPU and on `pretend_device`.

Prints what both gave, and the message of what failed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from aanmf import RatingDataset, Recommender, load_model, make_model
from aanmf.models.catalog import CATALOG
from tests.conftest import small_dataset
from tests.pretend_device import NAME, pretended
from tests.test_context import planted

MEMBERS = {"factors": 4, "epochs": 1, "members": 2, "parts": 2, "l2_candidates": (20.0, 60.0), "validation_cuts": 1}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mf": ("mf", {"epochs": 2}),
    "aanmf": ("aanmf", {"epochs": 2, "dropout": 0.0}),
    "aanmf++": ("aanmf++", MEMBERS),
    "low rank": ("aanmf++", {**MEMBERS, "members": 1, "ridge_items": 5, "ridge_rank": 4, "match_items": 15}),
    "context, aanmf": ("aanmf", {"epochs": 1, "dropout": 0.0, "context": True}),
    "context, aanmf++": ("aanmf++", {**MEMBERS, "members": 1, "l2": 30.0}),
    "bpr": ("bpr", {"epochs": 2}),
}
"""By name: model and settings."""
SLOW: dict[str, tuple[str, dict[str, Any]]] = {
    each: (each, {}) for each in CATALOG if each not in (*CASES, "popularity")
}


def uses(model: Recommender, test: RatingDataset, context: bool) -> dict[str, Callable[[], object]]:
    """By name, as JSON has them."""
    user, (first, second, third) = test.users.ids.ids[1], test.items.ids.ids[2:5]
    told, asked = {second: 5, third: 1}, {"gender": "F"}
    found: dict[str, Callable[[], object]] = {
        "evaluate": lambda: dict(model.evaluate(test)) | dict(model.evaluate(test, ["ndcg@5"])),
        "everyone": lambda: pl.concat(model.recommend_all(3)).to_dicts(),
        "one user": lambda: model.recommend(user, 3).to_dicts(),
        "new ratings": lambda: model.recommend(user, 3, ratings=told).to_dicts(),
        "new user": lambda: model.recommend_for(asked, 3).to_dicts(),
        "new user with ratings": lambda: model.recommend_for(asked, 3, ratings=told).to_dicts(),
        "diversity": lambda: model.recommend(user, 3, diversity=0.5).to_dicts(),
        "similar": lambda: model.similar(first, 3).to_dicts(),
        "explanation": lambda: model.explain(user, first).parts.to_dicts(),
    }
    if model.spec.intervals:
        found["interval"] = lambda: model.recommend(user, 3, ratings=told, interval=0.9).to_dicts()
        found["by low"] = lambda: model.recommend(user, 3, rank_by="low").to_dicts()
        found["match explained"] = lambda: model.explain(user, first, of="match").parts.to_dicts()
        found["without"] = lambda: model.recommend(user, 3, without=[_rated(model, user)]).to_dicts()
    if context:
        given = {"company": "family"}
        found["context"] = lambda: model.recommend(user, 3, rank_by="rating", context=given).to_dicts()
    return found


def _rated(model: Recommender, user: str) -> str:
    at = model.fitted_.users.position(user)
    return model.fitted_.items.ids[int(model.fitted_.rated_by(np.array([at]))[1][0])]


def tried(given: dict[str, Callable[[], object]]) -> dict[str, object]:
    """What each gives, or how it failed."""
    found: dict[str, object] = {}
    for name, use in given.items():
        try:
            found[name] = use()
        except Exception:
            found[name] = traceback.format_exc(limit=-8)
    return found


def used(case: str, device: str) -> dict[str, object]:
    """Fits a model, uses it, saves it, loads it, uses it again and updates it."""
    (name, settings), context = (CASES | SLOW)[case], case.startswith("context")
    data = planted().take(np.arange(0, 3000, 5)) if context else small_dataset()
    train, test = data.split(test=0.2, seed=0)
    try:
        model = make_model(name, device=device, **settings).fit(train)
    except Exception:
        return {"fit": traceback.format_exc(limit=-8)}
    with tempfile.TemporaryDirectory() as place:
        model.save(f"{place}/model")
        loaded = load_model(f"{place}/model", device=device)
    found = {"device": model.predictor_.device.type, **tried(uses(model, test, context))}
    found |= {f"loaded: {use}": each for use, each in tried(uses(loaded, test, context)).items()}
    news = pl.DataFrame({"user": ["someone"] * 2, "item": test.items.ids.ids[:2], "rating": [5.0, 2.0]})
    return found if context else found | tried({"updated": lambda: _updated(loaded, news)})


def _updated(model: Recommender, news: pl.DataFrame) -> object:
    model.update(news)
    return pl.concat(model.recommend_all(3)).to_dicts()


def main() -> None:
    warnings.simplefilter("ignore")
    found = {}
    for case in sys.argv[1:]:
        here = used(case, "cpu")
        with pretended():
            found[case] = {"cpu": here, "device": used(case, NAME)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
