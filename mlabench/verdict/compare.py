"""Match the points of a run with those of its baselines, and judge each one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from statistics import median

from mlabench.records.conditions import disturbances
from mlabench.records.manifest import Manifest
from mlabench.records.metrics import fraction_of_floor
from mlabench.records.record import PointKey, Record, Timing
from mlabench.records.store import Run
from mlabench.stats import benjamini_hochberg
from mlabench.units import format_chance, format_percent, format_ratio
from mlabench.verdict.noise import AnyRatio, Noise, Ratio, estimate_ratio

MIN_SAMPLES = 5
"""Fewer timed samples on either side are no ground for a verdict."""

FASTEST_OF_FLOOR = 1.1
"""A cold call that beats the roofline's least time by more than the measured ceilings may be off did not do the work.

Of 451 cold points of an H200 none exceeded 0.998."""

FALSE_DISCOVERY_RATE = 0.05
"""Expected share of unchanged points among those called slower, and among those called faster."""


class Verdict(StrEnum):
    """What became of a point since the baseline, the worst first."""

    INCORRECT = "incorrect"
    """The kernel fails the check now, whatever the baseline says."""
    LOST = "lost"
    """Measured in the baseline; there is a record now, but no time."""
    MISSING = "missing"
    """Measured in the baseline; no record now."""
    CHANGED = "changed"
    """An exact count of the case differs from the stored one, so the times are not of the same work."""
    SLOWER = "slower"
    """Slower by more than the least change that counts."""
    BROKEN = "broken"
    """The kernel fails now, and the baseline has no time for it."""
    INVALID = "invalid"
    """Measured in both, but the times cannot be compared."""
    INCONCLUSIVE = "inconclusive"
    """The noise allows both a slow-down that counts and none."""
    NEW = "new"
    """Measured now and not in the baseline."""
    FASTER = "faster"
    """Faster by more than the least change that counts."""
    NOT_SLOWER = "not slower"
    """Not slower by more than the least change that counts; the noise hides whether it is faster."""
    SAME = "same"
    """Within the least change that counts, both ways."""
    UNMEASURED = "unmeasured"
    """Without a time now, as in the baseline."""


COMPARED = frozenset(
    {
        Verdict.CHANGED,
        Verdict.SLOWER,
        Verdict.INVALID,
        Verdict.INCONCLUSIVE,
        Verdict.FASTER,
        Verdict.NOT_SLOWER,
        Verdict.SAME,
    }
)
"""Verdicts of points that were measured in both runs."""


@dataclass(frozen=True, slots=True)
class Change:
    """An exact count that differs from the baseline's."""

    name: str
    baseline: int
    current: int


@dataclass(frozen=True, slots=True)
class Point:
    """One point's verdict. `ratio` is None unless times were compared; `warnings` travel with it.

    `cycles` is the ratio in SM clock cycles, given as times at the baseline's clock; None where either side has none.
    """

    key: PointKey
    label: str
    verdict: Verdict
    reason: str = ""
    ratio: AnyRatio | None = None
    cycles: AnyRatio | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()


_CLOCK = "clock cycles: the clock, not the code"
_HIDDEN = "a higher clock hides it, or the clock does not set the time"


@dataclass(frozen=True, slots=True)
class _Pair:
    current: Record | None
    baselines: tuple[Record, ...]
    warnings: tuple[str, ...]
    manifest: Manifest


def compare_runs(current: Run, baselines: Sequence[Run], noise: Noise) -> tuple[Point, ...]:
    """Every point of the current run, and those that only a baseline measured; the baselines' order, then the new ones.

    A baseline's point counts if it was measured (`ok`) there.
    """
    points = tuple(_describe(key, pair, noise) for key, pair in _match(current, baselines).items())
    return weigh_clock(settle(points))


