"""The table of a prediction: which columns its rows make worth showing, and what is said below them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlabench.cli.predict_table import Column, print_columns
from mlabench.predict.calibrated import LATENCY_SPEEDUPS
from mlabench.predict.rows import SPEEDUPS, Row
from mlabench.units import (
    NOT_MEASURED,
    format_bytes,
    format_exact_bytes,
    format_latency,
    format_latency_range,
    format_number,
    format_ratio,
    format_ratio_range,
    format_tokens,
)

_VARIED: Mapping[str, tuple[Any, Callable[[Any], str]]] = {
    "phase": ("decode", str),
    "scope": ("core", str),
    "batch": (None, str),
    "q_len": (1, format_tokens),
    "kv_len": (None, format_tokens),
    "kv_len_dist": ("uniform", str),
    "page_size": (64, str),
    "dtype": ("bfloat16", str),
    "tp": (1, str),
    "dp": (1, str),
}
"""Columns of a table that are left out where every row has the usual value, and how each is written."""


def print_rows(rows: Sequence[Row], kind: str = "table") -> None:
    """Print the rows as a table or as Markdown, and of what they are."""
    if "latency_us" not in rows[0]:
        print_columns([*_of_case(rows), *_work(rows), *_floors(rows)], rows, kind)
        print("Of one layer and rank; vs: how many times longer the floor of that variant is, at its size.")
        print("A floor is no time: short calls take ten microseconds and more. --calibrate RUN adds latencies.")
        return
    # Latencies with intervals leave no room for what is the same in every row.
    shared = [column for column in (_GPU, _HEADS) if len({column[1](row) for row in rows}) == 1]
    print_columns([*(column for column in _of_case(rows) if column not in shared), *_latencies(rows)], rows, kind)
    where = "".join(f", {name} {text(rows[0])}" for name, text in shared)
    print(f"Of one layer and rank{where}, in a burst: lasting load takes the clock down where arithmetic binds.")
    print("vs: how many times longer that variant is predicted to take at its size, with a 90% interval.")
    if any(row["measured_us"] for row in rows):
        print("measured: the median of the run's fastest kernel for this very case.")


def _of_case(rows: Sequence[Row]) -> list[Column]:
    """What a row is of, as far as the rows differ in it."""
    of_models = any(row["model"] for row in rows)
    varied = [name for name, (usual, _) in _VARIED.items() if any(row[name] != usual for row in rows)]
    formats: Column = ("cache", lambda row: row["cache_format"])
    in_formats = any(row["cache_format"] != row["dtype"] for row in rows)
    return [
        *([("model", lambda row: row["model"] or NOT_MEASURED)] if of_models else []),
        _GPU,
        ("what", what),
        _HEADS,
        *((name, _text_of(name, _VARIED[name][1])) for name in varied),
        *([formats] if in_formats else []),
    ]


def _work(rows: Sequence[Row]) -> list[Column]:
    """Bytes and FLOP."""
    of_models = any(row["model"] for row in rows)
    cached: Column = ("cache/token, all layers", lambda row: format_bytes(row["kv_cache_bytes_per_token"], digits=6))
    return [
        ("cache/token/layer", lambda row: format_exact_bytes(row["kv_cache_bytes_per_token_per_layer"])),
        *([cached] if of_models else []),
        ("moved", lambda row: format_bytes(row["bytes_moved"])),
        ("FLOP", lambda row: format_number(row["flops"])),
        ("FLOP/B", lambda row: format_number(row["arithmetic_intensity_flops_per_byte"])),
    ]


def _floors(rows: Sequence[Row]) -> list[Column]:
    """Floors, and how many times longer those of other variants are."""
    told = {name: column for name, column in SPEEDUPS.items() if any(row[column] is not None for row in rows)}
    return [
        _FLOOR,
        ("bound", lambda row: row["bound"] or NOT_MEASURED),
        *((f"vs {name}", _text_of(column, format_ratio)) for name, column in told.items()),
    ]


def _latencies(rows: Sequence[Row]) -> list[Column]:
    """Latencies above the floor, those that were measured, and how many times longer other variants would take."""
    measured: Column = ("measured", _text_of("measured_us", format_latency))
    told = {name: columns for name, columns in LATENCY_SPEEDUPS.items() if any(row[columns[0]] for row in rows)}
    return [
        _FLOOR,
        ("latency", _text_of("latency_us", format_latency)),
        ("90% interval", lambda row: format_latency_range(row["latency_us_low"], row["latency_us_high"])),
        *([measured] if any(row["measured_us"] for row in rows) else []),
        *((f"vs {name}", _ratio_of(columns)) for name, columns in told.items()),
    ]


def _ratio_of(columns: Sequence[str]) -> Callable[[Row], str]:
    middle, low, high = columns
    return lambda row: format_ratio_range(row[middle], row[low], row[high])


def _text_of(name: str, text: Callable[[Any], str]) -> Callable[[Row], str]:
    return lambda row: text(row[name])


def what(row: Row) -> str:
    """A row's attention: `gqa-8`, `mla absorbed`."""
    if row["variant"] == "gqa":
        return f"gqa-{row['num_kv_heads']}"
    return f"{row['variant']} {row['form']}" if row["form"] else str(row["variant"])


_GPU: Column = ("gpu", lambda row: row["gpu"])
_HEADS: Column = ("heads", lambda row: str(row["num_q_heads"]))
_FLOOR: Column = ("floor", _text_of("floor_us", format_latency))
