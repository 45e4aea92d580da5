"""`aanmf export`: a model for use without this library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aanmf.cli.options import AsJson, ModelFolder
from aanmf.cli.output import emit, err, facts, out
from aanmf.errors import ConfigError


def export(
    folder: ModelFolder,
    onnx: Annotated[
        Path | None,
        typer.Option(
            "--onnx",
            metavar="FILE.onnx",
            help="Write a self-contained ONNX file that turns positions of users and items into ratings.",
        ),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            "--tables", metavar="DIR", help="Write users.parquet and items.parquet with id, bias and embedding."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as ONNX, or what it learned of users and items as Parquet tables.

    The ONNX file is compared with the model's own predictions before it is kept.
    """
    from aanmf.export import BATCHES, export_onnx, export_tables
    from aanmf.recommender import load_model

    if onnx is None and tables is None:
        raise ConfigError("export needs --onnx FILE.onnx, --tables DIR, or both")
    model = load_model(folder, device="cpu")
    found: dict[str, Any] = {"model": repr(model), "onnx": None, "tables": None}
    lines: list[tuple[str, object]] = [("model", found["model"])]
    if onnx is not None:
        with err().status(f"writing and checking {onnx}"):
            file = export_onnx(model, onnx)
        found["onnx"] = {
            "path": str(file.path),
            "bytes": file.size,
            "largest_difference": file.difference,
            "batches": list(BATCHES),
        }
        sizes = ", ".join(f"{each:,}" for each in BATCHES)
        lines += [
            ("ONNX", f"{file.path}, {file.size / 1e6:.1f} MB"),
            ("checked", f"batches of {sizes}: ratings differ by {file.difference:.1g} at most"),
        ]
    if tables is not None:
        with err().status(f"writing {tables}"):
            written = export_tables(model, tables)
        found["tables"] = {name: str(path) for name, path in written.items()}
        lines += [(f"table of {name}", path) for name, path in written.items()]
    if as_json:
        emit(found)
    else:
        out().print(facts(None, lines))