def _match(current: Run, baselines: Sequence[Run]) -> dict[PointKey, _Pair]:
    now = {record.key: record for record in current.records}
    before: dict[PointKey, list[Record]] = {}
    warnings: dict[PointKey, list[str]] = {}
    for run, is_current in [*((run, False) for run in baselines), (current, True)]:
        for record in run.records:
            if record.status == "ok" and not is_current:
                before.setdefault(record.key, []).append(record)
            where = "now" if is_current else f"in {run.name}"
            found = [f"{text} {where}" for text in disturbances(record, run.manifest)]
            warnings.setdefault(record.key, []).extend(found)
    keys = dict.fromkeys((*before, *now))
    return {
        key: _Pair(now.get(key), tuple(before.get(key, ())), tuple(warnings.get(key, ())), current.manifest)
        for key in keys
    }


def _describe(key: PointKey, pair: _Pair, noise: Noise) -> Point:
    """The point with its verdict, or with its ratio and a verdict that waits for the other points."""
    current, before = pair.current, pair.baselines
    if current is None:
        return Point(key, before[0].case.label, Verdict.MISSING, "no record of it now")
    point = Point(key, current.case.label, Verdict.UNMEASURED, warnings=pair.warnings)
    if current.status == "incorrect":
        return replace(point, verdict=Verdict.INCORRECT, reason=current.reason)
    why = f"{current.status}: {current.reason}" if current.reason else current.status
    if current.status != "ok":
        without = Verdict.BROKEN if current.status == "error" else Verdict.UNMEASURED
        return replace(point, verdict=Verdict.LOST if before else without, reason=why)
    if not before:
        return replace(point, verdict=Verdict.NEW, reason="not measured in the baseline")
    if changes := _changes(current, before):
        return replace(point, verdict=Verdict.CHANGED, reason="an exact count differs", changes=changes)
    if obstacle := _obstacle(current, before, pair.manifest):
        return replace(point, verdict=Verdict.INVALID, reason=obstacle)
    if versions := _other_packages(current, before):
        point = replace(point, warnings=(*point.warnings, versions))
    ratio = estimate_ratio(_samples_us(current), [_samples_us(record) for record in before], noise)
    if ratio.baselines_spread > ratio.min_effect:
        apart = f"its baselines lie {format_percent(ratio.baselines_spread)} apart"
        least = f"more than the {format_percent(ratio.min_effect)} that count"
        point = replace(point, warnings=(*point.warnings, f"{apart}, {least}: sweep them anew on an idle machine"))
    cycles = _estimate_cycles([record.timing for record in (current, *before)], noise)
    return replace(point, verdict=Verdict.INCONCLUSIVE, ratio=ratio, cycles=cycles)


def _changes(current: Record, baselines: Sequence[Record]) -> tuple[Change, ...]:
    differing = (
        Change(name, stored, current.arithmetic[name])
        for record in baselines
        for name, stored in record.arithmetic.items()
        if name in current.arithmetic and current.arithmetic[name] != stored
    )
    return tuple(dict.fromkeys(differing))


def _other_packages(current: Record, baselines: Sequence[Record]) -> str:
    """That a kernel of an outside package comes from another version of it now; empty where it does not."""
    now = current.kernel_config.get("package")
    others = sorted({str(before) for record in baselines if (before := record.kernel_config.get("package")) != now})
    return f"another package's work: {', '.join(others)} in the baseline, {now} now" if others else ""


def _obstacle(current: Record, baselines: Sequence[Record], manifest: Manifest) -> str:
    """Why the times cannot be compared, or an empty text. The manifest is the current run's."""
    records = (current, *baselines)
    # A baseline may be older than a count; the current run holds every one that there is.
    if not all(record.arithmetic and record.arithmetic.keys() <= current.arithmetic.keys() for record in baselines):
        return "not all exact counts are stored"
    fewest = min(len(_samples_us(record)) for record in records)
    if fewest < MIN_SAMPLES:
        return f"{fewest} samples where {MIN_SAMPLES} are the least"
    if not all(math.isfinite(sample) and sample > 0 for sample in chain(*map(_samples_us, records))):
        return "a sample is no positive number"
    if current.timing and current.timing.cache == "cold" and _share_of_floor(current, manifest) > FASTEST_OF_FLOOR:
        return f"{format_ratio(_share_of_floor(current, manifest))} as fast as the roofline allows a cold call"
    caches = sorted({record.timing.cache for record in records if record.timing})
    return f"caches differ: {' against '.join(caches)}" if len(caches) > 1 else ""


