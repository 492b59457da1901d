"""The ledger: every claim has its row, each row can be judged, and no verdict changes unseen."""

import string
from collections import Counter
from collections.abc import Mapping
from functools import cache
from inspect import signature

import pytest

from mlabench.claims.checks import CHECKS
from mlabench.claims.export import to_markdown
from mlabench.claims.judge import Judged, judge_all
from mlabench.claims.ledger import UNCHECKED, Claim, load_ledger
from mlabench.records.store import load_run
from tests.cli.commands import ROOT

BASELINE = "results/baselines/nvidia-h200/decode"

ROWS: Mapping[str, int] = {
    "guide": 11,
    "trick": 19,
    "revolution": 5,
    "glossary": 6,
    "born": 11,
    "v2": 4,
    "v3": 1,
    "insights": 4,
    "flashmla": 3,
    "madsys": 2,
    "transmla": 1,
    "vllm": 1,
}
"""How many claims each source makes: the five articles first, then the papers and projects."""

CLAIMS = load_ledger()


@cache
def judged() -> Mapping[str, Judged]:
    run = load_run(ROOT / BASELINE)
    return {one.claim.id: one for one in judge_all(CLAIMS, run)}


def test_every_claim_has_its_row() -> None:
    assert [claim.id for claim in CLAIMS] == [
        f"{name}.{n}" for name, count in ROWS.items() for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_no_verdict_changes_unseen(claim: Claim) -> None:
    one = judged()[claim.id]
    values = {tested.reading.name: (tested.text, tested.holds) for tested in one.tested}
    assert one.verdict == claim.expected, values


def test_without_a_run_what_was_measured_is_not_checked_and_all_else_is_the_same() -> None:
    for one in judge_all(CLAIMS):
        assert one.verdict == (UNCHECKED if one.claim.kind == "measured" else one.claim.expected), one.claim.id


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_row_says_what_its_readings_find(claim: Claim) -> None:
    names = [reading.name for reading in claim.readings]
    told = {name for _, name, _, _ in string.Formatter().parse(claim.finding) if name}
    assert told <= set(names)
    unsaid = {reading.name for reading in claim.readings if reading.relation is None} - told
    assert not unsaid, "a value that neither counts nor is told"
    measured = any(CHECKS[reading.check].of_a_run for reading in claim.readings)
    assert measured == (claim.kind == "measured")
    for reading in claim.readings:
        signature(CHECKS[reading.check].compute).bind(
            *(["run"] if CHECKS[reading.check].of_a_run else []), **reading.parameters
        )


def test_every_check_is_used() -> None:
    used = Counter(reading.check for claim in CLAIMS for reading in claim.readings)
    assert set(used) == set(CHECKS)


def test_the_page_is_what_the_command_writes() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    written = to_markdown(tuple(judged().values()), BASELINE)
    assert page == written, f"run: mlabench claims --check {BASELINE} --format md > docs/claims.md"
