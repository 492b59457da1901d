"""From readings to a verdict."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlabench.claims.judge import judge
from mlabench.claims.ledger import HOLDS, QUALIFIED, UNCHECKED, UNTESTABLE, WRONG, Claim, Reading
from tests.factories import make_case, make_record, make_run

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
    one = judge(replace(claim(MEASURED, kind="measured"), takes="decode"), [make_run(None, [])])
    assert one.verdict == UNCHECKED
    assert (one.tested[0].value, one.runs) == (None, ())
    assert one.finding == "It takes decode: give such a run with --check."


def test_a_value_is_of_the_first_run_that_holds_it() -> None:
    slow, fast = (
        make_run(Path(name), [make_record(make_case(variant=v, kv_len=256), latency_us=us) for v, us in times])
        for name, times in (("slow", (("mla", 9.0), ("mha", 3.0))), ("fast", (("mla", 3.0), ("mha", 9.0))))
    )
    other = make_run(Path("other"), [])
    by_slow, by_fast = (judge(claim(MEASURED, kind="measured"), runs) for runs in ([other, slow, fast], [fast, slow]))
    assert (by_slow.verdict, by_slow.runs) == (WRONG, ("slow",))
    assert (by_fast.verdict, by_fast.runs) == (HOLDS, ("fast",))
    assert by_fast.to_json()["checks"][0]["run"] == "fast"


def test_what_stands_beside_is_told_where_a_run_holds_it_and_decides_nothing() -> None:
    lead = replace(MEASURED, name="lead", relation=None)
    one = replace(claim(TRUE, lead), beside=("It led in {lead}.", "It was {told}."))
    records = [make_record(make_case(variant=variant, kv_len=256)) for variant in ("mla", "mha")]
    alone, beside = judge(one), judge(one, [make_run(None, records)])
    assert alone.verdict == beside.verdict == HOLDS
    assert alone.finding == "it is 7 It was 7."
    assert beside.finding == "it is 7 It led in 100.0%. It was 7."


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
