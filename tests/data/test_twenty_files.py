"""Raw files as they come, each with one trap: read as meant, refused with a way out, or told in a notice."""

from __future__ import annotations

import gzip
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from aanmf import AANMF, RatingDataset
from aanmf.cli import main
from aanmf.data.stream import stream_dataset
from aanmf.errors import AanmfError, ConfigError, DataError, DataWarning, MissingExtraError

TRIPLES = [(f"u{n % 12}", f"i{(n * 7) % 20}", 1 + n % 5) for n in range(60)]
"""60 ratings of 20 items by 12 users; no pair twice."""
DAY = 86_400
START = 1_500_000_000


class Files:
    """Writes raw files, and reads them with the notices that a Python user sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notices = ""

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def ratings(self, header: str, row: Callable[[int, str, str, int], str]) -> Path:
        """A file with a line for each of `TRIPLES`; without header if that is empty."""
        lines = [row(n, user, item, rating) for n, (user, item, rating) in enumerate(TRIPLES)]
        return self.write("ratings.csv", "\n".join([header, *lines] if header else lines) + "\n")

    def usual(self) -> Path:
        return self.ratings("user,item,rating", lambda n, u, i, r: f"{u},{i},{r}")

    def items(self, header: str, row: Callable[[int], str], n: int = 20) -> Path:
        return self.write("items.csv", "\n".join([header, *(row(k) for k in range(n))]) + "\n")

    def users(self, header: str, row: Callable[[int], str], n: int = 12) -> Path:
        return self.write("users.csv", "\n".join([header, *(row(k) for k in range(n))]) + "\n")

    def read(self, *args: object, **keywords: object) -> RatingDataset:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataWarning)
            data = RatingDataset.read(*args, **keywords)  # type: ignore[arg-type]
        assert len(caught) <= 1, "all notices come in one warning"
        self.notices = str(caught[0].message) if caught else ""
        assert all(notice in self.notices for notice in data.report().notices)
        return data

    def told(self, pattern: str) -> bool:
        return re.search(pattern, self.notices) is not None


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def assert_usual(data: RatingDataset) -> None:
    """The 60 ratings, as written."""
    users, items = data.users.ids.ids, data.items.ids.ids
    assert [(users[u], items[i], r) for u, i, r in zip(data.user, data.item, data.rating, strict=True)] == TRIPLES
    assert data.has_ratings


# ------------------------------------------------------------------- columns of ratings


def test_a_further_column_is_named_with_the_option_that_uses_it(files: Files) -> None:
    path = files.ratings(
        "user,item,rating,mood,genre,town", lambda n, u, i, r: f"{u},{i},{r},{n % 7},{'ab'[int(i[1:]) // 10]},{u[-1]}"
    )
    assert_usual(files.read(path))
    assert files.told(r"column 'mood' is not used: it differs between ratings")
    assert files.told(r"column 'genre' .*belongs to the item; .*--attribute items.genre=categorical")
    assert files.told(r"column 'town' .*belongs to the user; .*--attribute users.town=categorical")
    stated = {"items.genre": "categorical", "users.town": "ignore", "mood": "ignore"}
    with pytest.raises(DataError, match="no column 'town'"):
        files.read(path, attributes=stated)
    del stated["users.town"]
    data = files.read(path, attributes={**stated, "town": "ignore"})
    assert files.notices == ""
    rows = data.items.ids.index(["i13", "i4"])
    assert data.items.columns["genre"][rows.tolist()].to_list() == ["b", "a"]


def test_an_age_in_the_fourth_column_is_no_time(files: Files) -> None:
    data = files.read(files.ratings("", lambda n, u, i, r: f"{u},{i},{r},{20 + n % 50}"))
    assert_usual(data)
    assert data.time is None
    assert files.told(r"'column_4' is not used: '20', '21', '22' are not plausible times.*--time-column column_4")


def test_times_in_the_fourth_column_are_told(files: Files) -> None:
    path = files.ratings("", lambda n, u, i, r: f"{u},{i},{r},{START + n}")
    data = files.read(path)
    assert data.time is not None and data.time[0] == START
    assert files.told("no header; column 'column_4' is read as times")
    path.write_text(path.read_text().replace(str(START + 5), "5"))
    assert files.read(path).time is None  # one value is no time


def test_parts_of_the_day_are_no_times(files: Files) -> None:
    path = files.ratings("user,item,rating,time", lambda n, u, i, r: f"{u},{i},{r},{1 + n % 4}")
    assert files.read(path).time is None
    assert files.told("column 'time' is not used: '1', '2', '3' are not plausible times")
    stated = files.read(path, time="time")
    assert stated.time is not None and stated.time[:5].tolist() == [1, 2, 3, 4, 1]


def test_more_than_four_columns_need_names(files: Files) -> None:
    path = files.ratings("", lambda n, u, i, r: f"{n},{u},{i},{r},x")
    with pytest.raises(DataError, match=r"no header and 5 columns.*Add a first line with names"):
        files.read(path)
    data = files.read(path, user="column_2", item="column_3", rating="column_4")
    assert_usual(data)
    assert files.told("'column_1' is not used") and files.told("'column_5' is not used")


def test_the_last_of_repeated_ratings_needs_times(files: Files) -> None:
    path = files.write("r.csv", "user,item,rating,ts\na,x,1,1500000300\na,x,5,1500000100\nb,x,3,1500000200\n")
    assert files.read(path, repeated="last").rating.tolist() == [1, 3]  # the later one stands above
    assert files.read(path, repeated="last-row").rating.tolist() == [5, 3]
    path.write_text(path.read_text().replace("ts", "shop"))
    without = files.write("s.csv", "user,item,rating\na,x,1\na,x,5\n")
    with pytest.raises(DataError, match=r"--repeated last\) needs times.*--repeated last-row.*--repeated mean"):
        files.read(without, repeated="last")
    files.read(path, repeated="mean")
    assert files.told("column 'shop' is not used: it holds times; .*--time-column shop")


@pytest.mark.parametrize("name", ["ts", "created_at", "date", "Review Time", "unixReviewTime"])
def test_usual_names_of_times(files: Files, name: str) -> None:
    data = files.read(files.ratings(f"user,item,rating,{name}", lambda n, u, i, r: f"{u},{i},{r},{START + n}"))
    assert data.time is not None and data.time.tolist() == [START + n for n in range(60)]
    assert files.notices == ""
    assert data.report().time == ("2017-07-14", "2017-07-14")


@pytest.mark.parametrize("unit", [1_000, 1_000_000, 1_000_000_000])
def test_times_in_milliseconds(files: Files, unit: int) -> None:
    path = files.ratings("user,item,rating,timestamp", lambda n, u, i, r: f"{u},{i},{r},{(START + n) * unit}")
    data = files.read(path)
    assert data.time is not None and data.time.tolist() == [START + n for n in range(60)]


def test_days_before_months_need_a_stated_format(files: Files) -> None:
    path = files.ratings("user,item,rating,date", lambda n, u, i, r: f"{u},{i},{r},0{1 + n % 9}/02/2020")
    assert files.read(path).time is None
    assert files.told(r"'01/02/2020'.*--time-format %d/%m/%Y")
    time = files.read(path, time_format="%d/%m/%Y").time
    assert time is not None and time[:2].tolist() == [1_580_515_200, 1_580_515_200 + DAY]


def test_clicks_with_times_are_not_rated_by_their_time(files: Files) -> None:
    path = files.ratings("", lambda n, u, i, r: f"{u},{i},{START + n}")
    with pytest.raises(DataError, match=r"'column_3' holds times, not ratings.*--rating-column none"):
        files.read(path)
    data = files.read(path, rating="none", time="column_3")
    assert not data.has_ratings and data.time is not None and data.time[1] == START + 1


# ------------------------------------------------------------------- ratings


def test_a_marker_of_missing_ratings(files: Files) -> None:
    path = files.ratings("user,item,rating", lambda n, u, i, r: f"{u},{i},{99 if n % 10 == 3 else r}")
    with pytest.raises(DataError, match=r"row 5, column 'rating': '99' stands for a missing value \(6 such rows\)"):
        files.read(path, missing=("99",))
    data = files.read(path, missing=("99",), bad_rows="skip")
    assert (len(data), data.rating.max()) == (54, 5)
    assert files.told("6 rows are left out: row 5, .*; row 45, .*; ...")
    typed = pl.read_csv(path)
    assert len(RatingDataset.from_frames(typed, missing=("99",), bad_rows="skip")) == 54


def test_rows_that_cannot_be_read(files: Files) -> None:
    bad = {4: "u1,i1,five", 9: ",i2,3", 30: "u1,i3,inf"}
    path = files.ratings("user,item,rating", lambda n, u, i, r: bad.get(n, f"{u},{i},{r}"))
    with pytest.raises(
        DataError, match=r"row 6, column 'rating': 'five' is not a finite number \(3 such.*--bad-rows sk"
    ):
        files.read(path)
    assert len(files.read(path, bad_rows="skip")) == 57
    assert files.told(r"3 rows are left out: row 6, .*'five'.*; row 11, column 'user': the cell is empty; row 32, ")
    path.write_text("user,item,rating\na,b,five\n")
    with pytest.raises(DataError, match="none of the 1 rows can be read"):
        files.read(path, bad_rows="skip")


def test_lines_with_too_many_cells(files: Files) -> None:
    path = files.ratings("user,item,rating", lambda n, u, i, r: f"{u},{i},{r}{',?' if n == 7 else ''}")
    with pytest.raises(DataError, match=r"1 lines have more than the 3 cells of the first one \(lines 9\).*--bad-rows"):
        files.read(path)
    path.write_text(path.read_text().replace("u8,i16,4", "u8,i16,four"))
    assert len(files.read(path, bad_rows="skip")) == 58
    assert files.told(r"\(lines 9\): left out") and files.told("1 rows are left out: row 10,")


@pytest.mark.parametrize("header", ["user;item;rating", ""])
def test_decimal_commas(files: Files, header: str) -> None:
    data = files.read(files.ratings(header, lambda n, u, i, r: f"{u};{i};{r},5"))
    assert data.rating[:3].tolist() == [1.5, 2.5, 3.5]
    assert (len(data.users), len(data.items)) == (12, 20)


@pytest.mark.parametrize("header", ["user,item,rating", "user,item,rating,", ""])
def test_separators_at_the_end_of_lines(files: Files, header: str) -> None:
    assert_usual(files.read(files.ratings(header, lambda n, u, i, r: f"{u},{i},{r},")))
    assert files.notices == ""


@pytest.mark.parametrize(("high", "low"), [("up", "down"), ("True", "False"), ("yes", "no")])
def test_opinions_in_words(files: Files, high: str, low: str) -> None:
    data = files.read(files.ratings("user,item,rating", lambda n, u, i, r: f"{u},{i},{high if r > 2 else low}"))
    assert data.rating[:4].tolist() == [0, 0, 1, 1]
    assert files.told(f"words are read as ratings: .*{high.lower()} as 1")


def test_ratings_that_are_all_equal_are_choices(files: Files) -> None:
    data = files.read(files.ratings("user,item,rating", lambda n, u, i, r: f"{u},{i},4"))
    assert not data.has_ratings and data.rating.tolist() == [1.0] * 60
    assert files.told("all 60 ratings are 4: each row is read as a choice")
    with pytest.raises(ConfigError, match=r"aanmf learns from ratings.*Available for choices without ratings: .*ease"):
        AANMF().fit(data)


def test_a_log_of_clicks_without_ratings(files: Files) -> None:
    path = files.ratings("user,item,device", lambda n, u, i, r: f"{u},{i},phone{n % 3}")
    with pytest.raises(DataError, match=r"which column holds the rating.*such as a click: .*--rating-column none"):
        files.read(path)
    assert not files.read(path, rating="none").has_ratings
    assert files.told("column 'device' is not used")


# ------------------------------------------------------------------- users and items


def test_titles_of_books(files: Files) -> None:
    items = files.items("ISBN,Book-Title,Blurb", lambda k: f"i{k},Book {k},It was a dark night ({k})")
    data = files.read(files.usual(), items=items)
    assert data.items.labels is not None and data.items.labels[3] == "Book 3"
    assert data.items.names == [] and files.told("'Blurb' is nearly all distinct.*--attribute Blurb=categorical")
    other = files.read(files.usual(), items=items, title="Blurb")
    assert other.items.labels is not None and other.items.labels[3] == "It was a dark night (3)"
    assert other.report().columns["item label"] == "Blurb"
    same = files.read(files.usual(), items=items, attributes={"Blurb": "label", "Book-Title": "ignore"})
    assert same.items.labels == other.items.labels and files.notices == ""


def test_codes_are_labels(files: Files) -> None:
    items = files.items(
        "item,director,studio,year", lambda k: f"i{k},{1 + k * 7 % 300},{k % 40 * 99_991},{1950 + k % 70}", 900
    )
    data = files.read(files.usual(), items=items)
    assert [each.kind.value for each in data.items.attributes] == ["categorical", "categorical", "numeric"]
    assert files.told("'director' holds 300 distinct whole numbers that look like codes.*director=numeric")
    stated = files.read(files.usual(), items=items, attributes={"director": "numeric:7", "items.studio": "numeric"})
    assert [each.kind.value for each in stated.items.attributes] == ["numeric"] * 3
    assert stated.items.attributes[0].groups == 7


def test_a_numeric_column_with_dirty_cells_stays_numeric(files: Files) -> None:
    users = files.users("user,age", lambda k: f"u{k},{'unknown' if k % 50 == 7 else 18 + k * 37 % 60}", 200)
    data = files.read(files.usual(), users=users)
    assert data.users.attributes[0].kind.value == "numeric"
    assert data.users.columns["age"].null_count() == 4
    assert files.told(r"'age' holds 4 cells that are not numbers \('unknown'\): they count as missing")
    stated = files.read(files.usual(), users=users, attributes={"age": "numeric:5"})
    assert stated.users.columns["age"].equals(data.users.columns["age"])


def test_dates_become_years(files: Files) -> None:
    items = files.items("item,released", lambda k: f"i{k},{1990 + k}-07-02")
    data = files.read(files.usual(), items=items)
    assert data.items.columns["released"][:2].to_list() == [1990.5, 1991.5]
    assert files.told("'released' holds dates: read as the year, with decimals")


def test_numbered_columns_are_one_attribute(files: Files) -> None:
    genres = ["crime", "love", "travel", "war", ""]
    items = files.items(
        "item,genre1,genre2,genre_3", lambda k: f"i{k}," + ",".join(genres[(k + j) % 5] for j in range(3))
    )
    data = files.read(files.usual(), items=items)
    assert data.items.names == ["genre"]
    assert data.items.columns["genre"][:3].to_list() == [genres[:3], genres[1:4], genres[2:4]]
    assert files.told("'genre1', 'genre2', 'genre_3' are read as one, 'genre'")
    apart = files.read(files.usual(), items=items, attributes={name: "categorical" for name in ("genre1", "genre2")})
    assert apart.items.names == ["genre1", "genre2", "genre_3"]
    answers = files.items("item,q1,q2,q3", lambda k: f"i{k},{'yes' if k % 2 else 'no'},{'no' if k % 3 else 'yes'},no")
    assert files.read(files.usual(), items=answers).items.names == ["q1", "q2"]  # q3 is constant


def test_lists_of_places(files: Files) -> None:
    users = files.users("user;Location", lambda k: f"u{k};town {k}, state {k % 3}, usa")
    data = files.read(files.usual(), users=users)
    assert data.users.names == [] and files.told("'Location' .*--attribute Location=multi-valued:,")
    for use in ("multi-valued", "multi-valued:,"):
        data = files.read(files.usual(), users=users, attributes={"Location": use})
        assert data.users.columns["Location"][1].to_list() == ["town 1", "state 1", "usa"]


def test_ids_that_do_not_agree(files: Files) -> None:
    users = files.users("user,gender", lambda k: f"{k},{'FM'[k % 2]}")
    with pytest.raises(
        DataError, match=r"none of the 12 users with ratings has a row there.*'u0', .*'0', .*--unlisted un"
    ):
        files.read(files.usual(), users=users)
    data = files.read(files.usual(), users=users, unlisted="unknown")
    assert (len(data.users), data.users.columns["gender"].null_count()) == (24, 12)
    assert files.told("12 users with ratings have no row there")


def test_a_table_without_header_loses_no_row(files: Files) -> None:
    users = files.users("u0,F,Ulm", lambda k: f"u{k + 1},{'FM'[k % 2]},{'Ulm' if k % 3 else 'Bonn'}", 11)
    with pytest.raises(DataError, match=r"its first line looks like a row of the table: 'u0' is one of the users"):
        files.read(files.usual(), users=users)


def test_tables_without_header_have_ids_in_the_first_column(files: Files) -> None:
    ratings = files.ratings("", lambda n, u, i, r: f"{u}::{i[1:]}::{r}::{START + n}")
    films = files.write("movies.dat", "".join(f"{k}::Film {k}::{['war', 'love|war'][k % 2]}\n" for k in range(20)))
    data = files.read(ratings, items=films)
    assert data.items.labels is not None and data.items.labels[3] == "Film 3"
    assert data.items.columns["column_3"][:2].to_list() == [["war"], ["love", "war"]]
    assert files.told("'column_2' is shown in results as the title")


def test_ids_in_the_index_of_pandas(files: Files) -> None:
    ratings = pd.DataFrame(TRIPLES, columns=["user", "item", "rating"])
    users = pd.DataFrame({"gender": ["F", "M"] * 6}, index=[f"u{k}" for k in range(12)])
    with pytest.raises(DataError, match=r"users: the index .* holds 'u0', ... and has no name: name it"):
        RatingDataset.from_frames(ratings, users=users)
    users.index.name = "user"
    data = RatingDataset.from_frames(ratings.set_index(["user", "item"]), users=users)
    assert_usual(data)
    assert data.users.columns["gender"].to_list() == ["F", "M"] * 6
    shuffled = ratings.sample(frac=1, random_state=0)  # an index that is only a row number
    assert len(RatingDataset.from_frames(shuffled)) == 60
    numbers = users.set_index(pd.Index(range(101, 113)))
    with pytest.raises(DataError, match="none of the 12 users"):
        RatingDataset.from_frames(ratings, users=numbers)


def test_unlikely_values(files: Files) -> None:
    ages = {3: -1, 4: 239}
    users = files.users(
        "user,age,visits", lambda k: f"u{k},{ages.get(k, 20 + k % 60)},{10**6 if k == 5 else 30 + 2 * k}", 120
    )
    data = files.read(files.usual(), users=users)
    assert files.told(r"'age' holds unlikely values: -1 \(1 row\), 239 \(1 row\).*--missing -1 --missing 239")
    assert files.told(r"'visits' holds unlikely values: 1e\+06 \(1 row\)")
    assert data.users.columns["age"].null_count() == 0
    told = files.read(files.usual(), users=users, missing=("-1", "239"))
    assert told.users.columns["age"].null_count() == 2


# ------------------------------------------------------------------- files


def test_other_kinds_of_files(files: Files) -> None:
    text = files.usual().read_text()
    packed = files.folder / "ratings.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert files.read(packed).name == "ratings"
    lines = "".join(json.dumps(dict(zip(("user", "item", "rating"), row, strict=True))) + "\n" for row in TRIPLES)
    wide = files.folder / "wide.csv"
    wide.write_bytes(text.encode("utf-16"))
    for path in (packed, files.write("r.jsonl", lines), wide):
        assert_usual(files.read(path))
        assert files.notices == ""


def test_files_that_need_another_library_or_program(files: Files) -> None:
    for name, way in (("r.xlsx", "aanmf\\[files\\].*CSV"), ("r.csv.zst", "zstd -d")):
        path = files.folder / name
        path.write_bytes(b"PK\3\4 no table")
        with pytest.raises(AanmfError, match=f"{way}|cannot be read as a table"):  # the latter where it is installed
            files.read(path)
    path = files.folder / "r.dta"
    path.write_bytes(b"<stata>\0\0\1")
    with pytest.raises(DataError, match=r"r.dta: not a text file; convert it to CSV, JSON lines or Parquet"):
        files.read(path)
    assert issubclass(MissingExtraError, AanmfError)


def test_other_alphabets(files: Files) -> None:
    items = files.folder / "items.csv"
    items.write_bytes(b"item,title\n" + "".join(f"i{k},Фильм {k}\n" for k in range(20)).encode("cp1251"))
    files.read(files.usual(), items=items)
    assert files.told(r"items.csv: not in UTF-8, read as Windows-1252.*--encoding")
    data = files.read(files.usual(), items=items, encoding="cp1251")
    assert data.items.labels is not None and data.items.labels[2] == "Фильм 2"
    assert files.notices == ""


# ------------------------------------------------------------------- the same everywhere


def test_roles_in_the_same_words_on_the_command_line_and_in_a_file(files: Files, capsys) -> None:
    ratings = str(files.ratings("user,item,rating,mood", lambda n, u, i, r: f"{u},{i},{r},{n % 7}"))
    items = files.items("item,Book-Title,year,place,url", lambda k: f'i{k},B {k},{1990 + k},"a, b{k % 3}",w{k % 4}')
    words = {"place": "multi-valued:,", "year": "numeric:7", "url": "ignore"}
    python = files.read(ratings, items=items, title="Book-Title", attributes=words)
    options = [part for name, use in words.items() for part in ("--attribute", f"{name}={use}")]
    assert main(["data", ratings, "--items", str(items), "--title", "Book-Title", *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(json.dumps(python.report().to_dict()))
    assert [each["name"] for each in told["attributes"]["items"]] == ["year", "place"]
    assert told["columns"]["item label"] == "Book-Title"
    assert any("'mood' is not used" in notice for notice in told["notices"])
    toml = files.write(
        "schema.toml",
        '[items]\ntitle = "Book-Title"\n[items.place]\nkind = "multi-valued"\nseparator = ","\n'
        '[items.year]\nkind = "numeric"\ngroups = 7\n[items.url]\nkind = "ignore"\n[ratings]\nignore = ["mood"]\n',
    )
    assert main(["data", ratings, "--items", str(items), "--schema", str(toml), "--json"]) == 0
    from_file = json.loads(capsys.readouterr().out)
    assert from_file["notices"] == [] and from_file["attributes"] == told["attributes"]


def test_notices_are_shown_in_a_terminal(files: Files, capsys) -> None:
    path = files.ratings("user,item,rating,mood", lambda n, u, i, r: f"{u},{i},{r},{n % 7}")
    assert main(["data", str(path)]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("'mood' is not used") == 1
    assert "columns" in shown.out and "rating: rating" in shown.out


def test_the_report_shows_what_every_column_holds(files: Files) -> None:
    users = files.users(
        "user,age,town", lambda k: f"u{k},{'' if k == 2 else 20 + k % 10},{'<b>' if k % 3 else 'Ulm'}", 40
    )
    report = files.read(files.usual(), users=users).report()
    age, town = report.attributes["users"]
    assert (age.values, age.missing, sum(count for _, count in age.histogram)) == (10, 1, 39)
    assert town.histogram == (("<b>", 26), ("Ulm", 14)) and town.bars == "█▄"
    html = report._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html and town.bars in html
    assert "age" in str(report) and age.bars in str(report)
    assert report.to_dict()["rating_counts"] == {str(r): 12 for r in range(1, 6)}


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_streamed_ratings_are_read_in_the_same_way(files: Files, kind: str) -> None:
    rows = [(u, i, "up" if r > 2 else "down", n % 7) for n, (u, i, r) in enumerate(TRIPLES)]
    rows[3] = ("u3", "i1", "?", 0)
    frame = pl.DataFrame(rows, schema=["user", "item", "rating", "mood"], orient="row")
    (files.folder / "shards").mkdir()
    write = {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[kind]
    write(files.folder / "shards" / f"part.{kind}")
    with pytest.raises(DataError, match=r"column 'rating': '\?' stands for a missing value"):
        stream_dataset(files.folder / "shards", files.folder / "work")
    told = r"(?s)column 'mood' is not used.*down as 0.*1 rows are left out"
    with pytest.warns(DataWarning, match=told):
        data = stream_dataset(files.folder / "shards", files.folder / "work", bad_rows="skip")
    with pytest.warns(DataWarning, match=told):  # found prepared
        stream_dataset(files.folder / "shards", files.folder / "work", bad_rows="skip")
    memory = RatingDataset.from_frames(frame, bad_rows="skip")
    np.testing.assert_array_equal(data.file.read(0, 59)["rating"], memory.rating)
    frame.with_columns(rating=pl.lit(1)).write_parquet(files.folder / "equal.parquet")
    with pytest.raises(DataError, match="all ratings are 1: each row is a choice"):
        stream_dataset(files.folder / "equal*", files.folder / "work2")
