"""`aanmf data`: what a source holds, and how its columns were read."""

from __future__ import annotations

from aanmf.cli.options import AsJson, Source, reads_source


@reads_source
def data(source: Source, as_json: AsJson = False) -> None:
    """Show what a source holds: ratings, users, items, and the kind of every attribute."""
    from aanmf.cli.output import cell, emit, facts, out, table

    loaded = source.load()
    found = loaded.describe()
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
