"""The ledger: every claim has its row, each row can be judged, and no verdict changes unseen."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from inspect import signature
from typing import Any

import pytest

from mlabench.claims.checks import CHECKS
from mlabench.claims.export import to_markdown
from mlabench.claims.judge import Judged, judge_all, names_in
from mlabench.claims.ledger import UNCHECKED, Claim, load_ledger, read_claim
from mlabench.records.store import load_run
from tests.cli.commands import ROOT

BASELINES = ROOT / "results" / "baselines" / "nvidia-h200"
RUNS = ("decode", "decode-sustained", "layer", "layer-sustained", "prefix")
CHECK = f"--check {BASELINES.relative_to(ROOT)}/{{{','.join(RUNS)}}}"

ROWS: Mapping[str, int] = {
    "guide": 12,
    "trick": 19,
    "revolution": 5,
    "glossary": 6,
    "born": 11,
    "passing": 1,
    "v2": 8,
    "v3": 4,
    "insights": 4,
    "flashmla": 5,
    "madsys": 4,
    "transmla": 4,
    "vllm": 2,
    "sglang": 1,
    "gla": 1,
    "typhoon": 2,
    "infra": 1,
    "hobby": 2,
}
"""How many claims each source makes: the five articles first, then the papers and projects."""

CLAIMS = load_ledger()


@cache
def judged() -> Mapping[str, Judged]:
    return {one.claim.id: one for one in judge_all(CLAIMS, [load_run(BASELINES / name) for name in RUNS])}


def test_every_claim_has_its_row() -> None:
    assert [claim.id for claim in CLAIMS] == [
        f"{name}.{n}" for name, count in ROWS.items() for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_no_verdict_changes_unseen(claim: Claim) -> None:
    one = judged()[claim.id]
    values = {tested.reading.name: (tested.text, tested.holds) for tested in one.tested}
    assert one.verdict == claim.expected, values


def test_each_committed_run_judges_a_claim() -> None:
    assert {name for one in judged().values() for name in one.runs} == set(RUNS)
    assert all(tested.value is not None for one in judged().values() for tested in one.tested)


@pytest.mark.parametrize("name", RUNS)
def test_one_run_alone_judges_what_it_can(name: str) -> None:
    for one in judge_all(CLAIMS, [load_run(BASELINES / name)]):
        assert one.verdict in (one.claim.expected, UNCHECKED), one.claim.id
        assert "–" not in one.finding


def test_without_a_run_what_was_measured_is_not_checked_and_all_else_is_the_same() -> None:
    for one in judge_all(CLAIMS):
        assert one.verdict == (UNCHECKED if one.claim.kind == "measured" else one.claim.expected), one.claim.id


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_row_says_what_its_readings_find(claim: Claim) -> None:
    names = [reading.name for reading in claim.readings]
    found, beside = names_in(claim.finding), frozenset().union(*map(names_in, claim.beside))
    assert found | beside <= set(names)
    unsaid = {reading.name for reading in claim.readings if reading.relation is None} - found - beside
    assert not unsaid, "a value that neither counts nor is told"
    measured = {reading.name for reading in claim.readings if CHECKS[reading.check].of_a_run}
    counted = {reading.name for reading in claim.readings if reading.relation}
    assert bool(measured & (found | counted)) == (claim.kind == "measured")
    assert all(names_in(sentence) & measured for sentence in claim.beside), "a sentence that takes no run"
    assert not beside & counted, "what is told beside a claim decides nothing"
    for reading in claim.readings:
        signature(CHECKS[reading.check].compute).bind(
            *(["run"] if CHECKS[reading.check].of_a_run else []), **reading.parameters
        )


ENTRY: Mapping[str, Any] = {"id": "a.1", "quote": "q", "kind": "analytic", "expected": "holds", "finding": "f"}
READING: Mapping[str, Any] = {"check": "published", "of": 1, "about": 1}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "guessed"}, "kind 'guessed'"),
        ({"expected": "maybe"}, "verdict 'maybe'"),
        ({"kind": "untestable", "readings": {"r": READING}}, "untestable and yet has a reading"),
        ({"kind": "measured"}, "says in `takes`"),
        ({"takes": "decode"}, "says in `takes`"),
        ({"readings": {"r": {**READING, "below": 2}}}, "more than one relation: about, below"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(entry: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_claim({**ENTRY, **entry}, {"a": "source"})


def test_every_check_is_used() -> None:
    used = Counter(reading.check for claim in CLAIMS for reading in claim.readings)
    assert set(used) == set(CHECKS)


def test_the_page_is_what_the_command_writes() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    written = to_markdown(tuple(judged().values()), [(BASELINES / name).relative_to(ROOT) for name in RUNS])
    assert page == written, f"run: mlabench claims {CHECK} --format md > docs/claims.md"
    assert f"    mlabench claims {CHECK} --format md\n" in page
