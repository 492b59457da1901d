"""From a claim's readings to its verdict: each value is computed now and held against the claimed one."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from string import Formatter
from typing import Any

from mlabench.claims.checks import CHECKS
from mlabench.claims.ledger import HOLDS, QUALIFIED, UNCHECKED, UNTESTABLE, WRONG, Claim, Reading, Verdict
from mlabench.records.store import Run
from mlabench.units import NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Tested:
    """A reading with its value, None where no run gives one; `holds` is None for a value that is only told.

    `run` names the run that a measured value is of.
    """

    reading: Reading
    value: float | None
    holds: bool | None
    run: str | None = None

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
            return f"It takes {self.claim.takes}: give such a run with --check."
        texts = {tested.reading.name: tested.text for tested in self.tested}
        known = {tested.reading.name for tested in self.tested if tested.value is not None}
        beside = [sentence for sentence in self.claim.beside if names_in(sentence) <= known]
        return " ".join(sentence.format(**texts) for sentence in (self.claim.finding, *beside))

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs whose values the finding tells, each once."""
        return tuple(dict.fromkeys(one.run for one in self.tested if one.run))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        claim = {name: getattr(self.claim, name) for name in ("id", "quote", "source", "where", "kind")}
        checks = [
            {**asdict(one.reading), "value": one.value, "holds": one.holds, "run": one.run} for one in self.tested
        ]
        return {**claim, "verdict": self.verdict, "finding": self.finding, "checks": checks}


def judge_all(claims: Sequence[Claim], runs: Sequence[Run] = ()) -> tuple[Judged, ...]:
    """Each claim with its verdict; those that take a measurement are judged by the runs that hold it."""
    return tuple(judge(claim, runs) for claim in claims)


def judge(claim: Claim, runs: Sequence[Run] = ()) -> Judged:
    """Compute the claim's values and its verdict.

    It holds if each of its readings does, holds with a qualifier if some do, and is wrong if none does. A measured
    value is of the first run that holds it, so that no quotient is one of two machines or timing methods.
    """
    tested = tuple(_test(reading, runs) for reading in claim.readings)
    return Judged(claim, tested, _verdict(claim, tested))


def names_in(sentence: str) -> frozenset[str]:
    """The readings that a sentence tells."""
    return frozenset(name for _, name, _, _ in Formatter().parse(sentence) if name)


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


def _test(reading: Reading, runs: Sequence[Run]) -> Tested:
    value, run = _value(reading, runs)
    holds = None if value is None or reading.relation is None else _compare(value, reading)
    return Tested(reading, value, holds, run)


def _value(reading: Reading, runs: Sequence[Run]) -> tuple[float | None, str | None]:
    """The reading's value, and the name of the run that it is of."""
    check = CHECKS[reading.check]
    if not check.of_a_run:
        return check.compute(**reading.parameters), None
    values = ((check.compute(run, **reading.parameters), run.name) for run in runs)
    return next((found for found in values if found[0] is not None), (None, None))


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