def _share_of_floor(record: Record, manifest: Manifest) -> float:
    return fraction_of_floor(record, manifest) or 0.0


def _estimate_cycles(timings: Sequence[Timing | None], noise: Noise) -> Ratio | None:
    """The ratio in clock cycles of the first to the others, where every sample of all has its clock."""
    clocked = [(t.samples_us, t.sm_clocks_mhz) for t in timings if t and t.sm_clocks_mhz]
    clocks = [clock for _, each in clocked for clock in each]
    if len(clocked) < len(timings) or not all(math.isfinite(clock) and clock > 0 for clock in clocks):
        return None
    if any(len(samples) != len(each) for samples, each in clocked):
        return None
    # As times at one clock, so that the least time that counts means the same as for the times themselves.
    one_clock = median(chain.from_iterable(each for _, each in clocked[1:]))
    current, *baselines = (
        [time * clock / one_clock for time, clock in zip(samples, each, strict=True)] for samples, each in clocked
    )
    return estimate_ratio(current, baselines, noise)


def _samples_us(record: Record) -> tuple[float, ...]:
    return record.timing.samples_us if record.timing else ()


def settle(points: Sequence[Point]) -> tuple[Point, ...]:
    """Give each point with a ratio its verdict, over the family of them all."""
    ratios = {point.key: point.ratio for point in points if point.ratio}
    slower = _found({key: ratio.p_slower for key, ratio in ratios.items()})
    faster = _found({key: ratio.p_faster for key, ratio in ratios.items()})

    def settled(point: Point, ratio: AnyRatio) -> Point:
        if point.key in slower:
            return replace(point, verdict=Verdict.SLOWER)
        if point.key in faster:
            return replace(point, verdict=Verdict.FASTER)
        if ratio.equivalent:
            return replace(point, verdict=Verdict.SAME)
        if ratio.not_slower:
            return replace(point, verdict=Verdict.NOT_SLOWER)
        return replace(point, reason=_why_unclear(ratio, len(ratios)))

    return tuple(settled(point, point.ratio) if point.ratio else point for point in points)


def _why_unclear(ratio: AnyRatio, family: int) -> str:
    if ratio.interval[0] <= 1 + ratio.min_effect:
        return "the noise allows both a slow-down that counts and none"
    beyond = f"beyond the {format_percent(ratio.min_effect)} that count"
    return f"{beyond}, but not surely enough as one of {family} points (p = {format_chance(ratio.p_slower)})"


def _found(p_values: Mapping[PointKey, float]) -> frozenset[PointKey]:
    rejected = benjamini_hochberg(tuple(p_values.values()), FALSE_DISCOVERY_RATE)
    return frozenset(key for key, is_rejected in zip(p_values, rejected, strict=True) if is_rejected)


def weigh_clock(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points with their verdicts held against their clock cycles, where both sides have those.

    A change in time alone is the clock's: such a slow-down is inconclusive, such a speed-up only not slower. More
    cycles that the time does not show become a warning.
    """
    more = _found({point.key: point.cycles.p_slower for point in points if point.cycles})
    return tuple(_weigh(point, point.cycles, point.key in more) if point.cycles else point for point in points)


def _weigh(point: Point, cycles: AnyRatio, more_cycles: bool) -> Point:
    if point.verdict is Verdict.SLOWER and cycles.not_slower:
        seen = "the same" if cycles.equivalent else "not slower"
        return replace(point, verdict=Verdict.INCONCLUSIVE, reason=f"slower in time and {seen} in {_CLOCK}")
    if more_cycles and point.verdict is not Verdict.SLOWER:
        hidden = f"slower in clock cycles ({format_ratio(cycles.value)}) and not in time: {_HIDDEN}"
        point = replace(point, warnings=(*point.warnings, hidden))
    if point.verdict is Verdict.FASTER and (more_cycles or cycles.equivalent):
        seen = "slower" if more_cycles else "the same"
        return replace(point, verdict=Verdict.NOT_SLOWER, reason=f"faster in time and {seen} in {_CLOCK}")
    return point
