"""`aanmf data`: what a source holds, and how its columns were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aanmf.cli.options import AsJson, Source, reads_source

if TYPE_CHECKING:
    import polars as pl

    from aanmf.data.dataset import EntityTable, RatingDataset
    from aanmf.data.schema import Attribute


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
    spread = ", ".join(f"{value}: {count:,}" for value, count in found["rating_counts"].items())
    low, high = found["scale"]
    console.print(
        facts(
            None,
            [
                ("source", found["name"]),
                ("ratings", f"{cell(found['ratings'])} from {low:g} to {high:g}, mean {found['mean']:.2f}"),
                *([("of each", spread)] if spread else []),
                ("users", f"{cell(found['users'])} ({cell(found['rated_users'])} with ratings)"),
                ("items", f"{cell(found['items'])} ({cell(found['rated_items'])} with ratings)"),
                ("density", f"{100 * found['density']:.2f} % of all pairs"),
                ("time stamps", found["time_stamps"]),
                ("own splits", ", ".join(found["splits"]) or "none"),
            ],
        )
    )
    for side in ("users", "items"):
        rows = [
            (each["name"], each["kind"], each["values"], each["missing"], each["examples"])
            for each in found["attributes"][side]
        ]
        if rows:
            title = f"Attributes of {side}"
            console.print(table(title, ("name", "kind", "values", "missing", "for instance"), rows))
        else:
            console.print(f"No attributes of {side}.")


def describe(data: RatingDataset) -> dict[str, Any]:
    """Counts and attributes of a data set, as plain values."""
    import numpy as np

    if len(data) == 0:
        raise AssertionError("readers refuse empty tables")
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
    return [_attribute(attribute, table.columns[attribute.name]) for attribute in table.attributes]


def _attribute(attribute: Attribute, column: pl.Series) -> dict[str, Any]:
    from aanmf.data.schema import Kind

    known = column.drop_nulls()
    described: dict[str, Any] = {
        "name": attribute.name,
        "kind": attribute.kind.value,
        "values": None,
        "missing": column.null_count(),
        "examples": "",
    }
    match attribute.kind:
        case Kind.CATEGORICAL | Kind.MULTIVALUED:
            labels = (known.explode().drop_nulls() if known.dtype.is_nested() else known).value_counts(sort=True)
            described["values"] = labels.height
            described["examples"] = ", ".join(labels[labels.columns[0]].head(4).to_list())
        case Kind.NUMERIC:
            described["values"] = known.n_unique()
            if len(known):
                low, high = float(known.min()), float(known.max())  # type: ignore[arg-type]
                grouped = attribute.groups is not None or attribute.cuts is not None
                described["examples"] = f"{low:g} to {high:g}, {'in groups' if grouped else 'standardised'}"
        case Kind.VECTOR:
            described["examples"] = f"{len(known[0])} numbers each" if len(known) else ""
    return described
