"""Where a measured ratio passes 1, where it lies so near that it may, and how far from there a prediction crosses.

Positions count grid steps: 0 is the first measured length, 1.5 is half way, on a logarithmic scale, between the second
and the third.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LEVEL_SHARE = 0.05
"""A ratio within so much of 1 is level: a crossing may lie anywhere along such lengths, by little of noise or error."""

AGREEING_STEPS = 1.0
"""How far from a measured crossing a predicted one may lie, in grid steps."""


@dataclass(frozen=True, slots=True)
class Zone:
    """Positions from `start` to `stop` along which a measured ratio is level or passes 1.

    `flips` where its sides differ: somewhere in it the ratio has to cross.
    """

    start: float
    stop: float
    flips: bool

    def distance(self, position: float) -> float:
        """Steps from the zone to a position; 0 inside."""
        return max(self.start - position, position - self.stop, 0.0)


def crossings(ratios: Sequence[float], first: int = 0) -> tuple[float, ...]:
    """Positions at which a ratio passes 1, interpolated in its logarithm; `first` is the position of the first one."""
    found = []
    for at, (before, after) in enumerate(pairwise(map(math.log, ratios)), start=first):
        if (before < 0) != (after < 0):
            found.append(at + before / (before - after))
    return tuple(found)


def zones(ratios: Sequence[float]) -> tuple[Zone, ...]:
    """Every zone of a measured ratio, in order."""
    crossed = [Zone(at, at, flips=True) for at in crossings(ratios)]
    level = [Zone(at, at, flips=False) for at, ratio in enumerate(ratios) if _is_level(ratio)]
    found: list[Zone] = []
    for zone in sorted([*crossed, *level], key=lambda zone: zone.start):
        if found and _touch(found[-1], zone, ratios):
            last = found.pop()
            zone = Zone(last.start, zone.stop, last.flips != zone.flips)
        found.append(zone)
    return tuple(found)


def steps_apart(measured: Sequence[float], predicted: Sequence[float], first: int = 0) -> float | None:
    """How many grid steps the crossings of a predicted ratio lie from those of the measured one, at most.

    0 where neither crosses. None where they cannot be matched: only one crosses, or they lie on two sides of 1 away
    from the measured crossings. The predicted ratio may reach beyond the measured one: it begins at position `first`.
    """
    known, crossed, last = zones(measured), crossings(predicted, first), len(measured) - 1
    for at, ratio in enumerate(measured):
        far = all(zone.distance(at) > AGREEING_STEPS for zone in known)
        if far and (ratio > 1) != (predicted[at - first] > 1):
            return None
    needed = [min((zone.distance(at) for at in crossed), default=math.inf) for zone in known if zone.flips]
    spare = [min((zone.distance(at) for zone in known), default=math.inf) for at in crossed if 0 <= at <= last]
    apart = max([0.0, *needed, *spare])
    return apart if apart < math.inf else None


def _is_level(ratio: float) -> bool:
    return abs(math.log(ratio)) <= math.log(1 + LEVEL_SHARE)


def _touch(before: Zone, after: Zone, ratios: Sequence[float]) -> bool:
    """Whether nothing but level ratios lies between two zones, which are no more than a step apart."""
    between = ratios[math.ceil(before.stop) : math.floor(after.start) + 1]
    return after.start - before.stop <= 1 and all(map(_is_level, between))
