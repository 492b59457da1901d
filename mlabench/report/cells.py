"""The tables of the page: all records, and the reasons of those without a time."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.units import (
    NOT_MEASURED,
    format_bandwidth,
    format_exact_bytes,
    format_flop_rate,
    format_latency,
    format_percent,
    format_tokens,
)

if TYPE_CHECKING:
    import pandas

MOST_ROWS = 2000
"""More would make the page too heavy for a browser; `mlabench export` holds them all."""

Row = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, the field that a click on it sorts by, and how a row's value is written (by default as it is)."""

    heading: str
    field: str
    text: Callable[[Any], str] = str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """What is shown, and the value it sorts by; an empty key is a value that was not measured."""

    text: str
    key: str
    numeric: bool


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """How many records of a kernel have no time for one reason."""

    status: str
    kernel: str
    reason: str
    records: int


COLUMNS: tuple[Column, ...] = (
    Column("variant", "label"),
    Column("kernel", "kernel"),
    Column("dtype", "dtype"),
    Column("phase", "phase"),
    Column("scope", "scope"),
    Column("batch", "batch", numeric=True),
    Column("q_len", "q_len", numeric=True),
    Column("kv_len", "kv_len", format_tokens, numeric=True),
    Column("status", "status"),
    Column("latency", "latency_us", format_latency, numeric=True),
    Column("95% from", "latency_us_low", format_latency, numeric=True),
    Column("to", "latency_us_high", format_latency, numeric=True),
    Column("cache/token", "kv_cache_bytes_per_token", format_exact_bytes, numeric=True),
    Column("bandwidth", "bandwidth_bytes_per_s", format_bandwidth, numeric=True),
    Column("FLOP rate", "flops_per_s", format_flop_rate, numeric=True),
    Column("of roofline", "fraction_of_floor", format_percent, numeric=True),
    Column("bound", "bound"),
    Column("note", "note"),
)
"""Left to right; `note` holds the reason and what else sets a record apart."""

RUN_COLUMN = Column("run", "run")


def columns(several_runs: bool) -> tuple[Column, ...]:
    """The table's columns; the run's name only where there are several."""
    return (RUN_COLUMN, *COLUMNS) if several_runs else COLUMNS


def table_rows(table: "pandas.DataFrame", shown: tuple[Column, ...]) -> list[tuple[str, list[Cell]]]:
    """Status and cells of each record, at most `MOST_ROWS`."""
    plain = table.head(MOST_ROWS).astype(object)
    rows: list[Any] = plain.where(plain.notna(), None).to_dict("records")
    return [(str(row["status"]), [_cell(row, column) for column in shown]) for row in rows]


def unmeasured(table: "pandas.DataFrame") -> list[Unmeasured]:
    """The records without a time, counted by status, kernel and reason; the most frequent first."""
    rows = table[table["status"] != "ok"]
    counts = Counter(zip(rows["status"], rows["kernel"], rows["reason"], strict=True))
    return [
        Unmeasured(str(status), str(kernel), str(reason), count)
        for (status, kernel, reason), count in counts.most_common(MOST_ROWS)
    ]


def _cell(row: Row, column: Column) -> Cell:
    value = _note(row) if column.field == "note" else row[column.field]
    if value is None:
        return Cell(NOT_MEASURED, "", column.numeric)
    return Cell(column.text(value), repr(float(value)) if column.numeric else str(value), column.numeric)


def _note(row: Row) -> str:
    ragged = "ragged lengths" if row["kv_len_dist"] == "ragged" else ""
    return "; ".join(note for note in (row["reason"], ragged, "throttled" if row["throttled"] else "") if note)
