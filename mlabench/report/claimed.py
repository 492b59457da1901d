"""The page's table of claims: first those that its runs judge, then those that arithmetic alone does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlabench.claims.export import summary
from mlabench.claims.judge import Judged, judge_all
from mlabench.claims.ledger import HOLDS, QUALIFIED, UNCHECKED, UNTESTABLE, WRONG, load_ledger
from mlabench.records.store import Run

BADGES: Mapping[str, str] = {HOLDS: "holds", QUALIFIED: "qualified", WRONG: "wrong"}
"""The look of each verdict that the page shows."""


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A claim's verdict and its look, the words, what is right, where the words stand, and what judged them."""

    verdict: str
    badge: str
    quote: str
    finding: str
    source: str
    judged_by: str


@dataclass(frozen=True, slots=True)
class ClaimTable:
    """The rows, how many verdicts they are of each kind, and how many claims are left out for which of two reasons."""

    rows: tuple[ClaimRow, ...]
    summary: str
    unchecked: int
    untestable: int


def claim_table(runs: Sequence[Run]) -> ClaimTable:
    """Every claim of the ledger that arithmetic or one of these runs judges."""
    judged = judge_all(load_ledger(), runs)
    shown = sorted((one for one in judged if one.verdict in BADGES), key=lambda one: one.claim.kind != "measured")
    left_out = [sum(one.verdict == verdict for one in judged) for verdict in (UNCHECKED, UNTESTABLE)]
    return ClaimTable(tuple(map(_row, shown)), summary(shown), *left_out)


def _row(one: Judged) -> ClaimRow:
    claim = one.claim
    judged_by = ", ".join(one.runs) if claim.kind == "measured" else "arithmetic"
    source = f"{claim.source}, {claim.where}" if claim.where else claim.source
    return ClaimRow(one.verdict, BADGES[one.verdict], claim.quote, one.finding, source, judged_by)
