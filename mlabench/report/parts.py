"""The page's table of layers: what each part took by itself, as shares of all of them."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.units import format_latency, format_percent, format_tokens

if TYPE_CHECKING:
    import pandas


MOST_LAYERS = 250
"""Rows of the table; `mlabench export` holds the parts of all."""


@dataclass(frozen=True, slots=True)
class Share:
    """One part of a layer: its time alone, and that as a share of all parts' times, as text and as a percentage."""

    name: str
    latency: str
    share: str
    percent: float


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer's record: what it is of, its whole time, the sum of its parts' times, and their shares."""

    label: str
    kernel: str
    phase: str
    batch: int
    length: str
    whole: str
    together: str
    shares: tuple[Share, ...]


def layer_rows(table: "pandas.DataFrame") -> list[LayerRow]:
    """A row for each record that holds parts, in the table's order, at most `MOST_LAYERS`."""
    own: list[Any] = table[table["parts"].notna()].head(MOST_LAYERS).to_dict("records")
    return [_layer_row(row) for row in own]


def _layer_row(row: Any) -> LayerRow:
    parts = json.loads(row["parts"])
    together = sum(part["latency_us"] for part in parts)
    shares = tuple(_share(part, part["latency_us"] / together) for part in parts)
    length = format_tokens(row["kv_len"])
    if row["q_len"] != 1:
        length = f"{format_tokens(row['q_len'])} of {length}"
    whole, sum_of_parts = format_latency(row["latency_us"]), format_latency(together)
    return LayerRow(row["label"], row["kernel"], row["phase"], row["batch"], length, whole, sum_of_parts, shares)


def _share(part: Any, share: float) -> Share:
    return Share(part["name"], format_latency(part["latency_us"]), format_percent(share), round(100 * share, 2))
