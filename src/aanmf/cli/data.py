"""`aanmf data`: what a source holds, and how its columns were read."""

from __future__ import annotations

from aanmf.cli.options import AsJson, Source, reads_source


@reads_source
def data(source: Source, as_json: AsJson = False) -> None:
    """Show how a source is read: what each column is used for, ranges, missing and unlikely values."""
    from aanmf.cli.output import emit, facts, out, table
    from aanmf.data.report import HEADS

    report = source.load().report()
    if as_json:
        emit(report.to_dict())
        return
    console = out()
    console.print(facts(None, report.facts()))
    for side, attributes in report.attributes.items():
        if attributes:
            console.print(table(f"Attributes of {side}", HEADS, [each.cells for each in attributes]))
        else:
            console.print(f"No attributes of {side}.")
