"""From readings to a verdict."""

from dataclasses import replace
from typing import Any

import pytest

from mlabench.claims.judge import judge
from mlabench.claims.ledger import HOLDS, QUALIFIED, UNCHECKED, UNTESTABLE, WRONG, Claim, Reading
from tests.factories import make_run

TRUE = Reading("true", "published", {"of": 2.0}, "about", 2.0)
FALSE = Reading("false", "published", {"of": 2.0}, "about", 3.0)
TOLD = Reading("told", "published", {"of": 7.0})
MEASURED = Reading("measured", "measured_lead", {"of": "mla absorbed", "over": "mha"}, "at_least", 1.0)


def claim(*readings: Reading, kind: Any = "analytic") -> Claim:
    return Claim("a.1", "words", "source", "", kind, HOLDS, "it is {told}", (*readings, TOLD))


@pytest.mark.parametrize(
    ("readings", "verdict"),
    [((TRUE,), HOLDS), ((TRUE, FALSE), QUALIFIED), ((FALSE,), WRONG), ((TRUE, MEASURED), UNCHECKED)],
)
def test_the_verdict_comes_from_the_readings(readings: tuple[Reading, ...], verdict: str) -> None:
    assert judge(claim(*readings)).verdict == verdict


def test_a_finding_tells_the_computed_values() -> None:
    assert judge(claim(TRUE)).finding == "it is 7"


def test_what_is_untestable_has_values_but_no_verdict_of_its_own() -> None:
    one = judge(claim(kind="untestable"))
    assert (one.verdict, one.finding) == (UNTESTABLE, "it is 7")


def test_a_run_without_the_points_leaves_a_claim_unchecked() -> None:
    one = judge(claim(MEASURED, kind="measured"), make_run(None, []))
    assert one.verdict == UNCHECKED
    assert one.tested[0].value is None
    assert "--check" in one.finding


def test_a_claim_that_nothing_tests_is_refused() -> None:
    with pytest.raises(ValueError, match="no reading that tests it"):
        judge(claim())


@pytest.mark.parametrize(
    ("relation", "claimed", "holds"),
    [
        ("about", 2.01, True),
        ("about", 2.1, False),
        ("at_least", 2.0, True),
        ("at_least", 2.1, False),
        ("at_most", 2.0, True),
        ("at_most", 1.9, False),
        ("above", 1.9, True),
        ("above", 2.0, False),
        ("below", 2.1, True),
        ("below", 2.0, False),
        ("between", (1, 2), True),
        ("between", (2.1, 3), False),
    ],
)
def test_relations(relation: str, claimed: Any, holds: bool) -> None:
    assert judge(claim(replace(TRUE, relation=relation, claimed=claimed))).tested[0].holds is holds


def test_a_plain_row_has_each_value_and_what_was_claimed() -> None:
    plain = judge(claim(TRUE, FALSE)).to_json()
    assert plain["verdict"] == QUALIFIED
    assert [(one["name"], one["value"], one["claimed"], one["holds"]) for one in plain["checks"]] == [
        ("true", 2.0, 2.0, True),
        ("false", 2.0, 3.0, False),
        ("told", 7.0, None, None),
    ]
