"""Match the points of a run with those of its baselines, and judge each one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain

from mlabench.records.metrics import throttled
from mlabench.records.record import PointKey, Record
from mlabench.records.store import Run
from mlabench.stats import benjamini_hochberg
from mlabench.verdict.noise import Noise, Ratio, estimate_ratio

MIN_SAMPLES = 5
"""Fewer timed samples on either side are no ground for a verdict."""

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
    """One point's verdict. `ratio` is None unless times were compared; `warnings` travel with it."""

    key: PointKey
    label: str
    verdict: Verdict
    reason: str = ""
    ratio: Ratio | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pair:
    current: Record | None
    baselines: tuple[Record, ...]
    warnings: tuple[str, ...]


def compare_runs(current: Run, baselines: Sequence[Run], noise: Noise) -> tuple[Point, ...]:
    """Every point of the current run, and those that only a baseline measured; the baselines' order, then the new ones.

    A baseline's point counts if it was measured (`ok`) there.
    """
    points = tuple(_describe(key, pair, noise) for key, pair in _match(current, baselines).items())
    return _settle(points)


def _match(current: Run, baselines: Sequence[Run]) -> dict[PointKey, _Pair]:
    now = {record.key: record for record in current.records}
    before: dict[PointKey, list[Record]] = {}
    warnings: dict[PointKey, list[str]] = {}
    for run, is_current in [*((run, False) for run in baselines), (current, True)]:
        for record in run.records:
            if record.status == "ok" and not is_current:
                before.setdefault(record.key, []).append(record)
            if throttled(record, run.manifest):
                where = "now" if is_current else f"in {run.name}"
                warnings.setdefault(record.key, []).append(f"clocks were held down {where}")
    keys = dict.fromkeys((*before, *now))
    return {key: _Pair(now.get(key), tuple(before.get(key, ())), tuple(warnings.get(key, ()))) for key in keys}


def _describe(key: PointKey, pair: _Pair, noise: Noise) -> Point:
    """The point with its verdict, or with its ratio and a verdict that waits for the other points."""
    current, before = pair.current, pair.baselines
    if current is None:
        return Point(key, before[0].case.label, Verdict.MISSING, "no record of it now")
    point = Point(key, current.case.label, Verdict.UNMEASURED, warnings=pair.warnings)
    why = f"{current.status}: {current.reason}" if current.reason else current.status
    if current.status == "incorrect":
        return replace(point, verdict=Verdict.INCORRECT, reason=why)
    if current.status != "ok":
        without = Verdict.BROKEN if current.status == "error" else Verdict.UNMEASURED
        return replace(point, verdict=Verdict.LOST if before else without, reason=why)
    if not before:
        return replace(point, verdict=Verdict.NEW, reason="not measured in the baseline")
    if changes := _changes(current, before):
        return replace(point, verdict=Verdict.CHANGED, reason="an exact count differs", changes=changes)
    if obstacle := _obstacle(current, before):
        return replace(point, verdict=Verdict.INVALID, reason=obstacle)
    ratio = estimate_ratio(_samples_us(current), [_samples_us(record) for record in before], noise)
    return replace(point, verdict=Verdict.INCONCLUSIVE, ratio=ratio)


def _changes(current: Record, baselines: Sequence[Record]) -> tuple[Change, ...]:
    differing = (
        Change(name, stored, current.arithmetic[name])
        for record in baselines
        for name, stored in record.arithmetic.items()
        if name in current.arithmetic and current.arithmetic[name] != stored
    )
    return tuple(dict.fromkeys(differing))


def _obstacle(current: Record, baselines: Sequence[Record]) -> str:
    """Why the times cannot be compared, or an empty text."""
    records = (current, *baselines)
    if any(current.arithmetic.keys().isdisjoint(record.arithmetic) for record in baselines):
        return "the exact counts are not stored"
    fewest = min(len(_samples_us(record)) for record in records)
    if fewest < MIN_SAMPLES:
        return f"{fewest} samples where {MIN_SAMPLES} are the least"
    if not all(math.isfinite(sample) and sample > 0 for sample in chain(*map(_samples_us, records))):
        return "a sample is no positive number"
    caches = sorted({record.timing.cache for record in records if record.timing})
    return f"caches differ: {' against '.join(caches)}" if len(caches) > 1 else ""


def _samples_us(record: Record) -> tuple[float, ...]:
    return record.timing.samples_us if record.timing else ()


def _settle(points: Sequence[Point]) -> tuple[Point, ...]:
    """Give each point with a ratio its verdict, over the family of them all."""
    ratios = {point.key: point.ratio for point in points if point.ratio}
    slower = _found({key: ratio.p_slower for key, ratio in ratios.items()})
    faster = _found({key: ratio.p_faster for key, ratio in ratios.items()})

    def settled(point: Point, ratio: Ratio) -> Point:
        if point.key in slower:
            return replace(point, verdict=Verdict.SLOWER)
        if point.key in faster:
            return replace(point, verdict=Verdict.FASTER)
        if ratio.equivalent:
            return replace(point, verdict=Verdict.SAME)
        if ratio.not_slower:
            return replace(point, verdict=Verdict.NOT_SLOWER)
        return replace(point, reason="the noise allows both a slow-down that counts and none")

    return tuple(settled(point, point.ratio) if point.ratio else point for point in points)


def _found(p_values: Mapping[PointKey, float]) -> frozenset[PointKey]:
    rejected = benjamini_hochberg(tuple(p_values.values()), FALSE_DISCOVERY_RATE)
    return frozenset(key for key, is_rejected in zip(p_values, rejected, strict=True) if is_rejected)
