"""Match the points of a run with those of its baselines, and judge each one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median

from mlabench.records.conditions import crowded, disturbances
from mlabench.records.manifest import Manifest
from mlabench.records.metrics import fraction_of_floor
from mlabench.records.record import PointKey, Record, Timing
from mlabench.records.store import Run
from mlabench.units import format_percent, format_ratio
from mlabench.verdict.noise import Noise, Ratio, estimate_ratio
from mlabench.verdict.point import Change, Point, Verdict
from mlabench.verdict.settle import settle, weigh_clock, weigh_crowds

MIN_SAMPLES = 5
"""Fewer timed samples on either side are no ground for a verdict."""

FASTEST_OF_FLOOR = 1.1
"""A cold call that beats the roofline's least time by more than the measured ceilings may be off did not do the work.

Of 451 cold points of an H200 none exceeded 0.998."""


@dataclass(frozen=True, slots=True)
class _Pair:
    current: Record | None
    baselines: tuple[Record, ...]
    warnings: tuple[str, ...]
    crowded: tuple[str, ...]
    manifest: Manifest


def compare_runs(current: Run, baselines: Sequence[Run], noise: Noise) -> tuple[Point, ...]:
    """Every point of the current run, and those that only a baseline measured; the baselines' order, then the new ones.

    A baseline's point counts if it was measured (`ok`) there.
    """
    points = tuple(_describe(key, pair, noise) for key, pair in _match(current, baselines).items())
    return weigh_crowds(weigh_clock(settle(points)))


def _match(current: Run, baselines: Sequence[Run]) -> dict[PointKey, _Pair]:
    now = {record.key: record for record in current.records}
    before: dict[PointKey, list[Record]] = {}
    warnings: dict[PointKey, list[str]] = {}
    crowds: dict[PointKey, list[str]] = {}
    for run, is_current in [*((run, False) for run in baselines), (current, True)]:
        for record in run.records:
            if record.status == "ok" and not is_current:
                before.setdefault(record.key, []).append(record)
            where = "now" if is_current else f"in {run.name}"
            found = [f"{text} {where}" for text in disturbances(record, run.manifest)]
            warnings.setdefault(record.key, []).extend(found)
            crowds.setdefault(record.key, []).extend([where] if crowded(record) else [])
    keys = dict.fromkeys((*before, *now))
    return {
        key: _Pair(now.get(key), tuple(before.get(key, ())), tuple(warnings[key]), tuple(crowds[key]), current.manifest)
        for key in keys
    }


def _describe(key: PointKey, pair: _Pair, noise: Noise) -> Point:
    """The point with its verdict, or with its ratio and a verdict that waits for the other points."""
    current, before = pair.current, pair.baselines
    if current is None:
        return Point(key, before[0].case.label, Verdict.MISSING, "no record of it now")
    point = Point(key, current.case.label, Verdict.UNMEASURED, warnings=pair.warnings, crowded=pair.crowded)
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
