"""From a claim's readings to its verdict: each value is computed now and held against the claimed one."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlabench.claims.checks import CHECKS
from mlabench.claims.ledger import HOLDS, QUALIFIED, UNCHECKED, UNTESTABLE, WRONG, Claim, Reading, Verdict
from mlabench.records.store import Run
from mlabench.units import NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Tested:
    """A reading with its value, None where no run gives one; `holds` is None for a value that is only told."""

    reading: Reading
    value: float | None
    holds: bool | None

    @property
    def text(self) -> str:
        """The value in its check's unit."""
        return NOT_MEASURED if self.value is None else CHECKS[self.reading.check].text(self.value)


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with its readings' values and the verdict that follows from them."""

    claim: Claim
    tested: tuple[Tested, ...]
    verdict: Verdict

    @property
    def finding(self) -> str:
        """What is right, in words and computed values."""
        if self.verdict == UNCHECKED:
            return "It takes a run with decode of MHA, GQA and absorbed MLA: give one with --check."
        return self.claim.finding.format(**{tested.reading.name: tested.text for tested in self.tested})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        claim = {name: getattr(self.claim, name) for name in ("id", "quote", "source", "where", "kind")}
        checks = [{**asdict(one.reading), "value": one.value, "holds": one.holds} for one in self.tested]
        return {**claim, "verdict": self.verdict, "finding": self.finding, "checks": checks}


def judge_all(claims: Sequence[Claim], run: Run | None = None) -> tuple[Judged, ...]:
    """Each claim with its verdict; those that take a measurement are judged by the run, if there is one."""
    return tuple(judge(claim, run) for claim in claims)


def judge(claim: Claim, run: Run | None = None) -> Judged:
    """Compute the claim's values and its verdict.

    It holds if each of its readings does, holds with a qualifier if some do, and is wrong if none does.
    """
    tested = tuple(_test(reading, run) for reading in claim.readings)
    return Judged(claim, tested, _verdict(claim, tested))


def _verdict(claim: Claim, tested: Sequence[Tested]) -> Verdict:
    if claim.kind == "untestable":
        return UNTESTABLE
    counted = [one for one in tested if one.reading.relation]
    if not counted:
        raise ValueError(f"claim {claim.id} has no reading that tests it")
    if any(one.holds is None for one in counted):
        return UNCHECKED
    if all(one.holds for one in counted):
        return HOLDS
    return QUALIFIED if any(one.holds for one in counted) else WRONG


def _test(reading: Reading, run: Run | None) -> Tested:
    check = CHECKS[reading.check]
    if not check.of_a_run:
        value = check.compute(**reading.parameters)
    else:
        value = check.compute(run, **reading.parameters) if run else None
    holds = None if value is None or reading.relation is None else _compare(value, reading)
    return Tested(reading, value, holds)


def _compare(value: float, reading: Reading) -> bool:
    claimed = reading.claimed
    match reading.relation:
        case "about":
            return math.isclose(value, claimed, rel_tol=reading.tolerance)
        case "at_least":
            return bool(value >= claimed)
        case "at_most":
            return bool(value <= claimed)
        case "above":
            return bool(value > claimed)
        case "below":
            return bool(value < claimed)
        case _:
            least, most = claimed
            return bool(least <= value <= most)
