"""Differences of rows: what each value's change means, and rows that come and go."""

from dataclasses import replace
from typing import Any

import pytest

from mlabench.machine_code.compare import VALUES, Verdict, compare_rows
from mlabench.machine_code.rows import Row
from tests.machine_code.rows import ROW


def verdicts(before: Row, after: Row) -> list[tuple[str, str, Any, Any]]:
    found = compare_rows([before], [after])
    return [(each.verdict.value, each.name, each.baseline, each.current) for each in found]


def test_equal_rows_have_no_difference() -> None:
    assert verdicts(ROW, replace(ROW, reason="reasons are words")) == []


@pytest.mark.parametrize("name", [name for name, bad in VALUES.items() if bad == "more"])
def test_more_of_what_is_scarce_is_worse(name: str) -> None:
    old = getattr(ROW, name)
    changed = replace(ROW, **{name: old + 1})
    assert verdicts(ROW, changed) == [("worse", name, old, old + 1)]
    assert verdicts(changed, ROW) == [("better", name, old + 1, old)]


@pytest.mark.parametrize("name", ["ctas_an_sm", "warps_an_sm"])
def test_lower_occupancy_is_worse(name: str) -> None:
    assert verdicts(ROW, replace(ROW, **{name: 1})) == [("worse", name, getattr(ROW, name), 1)]


def test_instructions_are_compared_by_name() -> None:
    changed = replace(ROW, matrix_instructions={"HMMA": 44}, async_copies={"UTMALDG": 6, "LDGSTS": 8})
    assert verdicts(ROW, changed) == [
        ("worse", "HGMMA", 32, 0),
        ("better", "HMMA", 0, 44),
        ("better", "LDGSTS", 0, 8),
    ]


def test_another_choice_is_a_change_and_the_length_alone_is_noted() -> None:
    changed = replace(ROW, config={"block_n": 128, "swap": 1}, instructions=900)
    assert verdicts(ROW, changed) == [
        ("changed", "block_n", 64, 128),
        ("changed", "swap", None, 1),
        ("noted", "instructions", 1000, 900),
    ]


def test_rows_come_and_go() -> None:
    assert [(d.verdict, d.key) for d in compare_rows([ROW, COMBINE], [ROW])] == [(Verdict.MISSING, COMBINE.key)]
    assert [(d.verdict, d.key) for d in compare_rows([ROW], [ROW, COMBINE])] == [(Verdict.NEW, COMBINE.key)]
    assert [d.verdict for d in compare_rows([FAILED], [])] == [Verdict.MISSING]


FAILED = Row(*ROW.key[:3], "", "error", "PTXASError: no")
COMBINE = replace(ROW, function="combine_kernel")


def test_what_does_not_compile_any_more_is_lost_with_its_reason() -> None:
    assert verdicts(ROW, FAILED) == [("lost", "status", "ok", "error: PTXASError: no")]
    assert verdicts(ROW, replace(ROW, status="misfit", ctas_an_sm=0)) == [
        ("lost", "status", "ok", "misfit"),
        ("worse", "ctas_an_sm", 2, 0),
    ]


def test_each_function_that_does_not_come_any_more_is_named() -> None:
    found = compare_rows([ROW, COMBINE], [ROW, FAILED])
    assert [(each.verdict, each.key) for each in found] == [(Verdict.LOST, COMBINE.key)]


def test_a_new_failure_beside_what_was_there_is_told() -> None:
    (found,) = compare_rows([ROW], [ROW, FAILED])
    assert (found.verdict, found.current) == (Verdict.NEW, "error: PTXASError: no")


def test_what_compiles_at_last_is_better() -> None:
    (found,) = compare_rows([FAILED], [ROW])
    assert (found.verdict, found.key, found.baseline, found.current) == (Verdict.BETTER, ROW.key, "error", "ok")


def test_a_failure_that_stays_is_no_difference() -> None:
    assert verdicts(FAILED, replace(FAILED, reason="in other words")) == []
