"""Tables as people write them, damaged tables, and schemas."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from aanmf.data.dataset import RatingDataset
from aanmf.data.schema import Attribute, Schema
from aanmf.errors import AanmfError, DataWarning
from tests.fuzz import Target
from tests.fuzz.folders import NASTY

Row = tuple[str, str, float]
LETTERS = "abcXYZ0123456789éüßжя中の-_.'\"#,;|:\t !?/\\"
NAMES = (("user", "item", "rating"), ("userId", "movieId", "score"), ("User-ID", "ISBN", "Book-Rating"))
SEPARATORS = (",", ";", "\t", "|", "::")
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
CELLS = (
    *(
        "",
        " ",
        "NA",
        "nan",
        "inf",
        "-inf",
        "1e39",
        "1e308",
        "-0",
        "0x1F",
        "1_000",
        "1,5",
        "١٢",
        "½",
        "True",
        "[1]",
        "{}",
    ),
    *("2020-01-01", "\x00", "\ufeff", "\u200b", "\u202e", '"', '""', "'", "a" * 5000, "9" * 400, "=1+1", "\r", "\x1f"),
)


TEXT = (".csv", ".tsv", ".dat", ".data", ".json", ".jsonl")
WHOLE = "whole.csv"
"""Ratings that nobody has damaged, for damaged tables of users and items."""


def targets(place: Path) -> dict[str, Target]:
    """What reads files: written tables, damaged ones, schemas."""
    place.mkdir(parents=True, exist_ok=True)
    files = base_files()
    (place / WHOLE).write_bytes(files["r.csv"])
    return {
        "tables, as meant": Target(written_tables(), lambda case: read_as_meant(place, *case)),
        "tables, damaged": Target(None, lambda draw: read_damaged(place, files, draw)),
        "schemas": Target(schema_texts(), lambda text: read_schema(place, text)),
    }


# -------------------- written in some form, read as it was meant


@st.composite
def written_tables(draw: st.DrawFn) -> tuple[list[Row], str, bytes]:
    """Ratings, the name of a file, and its content."""
    ids = st.text(LETTERS, min_size=1, max_size=5)
    ratings = st.sampled_from(draw(st.sampled_from(((1, 2, 3, 4, 5), (0.5, 1.5, 5), (-10, 0, 7.25), (1, 100)))))
    rows = draw(
        st.lists(
            st.tuples(ids, ids, ratings), min_size=3, max_size=8, unique_by=lambda row: (row[0].strip(), row[1].strip())
        )
    )
    names, ending = draw(st.sampled_from(NAMES)), draw(st.sampled_from(sorted(PACKED)))
    kind = draw(st.sampled_from(("text", "text", "text", "json", "jsonl", "parquet", "arrow")))
    if kind == "text":
        name, content = "r.csv", draw(text_files(names, rows))
    elif kind in ("json", "jsonl"):
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        text = json.dumps(objects) if kind == "json" else "\n".join(map(json.dumps, objects))
        name, content = f"r.{kind}", text.encode()
    else:
        name, content, ending = f"r.{kind}", as_table(pl.DataFrame(rows, schema=list(names), orient="row"), kind), ""
    return rows, name + ending, PACKED[ending](content)


@st.composite
def text_files(draw: st.DrawFn, names: tuple[str, ...], rows: list[Row]) -> bytes:
    """A text file with a header, as some program writes it."""
    separator, out = draw(st.sampled_from(SEPARATORS)), io.StringIO()
    order, extra = draw(st.permutations(range(3))), draw(st.booleans())
    cells = [[*(f"{row[at]:g}" if at == 2 else str(row[at]) for at in order), *(["note"] * extra)] for row in rows]
    header = [*(names[at] for at in order), *(["comment"] * extra)]
    quoting = draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    end = draw(st.sampled_from(("\n", "\r\n")))
    csv.writer(out, delimiter="\x1f", quoting=quoting, lineterminator=end).writerows([header, *cells])
    text = out.getvalue()
    ids = [each for row in rows for each in row[:2]]
    plain = not any("\t" in each or each.lstrip().startswith('"') for each in ids)  # `"0"` is a quoted 0
    if separator == "::" and not (plain and all(":" not in each for each in ids)):  # `a:::b` can be read in two ways
        separator = "\t"
    if separator in ("::", "\t") and plain:  # forms without quotation marks
        text = "".join("\x1f".join(line) + end for line in [header, *cells])
    elif quoting == csv.QUOTE_MINIMAL:
        out = io.StringIO()
        csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end).writerows([header, *cells])
        text = out.getvalue()
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "cp1252", "cp1251", "gb18030")))
    try:
        return text.replace("\x1f", separator).encode(encoding)
    except UnicodeEncodeError:
        return text.replace("\x1f", separator).encode()


def as_table(frame: pl.DataFrame, kind: str) -> bytes:
    """A binary file."""
    out = io.BytesIO()
    (frame.write_parquet if kind == "parquet" else frame.write_ipc)(out)
    return out.getvalue()


def read_as_meant(place: Path, rows: list[Row], name: str, content: bytes) -> str:
    """`as meant`, `refused`, or `told`: other ratings, with a warning."""
    (place / name).write_bytes(content)
    expected = {(user.strip(), item.strip()): rating for user, item, rating in rows}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        try:
            data = RatingDataset.read(place / name)
        except AanmfError:
            return "refused"
        finally:
            (place / name).unlink()
    found = ratings_of(data)
    if found == expected:
        return "as meant"
    assert caught, f"read as {found}, without a word"
    return "told"


def ratings_of(data: RatingDataset) -> dict[tuple[str, str], float]:
    """Ratings by user and item."""
    users, items = data.users.ids.ids, data.items.ids.ids
    return {(users[u], items[i]): float(r) for u, i, r in zip(data.user, data.item, data.rating, strict=True)}


# -------------------- damaged


def base_files() -> dict[str, bytes]:
    """Tables of 40 rows in every form, by name: users, items and ratings, some also with attributes or times."""
    n = range(40)
    frame = pl.DataFrame(
        {
            "user": [f"u{k % 9}" for k in n],
            "item": [f"i{(k * 7) % 10}" for k in n],
            "rating": [float(1 + k % 5) for k in n],
            "age": [20 + k for k in n],
            "genres": ["drama|war" if k % 3 else "comedy" for k in n],
        }
    ).unique(["user", "item"], maintain_order=True)
    ratings, text = frame.select("user", "item", "rating"), frame.write_csv()
    times = ratings.with_columns(timestamp=880_000_000 + 86_400 * pl.int_range(pl.len()))
    files = {
        "r.csv": ratings.write_csv().encode(),
        "u.data": times.write_csv(separator="\t", include_header=False).encode(),
        "times.csv": times.write_csv(separator=";").encode(),
        "t.csv": text.encode(),
        "t.tsv": text.replace(",", "\t").encode(),
        "t.dat": text.replace(",", "::").encode(),
        "t.csv.gz": gzip.compress(text.encode()),
        "wide.csv": text.encode("utf-16"),
        "t.jsonl": frame.write_ndjson().encode(),
        "t.json": frame.write_json().encode(),
    }
    lists = frame.with_columns(pl.col("genres").str.split("|"), vector=pl.concat_list("age", "rating"))
    for kind in ("parquet", "arrow"):
        files |= {f"t.{kind}": as_table(frame, kind), f"lists.{kind}": as_table(lists, kind)}
    return files


def damaged(content: bytes, draw: random.Random, text: bool) -> bytes:
    """Bits, bytes, cells and lines changed."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        if not data:
            break
        at, kind = draw.randrange(len(data)), draw.random()
        if kind < 0.3:
            data[at] ^= 1 << draw.randrange(8)
        elif kind < 0.4:
            del data[at:]
        elif kind < 0.5:
            del data[at : at + draw.choice((1, 2, 10, 100))]
        elif kind < 0.6:
            data[at:at] = data[draw.randrange(len(data)) :][: draw.choice((1, 4, 100))]
        elif kind < 0.7:
            data[at : at + 1] = draw.choice((b"\xff\xff\xff\xff\x0f", b"\xff" * 8, b"\0", b"\x80", b"\r", b"\n"))
        elif text:
            ends = [k for k, byte in enumerate(data) if byte in b",\n\t:"]
            if len(ends) > 1:
                first = draw.randrange(len(ends) - 1)
                data[ends[first] + 1 : ends[first + 1]] = draw.choice(CELLS).encode()
        else:
            data[max(0, len(data) - draw.randrange(1, 900))] = draw.randrange(256)  # in the footer
    return bytes(data)


