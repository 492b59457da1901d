"""The verdicts of an interleaved comparison: its least effects, its plan, and its pairs as points."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import geometric_mean
from typing import Any, ClassVar

from mlabench.cases.case import Case
from mlabench.errors import ExitCode, UsageError
from mlabench.records.conditions import pair_disturbances
from mlabench.records.paired_ratio import ERROR_RATE, MIN_BLOCKS, paired_cycles, paired_ratio
from mlabench.records.pairs import Pair, Plan, Side
from mlabench.units import format_ratio_interval
from mlabench.verdict.comparison import Comparison, Settings, format_points
from mlabench.verdict.gate import UNCLEAR, GateResult
from mlabench.verdict.point import Point, Verdict
from mlabench.verdict.settle import FALSE_DISCOVERY_RATE, settle, weigh_clock

LOOKS = (12, 24, 48, 96, 192)
"""Counts of blocks at which a case is judged. At 1.1% a block a 2% slow-down is found by 48, one of 1.6% by 192."""

MAX_S = 5.0
"""After so many seconds of blocks a case is judged by what there is."""

BEST_OF_THEM = "best of them"
"""What the fastest of several kernels at each case is summed up as."""

LEAST_EFFECTS: Mapping[str, tuple[float, float]] = {"cuda": (0.01, 0.5), "cpu": (0.05, 2.0)}
"""By device kind the least change that counts, as a fraction and in microseconds.

Of a call on a GPU, 0.1 to 0.2 us (standard deviation) depend on where a side's code and launch parameters lie in
memory, since a cold L2 holds neither. On a shared CPU one kernel bound twice differed from itself by 1.3%
(standard deviation over 120 pairs, at most 3.6%). Both stay the same over all blocks: more of them do not help."""


NOT_DONE = frozenset({"unsupported", "unavailable"})
"""Statuses of a kernel that does not do a case, or is not installed."""


@dataclass(frozen=True, slots=True)
class AbResult(Comparison):
    """Two kernels held against each other, neither of them judged; `incorrect` pairs had a side that was wrong."""

    title: ClassVar[str] = "ab"

    incorrect: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """Whether a side was incorrect, else whether anything was compared."""
        return ExitCode.INCORRECT if self.incorrect else super(AbResult, self).exit_code


@dataclass(frozen=True, slots=True)
class Total:
    """A kernel's times over the base's at `points` cases: their geometric mean, the least and the greatest."""

    name: str
    points: int
    geometric_mean: float
    least: float
    greatest: float

    def text(self, base: str) -> str:
        """The line that says so."""
        ratio = format_ratio_interval(self.geometric_mean, self.least, self.greatest)
        return (
            f"{self.name}: {ratio} the time of {base}, geometric mean [least, greatest] of {format_points(self.points)}"
        )


@dataclass(frozen=True, slots=True)
class AbManyResult(AbResult):
    """Several kernels held against one base. What one of them does not do is no fault."""

    @property
    def sums(self) -> tuple[Total, ...]:
        """One for each kernel that was compared, and one for the fastest of them at each case."""
        by_kernel: dict[str, list[float]] = {}
        by_case: dict[str, float] = {}
        for point in self.points:
            if point.ratio:
                case_id, kernel, _ = point.key
                by_kernel.setdefault(kernel, []).append(point.ratio.value)
                by_case[case_id] = min(point.ratio.value, by_case.get(case_id, math.inf))
        every = {**by_kernel, **({BEST_OF_THEM: list(by_case.values())} if by_case else {})}
        return tuple(
            Total(name, len(ratios), geometric_mean(ratios), min(ratios), max(ratios)) for name, ratios in every.items()
        )

    @property
    def totals(self) -> tuple[str, ...]:
        """The sums as lines."""
        return tuple(total.text(self.baselines[0]) for total in self.sums)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the sums as `totals`."""
        return super(AbManyResult, self).to_json() | {"totals": [asdict(total) for total in self.sums]}


@dataclass(frozen=True, slots=True)
class AbGateResult(GateResult):
    """Kernels held against themselves at another commit."""

    hints: ClassVar[Mapping[ExitCode, str]] = {
        ExitCode.REGRESSION: "if the change is meant, name a later commit as the base",
        ExitCode.NOTHING_MEASURED: (
            "the points say why: mend what fails, or choose kernels, cases and a device with times at both commits"
        ),
    }

    @property
    def hint_when_unclear(self) -> str:
        """Longer sampling mends no side that fails, and no file that nothing runs."""
        if Verdict.INCONCLUSIVE in self.counts:
            return "give each point longer with --max-s"
        if self.counts.keys() & UNCLEAR:
            return "the points say which side has no time: name a commit where they work, or leave those kernels out"
        return (
            "add the cases that run what differs (-a phase=prefill, -a scope=layer, another --device), "
            "or leave the others out with --kernel"
        )


