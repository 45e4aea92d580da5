"""`aanmf data`: what a source holds, and how its columns were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aanmf.cli.options import AsJson, Source, reads_source

if TYPE_CHECKING:
    from aanmf.data.dataset import EntityTable, RatingDataset


@reads_source
def data(source: Source, as_json: AsJson = False) -> None:
    """Show what a source holds: ratings, users, items, and the kind of every attribute."""
    from aanmf.cli.output import cell, emit, facts, out, table

    loaded = source.load()
    found = describe(loaded)
    if as_json:
        emit(found)
        return
    console = out()
    counts = ", ".join(f"{value}: {count:,}" for value, count in found["rating_counts"].items())
    low, high = found["scale"]
    rows = [
        ("source", found["name"]),
        ("ratings", f"{cell(found['ratings'])} from {low:g} to {high:g}, mean {found['mean']:.2f}"),
        *([("of each", counts)] if counts else []),
        ("users", f"{cell(found['users'])} ({cell(found['rated_users'])} with ratings)"),
        ("items", f"{cell(found['items'])} ({cell(found['rated_items'])} with ratings)"),
        ("density", f"{100 * found['density']:.2f} % of all pairs"),
        ("time stamps", found["time_stamps"]),
        ("own splits", ", ".join(found["splits"]) or "none"),
    ]
    console.print(facts(None, rows))
    for side, attributes in found["attributes"].items():
        if attributes:
            heads = ("name", "kind", "values", "missing", "for instance")
            console.print(table(f"Attributes of {side}", heads, [tuple(each.values()) for each in attributes]))
        else:
            console.print(f"No attributes of {side}.")


def describe(data: RatingDataset) -> dict[str, Any]:
    """Counts and attributes of a data set, as plain values."""
    import numpy as np

    values, counts = np.unique(data.rating, return_counts=True)
    low, high = data.scale or (float(values[0]), float(values[-1]))
    users, items = np.unique(data.user), np.unique(data.item)
    few = len(values) <= 10
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "ratings": len(data),
        "scale": [low, high],
        "mean": float(data.rating.mean(dtype=np.float64)),
        "rating_counts": {f"{v:g}": int(c) for v, c in zip(values, counts, strict=True)} if few else {},
        "users": len(data.users),
        "rated_users": len(users),
        "items": len(data.items),
        "rated_items": len(items),
        "density": len(data) / (len(users) * len(items)),
        "time_stamps": data.time is not None,
        "splits": list(data.folds),
        "attributes": {"users": _attributes(data.users), "items": _attributes(data.items)},
        "notices": [*data.users.notices, *data.items.notices],
    }


def _attributes(table: EntityTable) -> list[dict[str, Any]]:
    """Name, kind, number of values, empty cells and examples of every attribute."""
    from aanmf.data.kinds import KINDS

    rows = []
    for each in table.attributes:
        column = table.columns[each.name]
        values, examples = KINDS[each.kind].summarise(column, each)
        found = {"name": each.name, "kind": each.kind.value, "values": values, "missing": column.null_count()}
        rows.append(found | {"examples": examples})
    return rows
