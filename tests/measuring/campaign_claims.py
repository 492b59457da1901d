"""What the page on measuring says of repeated runs and of the gates, its figures computed anew."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import permutations
from statistics import fmean

from mlabench.units import format_latency
from mlabench.verdict.compare import compare_runs
from mlabench.verdict.interleaved import LEAST_EFFECTS
from mlabench.verdict.noise import NOISE, estimate_ratio
from mlabench.verdict.point import Verdict
from mlabench.verdict.settle import FALSE_DISCOVERY_RATE
from tests.bench.repeatability import LIMITS, spreads
from tests.measuring.evidence import EVIDENCE, ab_pairs, ab_points, runs, study

SHORT_US = 20
"""Calls under it have a class of their own."""


def repeatability() -> Iterator[str]:
    rows = spreads(runs("repeat/*"))
    yield f"The same {len(rows)} points in ten processes"
    for label, (_, limit) in zip(("100 us and more", "20 to 100 us", "under 20 us"), LIMITS, strict=True):
        times = sorted(row["cv_time"] for row in rows if row["limit"] == limit)
        in_cycles = max(row["cv_cycles"] for row in rows if row["limit"] == limit)
        middle, ninety = (times[int(share * len(times))] for share in (0.5, 0.9))
        yield (
            f"| {label} | {len(times)} | {100 * limit:g}% | {middle:.2%} | {ninety:.2%} | {times[-1]:.2%} "
            f"| {in_cycles:.2%} |"
        )
    yield "asked of 90% | median | 90% within"


def interleaved_gate() -> Iterator[str]:
    points = [point for run in ab_points() for point in run]
    assert len(ab_points()) == 10 and {point.verdict for point in points} == {Verdict.SAME}
    times_us = [point.ratio.baseline_us for point in points]
    lengths = f"{format_latency(min(times_us))} to {format_latency(max(times_us))}"
    yield f"{len(ab_points()[0])} points of {lengths} each"
    texts = [(path / "manifest.json").read_text(encoding="utf-8") for path in sorted(EVIDENCE.glob("ab/*"))]
    starts = [datetime.fromisoformat(json.loads(text)["created_at"]) for text in texts]
    yield f"started {(starts[-1] - starts[0]).total_seconds() / (len(starts) - 1):.0f} s apart"
    blocks = fmean(len(pair.blocks) for pairs in ab_pairs() for pair in pairs)
    furthest = max(abs(point.ratio.value - 1) for point in points)
    yield f"all {len(points)} points were `same`, the furthest off by {furthest:.2%}, after {blocks:.0f} blocks"


def redrawn() -> Iterator[str]:
    unchanged, found = study()["unchanged, mixed"], study()["found in all"]
    alarms = sum(unchanged[f"runs_with_{what}"] for what in ("slower", "faster", "inconclusive"))
    yield f"Of {unchanged['runs']:,} redrawn runs of 64 unchanged points, {alarms} called any"
    cases = [case for case in study().values() if isinstance(case, dict) and "0% slower" in case]
    each = study()["replicas of a case"]
    two, three, five = (f"{100 * share:.4g}%" for share in found.values())
    yield f"A slow-down of 2%, 3% or 5% was found in {two}, {three} and {five}"
    yield f"of {each * len(cases):,} cases each ({each} of every point)"

    def share(slow_down: str, what: str) -> str:
        return f"{fmean(case[f'{slow_down} slower'][what] for case in cases):.1%}"

    yield f"At the edge, 1%, {share('1%', 'found')} were called slower and {share('1%', 'called_the_same')} the same"
    none, two, edge = (share(slow_down, "interval_covers") for slow_down in ("0%", "2%", "1%"))
    yield f"The 90% interval held the seeded ratio in {none} of unchanged cases, in {two} at 2%"
    yield f"and in {edge} at 1%"
    furthest = max(abs(point.ratio.value - 1) for points in ab_points() for point in points)
    yield f"which in one recorded run is up to {furthest:.2%}"


def stored_gate() -> Iterator[str]:
    repeated, noise = runs("repeat/*"), NOISE["cuda"]
    nine = [compare_runs(run, [other for other in repeated if other is not run], noise) for run in repeated]
    one = [compare_runs(run, [other], noise) for run, other in permutations(repeated, 2)]
    assert {point.verdict for points in nine + one for point in points} == {Verdict.SAME}
    yield f"against the nine others, {sum(map(len, nine))} points: all `same`"
    yield f"{len(one)} pairs of runs, {sum(map(len, one)):,} points: all `same`"
    yield f"as the only one of {len(nine[0])}"
    classes = f"{SHORT_US} us and more | under {SHORT_US} us"
    yield f"against nine, {classes} | against one, {classes}"
    for slow_down in (0.05, 0.08, 0.10, 0.15):
        shares = [found_slower(slow_down, against, short) for against in (9, 1) for short in (False, True)]
        yield f"| {slow_down:.0%} | {' | '.join(f'{share:.0%}' for share in shares)} |"
    yield f"Its least change that counts is {noise.min_effect:.0%} or {noise.min_effect_us:.0f} us"


def found_slower(slow_down: float, against: int, short: bool) -> float:
    """Share of the slowed points called slower than in the next so many runs, each as the least chance of its run."""
    samples = [{record.key: record.timing.samples_us for record in run.records} for run in runs("repeat/*")]
    found = []
    for place, run in enumerate(samples):
        others = [samples[(place + step) % len(samples)] for step in range(1, against + 1)]
        for key, times_us in run.items():
            slowed_us = [time_us * (1 + slow_down) for time_us in times_us]
            ratio = estimate_ratio(slowed_us, [other[key] for other in others], NOISE["cuda"])
            if (ratio.baseline_us < SHORT_US) == short:
                found.append(ratio.p_slower <= FALSE_DISCOVERY_RATE / len(run))
    return fmean(found)


def not_covered() -> Iterator[str]:
    least, least_us = LEAST_EFFECTS["cuda"]
    yield f"that `--ab` counts is {least:.0%}, and at least {least_us} us, since placement alone"
    yield "moves a cold call by 0.1 to 0.2 us"
    yield f"{least_us} us is 2% of {least_us / 0.02:.0f} us: below that, calls cannot be gated to 2%"
    shortest_us = min(point.ratio.baseline_us for run in ab_points() for point in run)
    yield f"No call under {shortest_us:.0f} us is in its campaign"


CLAIMS = (repeatability, interleaved_gate, redrawn, stored_gate, not_covered)
