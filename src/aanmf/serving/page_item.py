"""Why an item is recommended, as the page shows it: the steps from the base to the prediction, and the attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from aanmf.explanation import Explanation
from aanmf.serving.charts import Axis, Bar, waterfall

STEPS = 10
"""Parts of a prediction that are shown one by one."""
LEAST_WIDTH = 0.25
"""Share of the rating scale that a chart covers at least."""
HARDLY = 0.01
"""Share of the rating scale up to which attributes of the user hardly matter."""
ABOUT = {
    "user attribute": "about {user}",
    "item attribute": "about the item",
    "item": "its mean rating, and what is particular about it",
    "audience": "who rated it, and how",
    "context": "compared with what is usual",
    "user": "what the model has learned beyond the rest",
    "new ratings": "given since training",
}
"""What a part is, behind its name."""
SIDES = {
    "rated item": "ratings",
    "new ratings": "ratings",
    "user": "ratings",
    "user attribute": "attributes",
    "item": "item",
    "item attribute": "item",
    "audience": "item",
    "context": "context",
}
"""Where a part comes from: what the user rated, what else is known about the user, the item, or the context."""


@dataclass(frozen=True)
class Step:
    """One line of a waterfall."""

    kind: str
    what: str
    about: str
    contribution: float
    bar: Bar


@dataclass(frozen=True)
class Weight:
    """Attention on an attribute of the user, for this item and on average over ratings; and what it adds."""

    name: str
    value: str
    attention: float
    mean: float
    contribution: float


def steps(found: Explanation, user: str, scale: tuple[float, float] | None) -> tuple[Axis, list[Step]]:
    """The axis and the lines of a waterfall; beyond STEPS parts the others are one.

    Args:
        found: an explanation with all parts.
        user: as a person reads it.
        scale: of the ratings, which says what is a wide chart; None: the account is on a scale of the model's own.
    """
    parts = found.parts.to_dicts()
    clip = [part for part in parts if part["kind"] == "clip"]
    parts = [part for part in parts if part["kind"] != "clip" and part["contribution"]]
    shown, others = parts[:STEPS], parts[STEPS:]
    rated = [part["contribution"] for part in others if part["kind"] == "rated item"]
    smaller = [part["contribution"] for part in others if part["kind"] != "rated item"]
    shown += [
        {"kind": "rest", "name": f"{len(rest)} {words}", "value": None, "contribution": sum(rest)}
        for rest, words in ((rated, "other ratings"), (smaller, "smaller parts"))
        if rest
    ]
    shown += clip
    values = [float(part["contribution"]) for part in shown]
    least = LEAST_WIDTH * (scale[1] - scale[0]) if scale else max(map(abs, values), default=0.0)
    axis, bars = waterfall(found.base, values, least or 1.0)
    lines = [
        Step(part["kind"], *_worded(part, found, user), value, bar)
        for part, value, bar in zip(shown, values, bars, strict=True)
    ]
    return axis, lines


def weights(found: Explanation, mean: Mapping[str, float]) -> list[Weight]:
    """The attributes of the user that get attention; `mean` is that on average, by name."""
    attended = found.parts.filter(pl.col("attention").is_not_null(), pl.col("kind") != "context")
    rows = attended.sort("name").to_dicts()
    return [Weight(r["name"], r["value"], r["attention"], mean[r["name"]], r["contribution"]) for r in rows]


def hardly_mattered(found: Sequence[Weight], scale: tuple[float, float]) -> bool:
    """Whether all attributes of the user together, and each of them, moved a rating next to nothing."""
    most = HARDLY * (scale[1] - scale[0])
    return all(abs(each.contribution) < most for each in found) and abs(sum(w.contribution for w in found)) < most


def sides(found: Explanation) -> dict[str, float]:
    """What the item, the user's ratings and attributes, the context and the end of the scale add, where they add."""
    sums = dict.fromkeys([*SIDES.values(), "clip"], 0.0)
    for kind, contribution in found.parts.select("kind", "contribution").iter_rows():
        sums[SIDES.get(kind, "clip")] += contribution
    return {
        side: sums[side] for side in ("item", "ratings", "attributes", "context", "clip") if abs(sums[side]) >= 0.005
    }


def _worded(part: Mapping[str, Any], found: Explanation, user: str) -> tuple[str, str]:
    """What a part is called, and what it is."""
    kind, name, value = part["kind"], part["name"], part["value"]
    about = ABOUT.get(kind, "").format(user=user)
    match kind:
        case "rated item":
            return name, f"{value} by {user}"
        case "item":
            return "The item itself" if found.against is None else f"{name} itself", about
        case "audience":
            return f"Its {value}" if found.against is None else f"{value} of {name or found.label or found.item}", about
        case "user":
            return f"{user[:1].upper()}{user[1:]} in general", about
        case "new ratings":
            return f"{value} rating{'s' if value != '1' else ''}", about
        case "rest":
            return name, f"of {user}" if "ratings" in name else ""
        case "clip":
            return "Cut off at the end of the scale", ""
        case _:
            words = (str(each).replace("|", ", ") for each in (name, value) if each is not None)
            return " ".join(words), about or kind
