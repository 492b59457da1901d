"""Verdicts over the family of all points, and what takes one back: clocks that changed, others on the processors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlabench.records.record import PointKey
from mlabench.stats import benjamini_hochberg
from mlabench.units import format_chance, format_percent, format_ratio
from mlabench.verdict.noise import AnyRatio
from mlabench.verdict.point import Point, Verdict

FALSE_DISCOVERY_RATE = 0.05
"""Expected share of unchanged points among those called slower, and among those called faster."""


_CLOCK = "clock cycles: the clock, not the code"
_HIDDEN = "a higher clock hides it, or the clock does not set the time"


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


def weigh_crowds(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points, inconclusive where a difference may be the work of others on the processors that were timed."""
    return tuple(_weigh_crowd(point) for point in points)


def _weigh_crowd(point: Point) -> Point:
    if not point.crowded or point.verdict not in (Verdict.SLOWER, Verdict.FASTER):
        return point
    reason = f"{point.verdict}, but others computed on the processors {' and '.join(point.crowded)}"
    return replace(point, verdict=Verdict.INCONCLUSIVE, reason=reason)
