"""How much of a sweep goes beside checking and measuring, and whether memory grows: 500 small cases on the CPU.

Run by `make bench`; prints a table and asserts nothing.
"""

import random
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from mlabench.measure.config import SweepConfig
from mlabench.measure.plan import Point, make_points
from mlabench.measure.sweep import open_sweep, run_sweep
from mlabench.records.record import Record
from mlabench.records.store import load_run

AXES = {
    "variant": ("mha", "gqa", "mqa", "mla"),
    "form": ("absorbed", "recompute"),
    "num_q_heads": (4, 8),
    "num_kv_heads": (2,),
    "kv_len": tuple(range(64, 564, 10)),
}
"""Five variants and forms, two head counts, fifty lengths: 500 cases."""

COUNTED = ("reference", "check", "measure")
"""The phases that are the work itself."""


def main() -> None:
    """Run the sweep and print where its wall time went, and the memory along the way."""
    config = SweepConfig(axes=AXES).resolved("cpu", "cpu", "warm")
    points = list(make_points(config, "cpu"))
    # In random order, so that memory that grows with the count is not mistaken for larger cases.
    random.Random(0).shuffle(points)
    memory_mb: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        start = time.perf_counter()
        with open_sweep(path, config, points, resume=False) as sweep:

            def on_record(_point: Point, _record: Record) -> None:
                # A worker that just gave way to a fresh one has no memory to read.
                if (process := sweep.worker._process) is not None:
                    memory_mb.append(_resident_mb(process.pid))

            run_sweep(sweep, lambda _point: None, on_record)
        wall_s = time.perf_counter() - start
        records = load_run(path).records
    _print(records, wall_s, memory_mb)


def _print(records: tuple[Record, ...], wall_s: float, memory_mb: list[float]) -> None:
    phases: Mapping[str, float] = {
        name: sum(record.phases_s.get(name, 0.0) for record in records)
        for name in ("inputs", "reference", "bind", "check", "measure")
    }
    counted_s = sum(phases[name] for name in COUNTED)
    print(f"{len(records)} cases, {sum(record.status == 'ok' for record in records)} ok, {wall_s:.1f} s in all")
    for name, seconds in phases.items():
        print(f"  {name:<10} {seconds:6.1f} s  {seconds / wall_s:6.1%}")
    print(f"  {'beside':<10} {wall_s - sum(phases.values()):6.1f} s  {1 - sum(phases.values()) / wall_s:6.1%}")
    print(f"outside checking and measuring: {1 - counted_s / wall_s:.1%} of the wall time (at most a third is the aim)")
    grown = ", ".join(
        f"{memory_mb[count - 1]:.0f} MB after {count + 1}" for count in range(99, len(memory_mb) + 1, 100)
    )
    print(f"worker's resident memory: {grown} cases")
    print(f"sweep's largest resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def _resident_mb(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
