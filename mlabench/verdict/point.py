"""What is said of one point: its verdict, and what stands beside it."""

from dataclasses import dataclass
from enum import StrEnum

from mlabench.records.record import PointKey
from mlabench.verdict.noise import AnyRatio


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
    `crowded` says where others computed on the processors that were timed: `now`, `in BASELINE`.
    """

    key: PointKey
    label: str
    verdict: Verdict
    reason: str = ""
    ratio: AnyRatio | None = None
    cycles: AnyRatio | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    crowded: tuple[str, ...] = ()
