"""What the page's tables and charts tell of a record, and the reasons of the records without a time."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.cases.axes import AXES
from mlabench.report.samples import GREATEST, LEAST, SHAPE
from mlabench.report.warnings import DISTURBANCES
from mlabench.units import (
    format_bandwidth,
    format_energy,
    format_exact_bytes,
    format_flop_rate,
    format_latency,
    format_number,
    format_percent,
    format_power,
    format_tokens,
)

if TYPE_CHECKING:
    import pandas

MOST_ROWS = 10_000
"""More would make the page too heavy for a browser; `mlabench export` holds them all."""

MOST_GROUPS = 200
"""Reasons that are told of records without a time."""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, the field that a click on it sorts by, and how a row's value is written (by default as it is).

    One that is `drawn` is no text: there is nothing to sort or to look for in it.
    """

    heading: str
    field: str
    text: Callable[[Any], str] = str
    numeric: bool = False
    drawn: bool = False


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
    Column("q_len", "q_len", format_tokens, numeric=True),
    Column("kv_len", "kv_len", format_tokens, numeric=True),
    Column("status", "status"),
    Column("latency", "latency_us", format_latency, numeric=True),
    Column("95% from", "latency_us_low", format_latency, numeric=True),
    Column("to", "latency_us_high", format_latency, numeric=True),
    Column("samples", SHAPE, drawn=True),
    Column("cache/token", "kv_cache_bytes_per_token", format_exact_bytes, numeric=True),
    Column("bandwidth", "bandwidth_bytes_per_s", format_bandwidth, numeric=True),
    Column("FLOP rate", "flops_per_s", format_flop_rate, numeric=True),
    Column("of roofline", "fraction_of_floor", lambda share: format_percent(share, 1), numeric=True),
    Column("bound", "bound"),
    Column("note", "note"),
)
"""Left to right; `note` holds the reason, what else sets a record apart, and the warnings that go with its numbers."""

RUN_COLUMN = Column("run", "run")

SETTINGS = ("dtype", "phase", "scope", "q_len", "status")
"""Fields that the table leaves out where they are one for all."""

OPTIONAL: tuple[Column, ...] = (
    Column("energy/token", "energy_j_per_token", format_energy, numeric=True),
    Column("power", "power_w", format_power, numeric=True),
)
"""Shown where any record has them."""

CHARTED: tuple[Column, ...] = (
    Column("heads", "num_q_heads", numeric=True),
    Column("intensity", "arithmetic_intensity_flops_per_byte", format_number, numeric=True),
    *OPTIONAL,
)
"""What charts need of a record beside the table's columns."""

TOLD: tuple[Column, ...] = (
    Column("samples", "samples", numeric=True),
    Column("least", LEAST, format_latency, numeric=True),
    Column("greatest", GREATEST, format_latency, numeric=True),
)
"""What is said of a record's samples beside the line of them."""

COMMAND = (*AXES, "kernel", "device", "method", "cache", "seed")
"""Fields of which the command is made that measures a record again: its case's, then the options of a sweep."""


def columns(table: "pandas.DataFrame", several_runs: bool) -> tuple[Column, ...]:
    """The table's columns: those that tell its records apart, and the run's name where there are several."""
    optional = [column for column in OPTIONAL if table[column.field].notna().any()]
    alike = {column.field for column, _ in shared(table)}
    shown = [column for column in (*COLUMNS[:-1], *optional, COLUMNS[-1]) if column.field not in alike]
    return (RUN_COLUMN, *shown) if several_runs else tuple(shown)


def shared(table: "pandas.DataFrame") -> list[tuple[Column, str]]:
    """The settings that are one for all records, which the table need not repeat, and what they are."""
    one = [column for column in COLUMNS if column.field in SETTINGS and table[column.field].nunique(dropna=False) == 1]
    return [(column, column.text(table[column.field].iloc[0])) for column in one]


def column_values(table: "pandas.DataFrame", field: str) -> list[Any]:
    """A column's values as plain objects, None where there is none; `note` is put together from others."""
    if field == "note":
        parts = zip(table["reason"], table["kv_len_dist"], table[DISTURBANCES], strict=True)
        return [_note(*part) or None for part in parts]
    values = table[field].astype(object)
    return list(values.where(values.notna(), None))


def unmeasured(table: "pandas.DataFrame") -> list[Unmeasured]:
    """The records without a time, counted by status, kernel and reason; the most frequent first."""
    rows = table[table["status"] != "ok"]
    counts = Counter(zip(rows["status"], rows["kernel"], rows["reason"], strict=True))
    return [
        Unmeasured(str(status), str(kernel), str(reason), count)
        for (status, kernel, reason), count in counts.most_common(MOST_GROUPS)
    ]


def _note(reason: str, distribution: str, disturbances: str) -> str:
    ragged = "ragged lengths" if distribution == "ragged" else ""
    return "; ".join(note for note in (reason, ragged, disturbances) if note)
