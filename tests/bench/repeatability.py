"""How far the medians of one point lie apart over fresh processes, in time and in clock cycles, and what the gate says.

`python -m tests.bench.repeatability RUN RUN ... [--json FILE]` reads runs of one configuration on one machine.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mlabench.records.conditions import sm_clock_mhz
from mlabench.records.metrics import latency_us
from mlabench.records.record import PointKey, Record
from mlabench.records.store import Run, load_run
from mlabench.verdict.compare import compare_runs
from mlabench.verdict.comparison import noise_of
from mlabench.verdict.point import Verdict

LIMITS = ((100.0, 0.005), (20.0, 0.01), (0.0, 0.02))
"""From so many microseconds on, the coefficient of variation that 90% of the points may have at most."""


def main() -> None:
    """Print the share of points within each limit, and the points beyond."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    runs = [load_run(path) for path in arguments.runs]
    rows = spreads(runs)
    for low_us, limit in LIMITS:
        _print_class([row for row in rows if row["limit"] == limit], low_us, limit)
    for baselines in (1, 3):
        print(f"gate against {baselines}: {dict(gate_outcomes(runs, baselines))}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def spreads(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Of each point that every run measured: its mean latency and the coefficients of variation."""
    by_key: dict[PointKey, list[Record]] = {}
    for run in runs:
        for record in run.records:
            by_key.setdefault(record.key, []).append(record)
    return [_spread(records) for records in by_key.values() if _measured(records, len(runs))]


def gate_outcomes(runs: Sequence[Run], baselines: int, most: int = 300) -> Counter[str]:
    """How often the gate would say what of one run held against so many of the others, over `most` choices of them."""
    choices = [
        (run, others) for run in runs for others in combinations([other for other in runs if other != run], baselines)
    ]
    random.Random(0).shuffle(choices)
    noise = noise_of(runs[0])
    outcomes: Counter[str] = Counter()
    for run, others in choices[:most]:
        verdicts = {point.verdict for point in compare_runs(run, others, noise)}
        outcomes["quiet" if verdicts <= {Verdict.SAME} else ", ".join(sorted(verdicts))] += 1
    return outcomes


def _measured(records: Sequence[Record], runs: int) -> bool:
    return len(records) == runs and all(record.status == "ok" for record in records)


def _spread(records: Sequence[Record]) -> dict[str, Any]:
    times_us = [latency_us(record) or 0.0 for record in records]
    mean_us = fmean(times_us)
    return {
        "point": f"{records[0].case.label} · {records[0].kernel}",
        "mean_us": round(mean_us, 2),
        "limit": next(limit for low_us, limit in LIMITS if mean_us >= low_us),
        "cv_time": _cv(times_us),
        "cv_cycles": _cv([t * (sm_clock_mhz(r) or 0.0) for t, r in zip(times_us, records, strict=True)]),
        "sm_clock_mhz": round(fmean(sm_clock_mhz(record) or 0.0 for record in records), 1),
        "medians_us": [round(t, 3) for t in times_us],
    }


def _cv(values: Sequence[float]) -> float | None:
    return round(stdev(values) / fmean(values), 5) if all(values) else None


def _print_class(rows: Sequence[Mapping[str, Any]], low_us: float, limit: float) -> None:
    if not rows:
        return
    print(f"from {low_us:g} us: {len(rows)} points, CV at most {limit:.1%} asked of 90%")
    for name in ("cv_time", "cv_cycles"):
        values = sorted(row[name] for row in rows if row[name] is not None)
        within = sum(value <= limit for value in values) / max(1, len(values))
        print(
            f"  {name}: {within:.0%} within; median {_at(values, 0.5)}, 90% {_at(values, 0.9)}, most {_at(values, 1)}"
        )
    for row in (row for row in rows if row["cv_time"] > limit):
        in_cycles = "-" if row["cv_cycles"] is None else f"{row['cv_cycles']:.2%}"
        print(f"    {row['cv_time']:.2%} ({in_cycles} in cycles) {row['point']}, {row['mean_us']} us")


def _at(ordered: Sequence[float], share: float) -> str:
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.2%}" if ordered else "-"


if __name__ == "__main__":
    main()
