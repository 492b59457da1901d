"""MLA decode where lengths differ and where load lasts: ragged batches over even ones, sustained calls over bursts.

`python -m tests.bench.mla_loads --ragged SWEEP --burst SWEEP --sustained SWEEP` prints both as Markdown.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from mlabench.records.metrics import latency_us
from mlabench.records.record import Record
from mlabench.records.store import load_run
from mlabench.units import format_latency, format_tokens
from tests.bench.markdown import table

OURS = "mla_decode"

Place = tuple[int, int, int]
"""Heads, batch and kv_len."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mla_loads")
    parser.add_argument("--ragged", type=Path, required=True)
    parser.add_argument("--burst", type=Path, required=True)
    parser.add_argument("--sustained", type=Path, required=True)
    asked = parser.parse_args()
    print(raggedtable(ragged_times(asked.ragged)))
    print()
    print(sustainedtable(asked.burst, asked.sustained))


def ragged_times(path: Path) -> dict[Place, tuple[float, float]]:
    """Of our kernel at each place: the time of the even batch and of the ragged one, in us."""
    even, ragged = (_times(path, OURS, dist) for dist in ("uniform", "ragged"))
    return {place: (even[place], ragged[place]) for place in sorted(even.keys() & ragged.keys())}


def raggedtable(times: Mapping[Place, tuple[float, float]]) -> str:
    """A line a place, with the ratio."""
    rows = (
        (*_cells(place), format_latency(even), format_latency(ragged), f"{ragged / even:.3f}")
        for place, (even, ragged) in times.items()
    )
    return table(("heads", "batch x kv_len", "one length", "ragged", "ragged / one length"), rows)


def sustainedtable(burst: Path, sustained: Path) -> str:
    """A line a place that was measured under load: our time in a burst and under load, and each peer's over ours."""
    once, ours = _times(burst, OURS), _times(sustained, OURS)
    peers = sorted({record.kernel for record in load_run(sustained).records} - {OURS})
    theirs = {peer: _times(sustained, peer) for peer in peers}
    rows = (
        (
            *_cells(place),
            format_latency(once[place]) if place in once else "",
            format_latency(ours[place]),
            *(f"{theirs[peer][place] / ours[place]:.3f}" if place in theirs[peer] else "" for peer in peers),
        )
        for place in sorted(ours)
    )
    return table(("heads", "batch x kv_len", "burst", "sustained", *(f"{peer} / ours" for peer in peers)), rows)


def _times(path: Path, kernel: str, dist: str = "uniform") -> dict[Place, float]:
    found = {
        _place(record): latency_us(record)
        for record in load_run(path).records
        if (record.kernel, record.case.kv_len_dist) == (kernel, dist)
    }
    return {place: time_us for place, time_us in found.items() if time_us is not None}


def _place(record: Record) -> Place:
    return record.case.variant.num_q_heads, record.case.batch, record.case.kv_len


def _cells(place: Place) -> tuple[str, str]:
    heads, batch, kv_len = place
    return str(heads), f"{batch} x {format_tokens(kv_len)}"


if __name__ == "__main__":
    main()
