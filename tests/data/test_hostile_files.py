"""Files that would be read as something else, or that break what reads them: refused, with the file and the reason."""

from __future__ import annotations

import datetime
import gzip
import random
from pathlib import Path

import polars as pl
import pytest

from aanmf.cli import main
from aanmf.data.dataset import RatingDataset
from aanmf.data.schema import Schema
from aanmf.data.stream import stream_dataset
from aanmf.errors import DataError, DataWarning, SchemaError

TRIPLES = [(f"u{n % 7}", f"i{n % 5}", float(n % 5 + 1)) for n in range(35)]
FRAME = pl.DataFrame(TRIPLES, schema=["user", "item", "rating"], orient="row")
WORDS = "item,title,genre\n" + "".join(f"i{n},Amélie {n},{'comédie' if n % 2 else 'drame'}\n" for n in range(5))


def text(header: str, separator: str, user: str = "{}") -> str:
    rows = [separator.join((user.format(u) if n % 2 else u, i, f"{r:g}")) for n, (u, i, r) in enumerate(TRIPLES)]
    return "\n".join([header, *rows, ""])


def test_a_number_among_usual_names_is_a_header(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(text("user,item,2019", ","))
    with pytest.raises(DataError, match="cannot tell which column holds the rating. Available: user, item, 2019"):
        RatingDataset.read(tmp_path / "r.csv")
    assert len(RatingDataset.read(tmp_path / "r.csv", rating="2019")) == 35


def test_quotation_marks_are_no_part_of_an_id(tmp_path: Path) -> None:
    (tmp_path / "r.tsv").write_text(text("user\titem\trating", "\t", '"{}"'))
    assert RatingDataset.read(tmp_path / "r.tsv").users.ids.ids == tuple(f"u{n}" for n in range(7))
    (tmp_path / "r.tsv").write_text(text("user\titem\trating", "\t").replace("u3", '"u3'))  # a mark without its pair
    assert '"u3' in RatingDataset.read(tmp_path / "r.tsv").users.ids.ids


def test_blanks_around_an_id_are_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(text("user,item,rating", ",", " {}"))
    assert len(RatingDataset.read(tmp_path / "r.csv").users) == 7


@pytest.mark.parametrize(
    "rating",
    [
        pl.lit(datetime.date(2020, 1, 1)),
        pl.lit(datetime.timedelta(days=3)),
        pl.lit(b"\xff"),
        pl.lit([1.0]),
        pl.struct(a=1.0),
        pl.lit(1e39),
        pl.lit("1e39"),
    ],
)
def test_what_is_no_rating(rating: pl.Expr) -> None:
    with pytest.raises(DataError, match="column 'rating'"):
        RatingDataset.from_frames(FRAME.with_columns(rating=rating))


@pytest.mark.parametrize("user", [pl.lit(b"\xff"), pl.lit([1]), pl.lit(True), pl.lit(datetime.timedelta(days=3))])
def test_what_is_no_id(user: pl.Expr) -> None:
    with pytest.raises(DataError, match="column 'user' holds .* values; give numbers or text"):
        RatingDataset.from_frames(FRAME.with_columns(user=user))


@pytest.mark.parametrize("role", ["user", "rating", "time"])
def test_a_time_of_day(role: str) -> None:
    frame = FRAME.with_columns(pl.lit(datetime.time(12)).alias(role))
    with pytest.raises(DataError, match=f"column '{role}' holds Time values; give numbers or text"):
        RatingDataset.from_frames(frame)


def test_a_time_of_day_that_is_not_used() -> None:
    with pytest.warns(DataWarning, match="column 'seen' is not used"):
        RatingDataset.from_frames(FRAME.with_columns(pl.lit(datetime.time(12)).alias("seen")))


@pytest.mark.parametrize("words", [WORDS, WORDS.replace("Amélie", "Амели").replace("comédie", "комедия")])
def test_utf_16_is_named(tmp_path: Path, words: str) -> None:
    FRAME.write_csv(tmp_path / "r.csv")
    for encoding in ("utf-16-le", "utf-16-be"):
        (tmp_path / "items.csv").write_bytes(words.encode(encoding))
        with pytest.raises(DataError, match=f"looks like {encoding} without its mark: state encoding="):
            RatingDataset.read(tmp_path / "r.csv", items=tmp_path / "items.csv")
    for encoding in ("utf-16", "utf-32"):  # with their marks
        (tmp_path / "items.csv").write_bytes(words.encode(encoding))
        label = RatingDataset.read(tmp_path / "r.csv", items=tmp_path / "items.csv").items.label(1)
        assert label in ("Amélie 1", "Амели 1")


def test_a_folder_is_named_as_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder: name a file in it, or .*aanmf train"):
        RatingDataset.read(tmp_path)
    with pytest.raises(DataError, match=r"no file matches"):
        RatingDataset.read(tmp_path / "*.parquet")
    with pytest.raises(DataError, match=r"a pattern is read here for Parquet only.*aanmf train"):
        RatingDataset.read(tmp_path / "*.tsv")


def test_a_line_longer_than_csv_expects(tmp_path: Path) -> None:
    """A million columns, and one very long cell, which is read."""
    (tmp_path / "wide.csv").write_text("user,item,rating," + ",".join(f"c{n}" for n in range(10**6)) + "\n")
    with pytest.raises(DataError, match=r"wide\.csv: more than \d\d,\d{3} columns, at most 2,000 are read"):
        RatingDataset.read(tmp_path / "wide.csv")
    FRAME.write_csv(tmp_path / "r.csv")
    (tmp_path / "items.csv").write_text(f"item,title\ni0,{'x' * 150_000}\ni1,y\n")
    assert len(RatingDataset.read(tmp_path / "r.csv", items=tmp_path / "items.csv").items.label(0)) == 150_000


@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson", "ipc"])
def test_too_many_columns_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    wide = FRAME.with_columns(pl.lit(1).alias(f"c{n}") for n in range(3000))
    getattr(wide, f"write_{kind}")(tmp_path / f"r.{kind}")
    with pytest.raises(DataError, match="3,003 columns, at most 2,000 are read"):
        RatingDataset.read(tmp_path / f"r.{kind}")


def test_a_pattern_of_tsv_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(text("user\titem\trating", "\t"))
    assert len(stream_dataset(tmp_path / "*.tsv", tmp_path / "work")) == 35


def test_a_damaged_parquet_file_is_an_error_of_ours(tmp_path: Path) -> None:
    """Until one makes Polars panic, which is no Exception."""
    content, path, panicked, seed = _parquet(tmp_path), tmp_path / "damaged.parquet", False, 0
    while not panicked:
        draw, damaged, seed = random.Random(seed), bytearray(content), seed + 1
        for _ in range(draw.choice((1, 2, 5))):
            damaged[draw.randrange(len(content) - 900, len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            RatingDataset.read(path)
        except DataError as error:
            panicked = isinstance(error.__context__, pl.exceptions.PanicException)


def _parquet(folder: Path) -> bytes:
    FRAME.write_parquet(folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


def test_a_damaged_archive_is_an_error_of_ours(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(FRAME.write_csv().encode()))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "r.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match="r.csv.gz: cannot be read as a table"):
        RatingDataset.read(tmp_path / "r.csv.gz")


def test_lists_in_several_rows_of_the_same_id() -> None:
    users = pl.DataFrame({"user": ["u1", "u1", "u2"], "likes": [["a"], ["b"], None]})
    with pytest.raises(DataError, match="'user' has several rows of the same id, and column 'likes' holds List"):
        RatingDataset.from_frames(FRAME, users=users)


def test_a_table_of_users_without_columns() -> None:
    """Fuzzing found it, in a damaged Arrow file: rows, but no columns."""
    ratings = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "rating": [1, 2]})
    with pytest.raises(DataError, match="the table of users has no columns"):
        RatingDataset.from_frames(ratings, users=pl.DataFrame(height=3))


@pytest.mark.parametrize("kind", [pl.Datetime("ms"), pl.Datetime("us"), pl.Date])
def test_dates_that_no_calendar_has(kind: pl.DataType) -> None:
    """Fuzzing found it, in a damaged Arrow file: Polars panics when it writes such a date."""
    number = 2**31 - 1 if kind == pl.Date else 2**62
    user = pl.Series([number, 1], dtype=pl.Int32 if kind == pl.Date else pl.Int64).cast(kind)
    with pytest.raises(DataError, match="column 'user' holds a date beyond the years 1 to 9999"):
        RatingDataset.from_frames(pl.DataFrame({"user": user, "item": ["x", "y"], "rating": [1, 2]}))


def test_dates_of_every_year_pass() -> None:
    user = pl.Series(["0001-01-01", "9999-12-31"]).str.to_date()
    for kind in (pl.Date, pl.Datetime("ms"), pl.Datetime("us")):
        frame = pl.DataFrame({"user": user.cast(kind), "item": ["x", "y"], "rating": [1, 2]})
        assert len(RatingDataset.from_frames(frame)) == 2


def test_a_number_of_five_thousand_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FRAME.write_csv(tmp_path / "r.csv")
    pl.DataFrame({"user": [f"u{n}" for n in range(7)], "age": list(range(20, 27))}).write_csv(tmp_path / "u.csv")
    command = ["data", str(tmp_path / "r.csv"), "--users", str(tmp_path / "u.csv")]
    assert main([*command, "--attribute", f"age=numeric:{'9' * 5000}"]) == 1
    told = capsys.readouterr().err
    assert "age" in told
    assert len(told) < 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("users = 1", "users must be a table, not 1"),
        ("[users]\nignore = 1", "users.ignore must be a list of names of columns, not 1"),
        ("[users]\nignore = [1]", "users.ignore must be a list"),
        ("[items]\ntitle = []", "items.title must be the name of a column"),
    ],
)
def test_schemas_of_other_types(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "schema.toml").write_text(text)
    with pytest.raises(SchemaError, match=words):
        Schema.read(tmp_path / "schema.toml")


def test_a_column_may_be_called_title(tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text('[items.title]\nkind = "categorical"')
    assert [each.name for each in Schema.read(tmp_path / "schema.toml").items] == ["title"]
