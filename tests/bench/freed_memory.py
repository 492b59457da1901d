"""What memory that was just given back does to the calls after it: reads back to back, until long after it is cleared.

`python -m tests.bench.freed_memory --json FILE`, on a GPU; prints how long the reads were slow, and by how much.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mlabench.doctor.clearing import READ_BYTES
from mlabench.doctor.spinning import CudaBench
from mlabench.machine.fingerprint import take_fingerprint
from mlabench.machine.memory import CLEARED_BYTES_PER_S
from mlabench.machine.provenance import take_provenance
from mlabench.measure.timing.method import Call

SIZES_BYTES = (8 << 30, 32 << 30, 64 << 30, 96 << 30)

SLOW = 1.05
"""From this factor on a read is called slow: between what is seen while memory is cleared, and the noise afterwards."""

READS = 10
"""Reads in one sample."""


def main() -> None:
    """Trace reads after each size, and write and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    path = parser.parse_args().json
    bench = CudaBench()
    read = bench.read(READ_BYTES)
    quiet_us = median(us for _, us in trace(read, 0.5))
    traces = []
    for size in SIZES_BYTES:
        clearing = bench.give_back(size)
        samples = trace(read, 0.2 + clearing.uncleared_bytes / CLEARED_BYTES_PER_S)
        traces.append({"bytes": clearing.uncleared_bytes, "samples": samples, **slow_spell(samples, quiet_us)})
    facts = {"fingerprint": take_fingerprint("cuda").to_json(), "provenance": take_provenance().to_json()}
    text = json.dumps({**facts, "read_bytes": READ_BYTES, "quiet_us": quiet_us, "traces": traces})
    path.write_text(text + "\n", encoding="utf-8")
    for row in traces:
        print(f"{row['bytes'] / 1e9:.1f} GB: slow for {row['slow_ms']:.0f} ms, by {row['slowdown']:.3f}x")


def trace(read: Call, span_s: float) -> list[tuple[float, float]]:
    """Samples as (milliseconds since the start, microseconds a read)."""
    samples = []
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin = time.perf_counter()
    while (at_s := time.perf_counter() - begin) < span_s:
        start.record()
        for _ in range(READS):
            read()
        end.record()
        end.synchronize()
        samples.append((round(1e3 * at_s, 2), round(1e3 * start.elapsed_time(end) / READS, 2)))
    return samples


def slow_spell(samples: Sequence[tuple[float, float]], quiet_us: float) -> Mapping[str, Any]:
    """How long the reads were slow from the start on, and how slow in the middle."""
    slow = list(takewhile(lambda sample: sample[1] > SLOW * quiet_us, samples))
    if not slow:
        return {"slow_ms": 0.0, "slowdown": 1.0}
    return {"slow_ms": samples[len(slow)][0], "slowdown": median(us for _, us in slow) / quiet_us}


if __name__ == "__main__":
    main()