def read_damaged(place: Path, files: Mapping[str, bytes], draw: random.Random) -> str:
    """`refused` with an error of the library, or `read`: positions and ratings are such."""
    name, role = draw.choice(sorted(files)), draw.choice(("ratings", "ratings", "users", "items"))
    path, whole = place / f"damaged-{name}", place / WHOLE
    path.write_bytes(damaged(files[name], draw, text=name.endswith(TEXT)))
    given: dict[str, Any] = {} if role == "ratings" else {role: path}
    try:
        data = RatingDataset.read(path if role == "ratings" else whole, repeated="last-row", **given)
    except AanmfError:
        return "refused"
    assert len(data) and np.isfinite(data.rating).all()
    for positions, side in ((data.user, data.users), (data.item, data.items)):
        assert positions.min() >= 0 and positions.max() < len(side)
        assert all(side.ids.ids)
    return "read"


# -------------------- schemas

LINES = (
    *(
        "[users]",
        "[items]",
        "[ratings]",
        "[users.age]",
        "[items.genres]",
        "[users.nothing]",
        '[users.""]',
        "[a.b.c]",
        "[[",
    ),
    *(
        'title = "genres"',
        'ignore = ["age"]',
        'ignore = "age"',
        "ignore = 1",
        "ignore = [1]",
        "title = 1",
        "title = []",
    ),
)
KEYS = ("kind", "groups", "cuts", "separator", "missing", "unseen", "name", "x", "age", "title", "ignore")
VALUES = st.one_of(
    st.sampled_from(("numeric", "categorical", "multi-valued", "vector", "label", "ignore", "value", "error", "|")),
    st.sampled_from([each for each in NASTY if each is not None and not isinstance(each, dict)]),
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 50), max_size=4),
)


