"""How often `mlabench ab` errs, on simulated noise or on recorded blocks.

    python -m tests.bench.error_rates --out FILE [--replicas 1000] [--pairs PAIRS.jsonl ...]

Runs of 64 unchanged cases show the false alarms, single cases with a seeded slow-down the chance to find it, and both
how often the 90% interval holds the true ratio. The numbers of `NOISES` are those of an H200. With `--pairs` the noise
is that of recorded A/A pairs: each simulated case draws its blocks from one recorded run of a case, so that what stays
the same within a process stays so.
"""

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from mlabench.measure.blocks import collect_blocks
from mlabench.measure.timing.method import Budget, Samples, collect
from mlabench.records.paired_ratio import PairedRatio, paired_ratio
from mlabench.records.pairs import Block, Pair, Plan, Side, load_pairs
from mlabench.stats import median_interval
from mlabench.verdict.interleaved import judge_pairs, make_plan
from mlabench.verdict.point import Point, Verdict
from tests.factories import make_case

CASES = [make_case(kv_len=1024 * step) for step in range(1, 65)]
SIDE = Side("kernel", "triton", status="ok")
SLOW_DOWNS = (0.02, 0.03, 0.05)
Draw = Callable[[random.Random, float], Iterator[Block]]
"""Endless blocks of a case whose candidate takes so many times as long."""


@dataclass(frozen=True, slots=True)
class Noise:
    """`call_sd` is that of a call's time, relative; `step_us` what the clock counts in; `tails` their shape."""

    level_us: float
    call_sd: float
    step_us: float = 0.0
    calls: int = 5
    tails: str = "normal"

    def blocks(self, rng: random.Random, factor: float) -> Iterator[Block]:
        """Blocks of this noise."""
        while True:
            base_us = tuple(self._time_us(rng, 1.0) for _ in range(self.calls))
            candidate_us = tuple(self._time_us(rng, factor) for _ in range(self.calls))
            yield Block(True, base_us, candidate_us)

    def _time_us(self, rng: random.Random, factor: float) -> float:
        time_us = self.level_us * factor * math.exp(self.call_sd * TAILS[self.tails](rng))
        return self.step_us * max(1, round(time_us / self.step_us)) if self.step_us else time_us


def _heavy(rng: random.Random) -> float:
    """Student's t with three degrees of freedom: its standard deviation is 1.7, and some values lie far out."""
    return rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2) / 3)


def _stray(rng: random.Random) -> float:
    """One in fifty lies ten to fifty standard deviations above."""
    return rng.gauss(0, 1) + (rng.uniform(10, 50) if rng.random() < 0.02 else 0)


TAILS: Mapping[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(0, 1),
    "heavy": _heavy,
    "stray": _stray,
}

# A chunk's median of five calls scatters by 0.536 of a call, and the ratio of two by 0.757 of it.
MEMORY, COMPUTE = Noise(300, 0.004 / 0.757), Noise(450, 0.011 / 0.757)
NOISES: Mapping[str, Noise] = {
    "memory-bound": MEMORY,
    "compute-bound": COMPUTE,
    "short, 20 us": Noise(20, 0.015, step_us=0.032),
    "short, 12 us": Noise(12, 0.02, step_us=0.032),
    "heavy tails": replace(COMPUTE, tails="heavy"),
    "stray calls": replace(COMPUTE, tails="stray"),
    "long, one call a chunk, stray calls": Noise(15_000, 0.008, calls=1, tails="stray"),
}
"""Pairs of five calls differ by 0.4% where memory binds and by 1.1% where arithmetic does; short calls by 1 to 2%."""


def main() -> None:
    """Run the study, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.error_rates")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--pairs", type=Path, nargs="+", default=[])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    asked = parser.parse_args()
    recorded: dict[str, list[Sequence[Block]]] = {}
    for pair in (pair for path in asked.pairs for pair in load_pairs(path) if pair.blocks):
        recorded.setdefault(f"{pair.case.label} · {pair.candidate.kernel}", []).append(pair.blocks)
    draws = {name: recorded_blocks(runs) for name, runs in recorded.items()} or {
        name: noise.blocks for name, noise in NOISES.items()
    }
    plan = unhurried_plan(asked.device)
    replicas = max(1, asked.replicas // len(draws)) if recorded else asked.replicas
    study: dict[str, Any] = {
        "replicas": asked.replicas,
        "looks": list(plan.looks),
        "min_effect": plan.min_effect,
        "source": [str(path) for path in asked.pairs] or "simulated",
        "replicas of a case": replicas,
        "unchanged, mixed": false_alarms(list(draws.values()), plan, asked.replicas),
    }
    for name, draw in draws.items():
        study[name] = {} if recorded else {"unchanged": false_alarms([draw], plan, max(1, replicas // 10))}
        for slow_down in (0.0, plan.min_effect, *SLOW_DOWNS):
            study[name][f"{slow_down:.0%} slower"] = power(draw, plan, slow_down, replicas, name)
    study["found in all"] = {
        f"{slow_down:.0%} slower": fmean(study[name][f"{slow_down:.0%} slower"]["found"] for name in draws)
        for slow_down in SLOW_DOWNS
    }
    if recorded:
        study["95% intervals of medians cover"] = fmean(interval_coverage(runs, 50) for runs in recorded.values())
    asked.out.write_text(json.dumps(study, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: study[name] for name in study if name not in draws}, indent=1))


def unhurried_plan(device: str = "cuda") -> Plan:
    """The plan of 64 cases, without a limit of time, which a simulation does not spend."""
    return replace(make_plan(device, len(CASES)), max_s=math.inf)


def recorded_blocks(runs: Sequence[Sequence[Block]]) -> Draw:
    """Blocks drawn from one of the recorded runs of a case, the candidate's times multiplied."""

    def draw(rng: random.Random, factor: float) -> Iterator[Block]:
        blocks = rng.choice(runs)
        while True:
            block = rng.choice(blocks)
            yield replace(block, candidate_us=tuple(factor * time_us for time_us in block.candidate_us))

    return draw