def make_plan(device: str, family: int, min_effect: float | None = None, max_s: float = MAX_S) -> Plan:
    """The plan for each of `family` cases. `min_effect` is a fraction, by default the device's. Raises `UsageError`."""
    least, least_us = LEAST_EFFECTS[device]
    least = least if min_effect is None else min_effect
    if not 0 < least < 1:
        raise UsageError(f"--min-effect {least} must lie between 0 and 1: write 0.01 for 1%")
    if not 0 < max_s < math.inf:
        raise UsageError(f"--max-s {max_s:g} must be above zero, and finite")
    # What Benjamini and Hochberg ask of the smallest of as many chances: it stands whatever the others are.
    return Plan(LOOKS, max_s, least, least_us, FALSE_DISCOVERY_RATE / family)


def plan_settings(plan: Plan) -> Settings:
    """What the points of a comparison under this plan are judged by."""
    others = {
        "looks": list(plan.looks),
        "max_s": plan.max_s,
        "min_blocks": MIN_BLOCKS,
        "false_discovery_rate": FALSE_DISCOVERY_RATE,
        "confidence": 1 - 2 * ERROR_RATE,
    }
    return Settings(plan.min_effect, plan.min_effect_us, others=others)


def ab_result(
    base: str,
    candidates: Sequence[str],
    pairs: Sequence[Pair],
    plan: Plan,
    gpu_state: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> AbResult:
    """The pairs of a base and one or several others, named as the user named them.

    `gpu_state` is that of their manifest.
    """
    wrong = sum("incorrect" in (pair.base.status, pair.candidate.status) for pair in pairs)
    judged = judge_pairs(pairs, gpu_state, allow_new=True)
    points = tuple(map(_without_loss, judged, pairs))
    kind = AbResult if len(candidates) == 1 else AbManyResult
    return kind(", ".join(candidates), (base,), plan_settings(plan), points, tuple(warnings), incorrect=wrong)


def _without_loss(point: Point, pair: Pair) -> Point:
    """Another kernel than the base's never had a time there that it could have lost."""
    if point.verdict is not Verdict.LOST or pair.base.kernel == pair.candidate.kernel:
        return point
    return replace(point, verdict=Verdict.UNMEASURED if pair.candidate.status in NOT_DONE else Verdict.INVALID)


def judge_pairs(
    pairs: Sequence[Pair], gpu_state: Mapping[str, Any] | None = None, *, allow_new: bool = False
) -> tuple[Point, ...]:
    """A point a pair, with verdicts over the family of them all, in time and in clock cycles.

    A kernel that the base's commit lacks is new where that is allowed: it may as well be one that was renamed, whose
    times would go unjudged.
    """
    return weigh_clock(settle([_describe(pair, gpu_state, allow_new) for pair in pairs]))


def missing_point(case: Case, kernel: str, method: str) -> Point:
    """The point of a kernel that the base has and the sources at hand do not."""
    reason = f"the base has a kernel {kernel}, and there is none now; if that is meant, choose the others with --kernel"
    return Point((case.case_id, kernel, method), case.label, Verdict.MISSING, reason)


def _describe(pair: Pair, gpu_state: Mapping[str, Any] | None, allow_new: bool) -> Point:
    """The point with its verdict, or with its ratio and a verdict that waits for the other points."""
    key = (pair.case.case_id, pair.candidate.kernel, pair.method)
    warnings = tuple(pair_disturbances(pair, gpu_state))
    point = Point(key, pair.case.label, Verdict.INCONCLUSIVE, warnings=warnings)
    if pair.candidate.status != "ok":
        return replace(point, verdict=_without_candidate(pair), reason=_why(pair))
    if pair.base.status != "ok":
        # A shape that is new since the base is no loss; a base that fails hides what it would have shown.
        if pair.base.status == "unsupported" or (pair.base.status == "unavailable" and allow_new):
            return replace(point, verdict=Verdict.NEW, reason=_why(pair))
        mend = "; if the kernel is new, add --allow-new" if pair.base.status == "unavailable" else ""
        return replace(point, verdict=Verdict.INVALID, reason=_why(pair) + mend)
    if len(pair.blocks) < MIN_BLOCKS:
        reason = f"{len(pair.blocks)} blocks where {MIN_BLOCKS} are the least"
        return replace(point, verdict=Verdict.INVALID, reason=reason)
    return replace(point, ratio=paired_ratio(pair.blocks, pair.plan), cycles=paired_cycles(pair.blocks, pair.plan))


def was_run(pair: Pair) -> bool:
    """Whether the candidate's code ran, to whatever end: one that is wrong or breaks off has been looked at."""
    return pair.candidate.status is not None and pair.candidate.status not in NOT_DONE


def _without_candidate(pair: Pair) -> Verdict:
    match pair.candidate.status:
        case "incorrect":
            return Verdict.INCORRECT
        case None:
            return Verdict.INVALID
        case status if pair.base.status in ("ok", None):
            return Verdict.LOST
        case status:
            return Verdict.BROKEN if status == "error" else Verdict.UNMEASURED


def _why(pair: Pair) -> str:
    sides = (("base", pair.base), ("candidate", pair.candidate))
    return "; ".join(_outcome(name, side) for name, side in sides if side.status not in ("ok", None))


def _outcome(name: str, side: Side) -> str:
    return f"{name} {side.label} {side.status}" + (f": {side.reason}" if side.reason else "")