def schema_texts() -> st.SearchStrategy[str]:
    """TOML, mostly."""
    pairs = st.tuples(st.sampled_from(KEYS), VALUES).map(lambda pair: f"{pair[0]} = {json.dumps(pair[1])}")
    lines = st.lists(st.sampled_from(LINES) | pairs | st.text(max_size=10), max_size=6)
    begun = st.sampled_from(([], ["[users.age]", 'kind = "numeric"'], ["[items.genres]", 'kind = "vector"']))
    return st.tuples(begun, lines).map(lambda case: "\n".join([*case[0], *case[1]]))


FRAME = pl.DataFrame({"user": ["a", "b", "c", "a"], "item": ["x", "y", "x", "y"], "rating": [1.0, 2, 3, 4]})
USERS = pl.DataFrame({"user": ["a", "b", "c"], "age": [20, 30, 40], "genres": ["r|s", "r", "s"]})
ITEMS = pl.DataFrame({"item": ["x", "y"], "age": ["1", "2"], "genres": [[1.0, 2.0], [3.0, 4.0]]})


def read_schema(place: Path, text: str) -> str:
    """`refused` with an error of the library, or `read`."""
    (place / "schema.toml").write_text(text, encoding="utf-8")
    try:
        schema = Schema.read(place / "schema.toml")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            RatingDataset.from_frames(FRAME, users=USERS, items=ITEMS, schema=schema)
            if "=" in text:
                RatingDataset.from_frames(FRAME, users=USERS, schema=Schema(users=(Attribute.parse(text[:50]),)))
    except AanmfError:
        return "refused"
    return "read"