def interval_coverage(runs: Sequence[Sequence[Block]], trials: int) -> float:
    """How often adaptive sampling's 95% interval holds the median of all recorded times, drawn independently."""
    times_us = [time_us for blocks in runs for block in blocks for time_us in block.base_us]
    rng, middle, covered = random.Random(0), median(times_us), 0
    for _ in range(trials):
        samples, _ = collect(lambda count: Samples(tuple(rng.choices(times_us, k=count))), Budget(max_s=math.inf))
        _, low, high = median_interval(samples.times_us)
        covered += low <= middle <= high
    return covered / trials


def false_alarms(draws: Sequence[Draw], plan: Plan, runs: int) -> dict[str, Any]:
    """Runs of 64 unchanged cases whose noises take turns: how many raised an alarm, and how the cases came out."""
    verdicts: Counter[str] = Counter()
    slower = faster = unclear = blocks = 0
    for run in range(runs):
        points, count = simulated_run(draws, plan, f"run {run}")
        counts = Counter(point.verdict for point in points)
        verdicts.update(verdict.value for verdict in counts.elements())
        slower += Verdict.SLOWER in counts
        faster += Verdict.FASTER in counts
        unclear += Verdict.INCONCLUSIVE in counts
        blocks += count
    return {
        "runs": runs,
        "runs_with_slower": slower,
        "runs_with_faster": faster,
        "runs_with_inconclusive": unclear,
        "cases": dict(verdicts),
        "mean_blocks": blocks / runs / len(CASES),
    }


def simulated_run(
    draws: Sequence[Draw], plan: Plan, seed: str, slow: Mapping[int, float] | None = None
) -> tuple[Sequence[Point], int]:
    """The points of a run of 64 cases, those at the places of `slow` slowed by the fraction, and its blocks."""
    pairs = []
    for place, case in enumerate(CASES):
        draw = draws[place % len(draws)]
        factor = 1 + (slow or {}).get(place, 0.0)
        blocks = take_blocks(draw, plan, factor, f"{seed}, case {place}")
        pairs.append(Pair(case, SIDE, SIDE, "graph", "cold", 0, plan, blocks))
    return judge_pairs(pairs), sum(len(pair.blocks) for pair in pairs)


def power(draw: Draw, plan: Plan, slow_down: float, cases: int, seed: str = "") -> dict[str, Any]:
    """Single cases with a slow-down, whatever 63 others would give: found, called the same, and the interval's hits."""
    found = same = covered = blocks = 0
    for index in range(cases):
        ratio, count = simulated_ratio(draw, plan, 1 + slow_down, f"{seed} {slow_down} {index}")
        found += ratio.p_slower <= plan.certain_p
        same += ratio.equivalent
        covered += ratio.interval[0] <= 1 + slow_down <= ratio.interval[1]
        blocks += count
    return {
        "found": found / cases,
        "called_the_same": same / cases,
        "interval_covers": covered / cases,
        "mean_blocks": blocks / cases,
    }


def simulated_ratio(draw: Draw, plan: Plan, factor: float, seed: str) -> tuple[PairedRatio, int]:
    """One case, sampled as long as the plan says."""
    blocks = take_blocks(draw, plan, factor, seed)
    return paired_ratio(blocks, plan), len(blocks)


def take_blocks(draw: Draw, plan: Plan, factor: float, seed: str) -> tuple[Block, ...]:
    """Blocks until the plan says stop, by the code that stops a real case."""
    drawn = draw(random.Random(seed), factor)
    (blocks,), _ = collect_blocks(lambda order: [replace(next(drawn), base_first=order[0] == 0)], 1, plan, seed)
    return blocks


if __name__ == "__main__":
    main()
