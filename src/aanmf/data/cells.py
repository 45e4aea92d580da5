"""Cells of raw tables as ids, ratings, numbers and times. A cell that cannot be read becomes null: callers decide."""

from __future__ import annotations

import polars as pl

FIRST, LAST = 631_152_000, 4_102_444_800
"""Plausible times of ratings in numbers, as seconds since 1970: the years 1990 to 2099."""
EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
"""Seconds since 1970 at the start of the year 1 and the end of the year 9999."""
DAY = 86_400
UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
"""Units of times in numbers, per second: seconds, milliseconds, microseconds, nanoseconds."""
DATES = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S", "%d-%b-%Y", "%d %b %Y")
"""Forms of dates that can be read in one way only."""
ZONED = "%Y-%m-%d %H:%M:%S%.f%z"
BEGINS_AS_DATE = r"^[+-]?\d+[-/\s]"
"""What all `DATES` begin with."""
OPINIONS = {
    **{"true": 1.0, "yes": 1.0, "up": 1.0, "like": 1.0, "thumbs up": 1.0},
    **{"false": 0.0, "no": 0.0, "down": 0.0, "dislike": 0.0, "thumbs down": 0.0},
}
"""Ratings in words."""
LARGEST = 3.4e38
"""Larger numbers are infinite as float32."""
DECIMAL_COMMA = r"^[+-]?(?:\d+,\d{1,2}|0,\d+)$"


OPAQUE = (pl.Binary, pl.Object, pl.Duration)
"""Types of cells that are neither numbers nor text nor points in time."""


def plain(column: pl.Series) -> pl.Series:
    """Categories as text, and so bytes that are text: some programs store every text of a Parquet file as bytes."""
    if column.dtype in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if column.dtype == pl.Binary:
        try:
            return column.cast(pl.String)
        except pl.exceptions.ComputeError:
            return column
    return column


def blank_out(column: pl.Series, missing: tuple[str, ...]) -> pl.Series:
    """The column with text stripped, and null for NaN and for the texts (and numbers) of missing values."""
    if column.dtype in (pl.Categorical, pl.Enum) or column.dtype == pl.Time:
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        return text.set(text.is_in(list(missing)).fill_null(False), None)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if column.dtype.is_numeric():
        markers = pl.Series(missing, dtype=pl.String).cast(pl.Float64, strict=False).fill_nan(None).drop_nulls()
        if len(markers):
            return column.set(column.cast(pl.Float64).is_in(markers.implode()).fill_null(False), None)
    return column


def is_off_calendar(column: pl.Series) -> bool:
    """Whether a date lies beyond the years 1 to 9999: Polars cannot write it as text."""
    if isinstance(column.dtype, pl.Datetime):
        per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[column.dtype.time_unit]
        low, high = EARLIEST * per_second, (LATEST + 1) * per_second - 1
    elif column.dtype == pl.Date:
        low, high = EARLIEST // DAY, LATEST // DAY
    else:
        return False
    number = column.to_physical().drop_nulls().cast(pl.Int64)
    return bool(len(number)) and not low <= int(number.min()) <= int(number.max()) <= high  # type: ignore[arg-type]


def ids(column: pl.Series) -> pl.Series:
    """Ids as text: whole floats lose their `.0`, text the blanks around it; fractions are null, as are floats so large
    that several whole numbers are the same float.
    """
    if column.dtype.is_float():
        exact = 2**53 if column.dtype == pl.Float64 else 2**24
        column = column.set(((column != column.round()) | (column.abs() > exact)).fill_null(True), None)
        column = column.cast(pl.Int64, strict=False)
    text = column.cast(pl.String).str.strip_chars()
    return text.set((text == "").fill_null(False), None)


def numbers(column: pl.Series) -> pl.Series:
    """Finite numbers, also as text and with a decimal comma."""
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        commas = text.str.contains(DECIMAL_COMMA)
        column = text
        if commas.any():
            column = text.zip_with(~commas.fill_null(False), text.str.replace(",", ".", literal=True))
    found = column.cast(pl.Float64, strict=False)
    return found.set(~found.is_finite().fill_null(False), None)


def ratings(column: pl.Series) -> pl.Series:
    """Numbers that float32 can hold, and opinions in words (`true`, `up`, `no`) as 1 or 0."""
    found = numbers(column)
    found = found.set((found.abs() > LARGEST).fill_null(False), None)
    if column.dtype != pl.String:
        return found
    words = column.str.strip_chars().str.to_lowercase().replace_strict(OPINIONS, default=None, return_dtype=pl.Float64)
    return found.zip_with(words.is_null(), words)


def are_numbers(known: pl.Series) -> bool:
    """Whether all cells are numbers; `01234` is a code."""
    if known.dtype.is_numeric():
        return True
    if known.dtype != pl.String or known.str.contains(r"^[+-]?0\d").any():
        return False
    return numbers(known).is_not_null().all()


def times(column: pl.Series, form: str | None = None) -> pl.Series:
    """Whole seconds since 1970: from numbers in the unit in which they are plausible (else seconds), or from dates.

    Args:
        column: numbers, dates, or text of either.
        form: how dates are written, as in `datetime.strptime`; None: in one of `DATES`.
    """
    if column.dtype.is_temporal() or form is not None:
        return _epoch(dates(column, form))
    found = numbers(column)
    if found.null_count() == len(found):
        return _epoch(dates(column))
    unit = next((each for each in UNITS if _share(found, FIRST * each, LAST * each) > 0.5), 1)
    return (found / unit).floor().cast(pl.Int64, strict=False)


def share_of_times(column: pl.Series, form: str | None = None) -> float:
    """How many of the cells are plausible times: from 0 to 1."""
    if column.dtype in (pl.Boolean, pl.Time, *OPAQUE) or column.dtype.is_nested() or not len(column):
        return 0.0
    if column.dtype.is_temporal() or form is not None or numbers(column).null_count() == len(column):
        return 1 - dates(column, form).null_count() / len(column)
    return _share(times(column), FIRST, LAST)


def dates(column: pl.Series, form: str | None = None) -> pl.Series:
    """Dates and times (UTC); text in one of `DATES`, or as `form` says."""
    if column.dtype.is_temporal():
        zone = getattr(column.dtype, "time_zone", None)
        return (column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else column).cast(
            pl.Datetime("ms")
        )
    text = column.cast(pl.String).str.strip_chars()
    if form is not None:
        return text.str.to_datetime(form, strict=False, time_unit="ms", ambiguous="null")
    if not text.str.contains(BEGINS_AS_DATE).any():
        return pl.Series(column.name, [None] * len(text), pl.Datetime("ms"))
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)T", "$1 ").str.replace(r"(\d)Z$", "$1")
    forms = [pl.first().str.to_datetime(each, strict=False, time_unit="ms") for each in DATES]
    found = text.to_frame().select(pl.coalesce(forms).alias(column.name)).to_series()
    if found.null_count() and text.str.contains(r"[+-]\d\d:?\d\d$").any():
        zoned = text.str.to_datetime(ZONED, strict=False, time_unit="ms").dt.replace_time_zone(None)
        found = found.zip_with(found.is_not_null(), zoned)
    return found


def _epoch(found: pl.Series) -> pl.Series:
    return found.dt.epoch("s")


def _share(found: pl.Series, low: float, high: float) -> float:
    return float(((found >= low) & (found < high)).fill_null(False).mean() or 0)  # type: ignore[arg-type]
