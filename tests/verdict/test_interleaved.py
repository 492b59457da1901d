"""The verdicts of interleaved pairs, and the result that they make."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from mlabench.errors import ExitCode, UsageError
from mlabench.records.pairs import Block, Pair, Side
from mlabench.verdict.gate import GateResult
from mlabench.verdict.interleaved import (
    LOOKS,
    AbGateResult,
    AbManyResult,
    ab_result,
    judge_pairs,
    make_plan,
    plan_settings,
    was_run,
)
from mlabench.verdict.outputs.markdown import render as render_markdown
from mlabench.verdict.point import Point, Verdict
from tests.factories import make_case

PLAN = make_plan("cuda", 8)
OK = Side("kernel", "triton", status="ok")


def pair(
    factor: float = 1.0, *, sd: float = 0.002, place: int = 1, clocks: tuple[float, float] | None = None, **fields: Any
) -> Pair:
    rng = random.Random(place)
    base_mhz, candidate_mhz = ((clock,) for clock in clocks) if clocks else (None, None)
    blocks = tuple(
        Block(True, (300.0,), (300 * factor * math.exp(rng.gauss(0, sd)),), base_mhz, candidate_mhz) for _ in range(24)
    )
    values = {"base": OK, "candidate": OK, "blocks": blocks, **fields}
    return Pair(make_case(kv_len=1024 * place), method="graph", cache="cold", seed=0, plan=PLAN, **values)


def judged(*pairs: Pair) -> list[Point]:
    return list(judge_pairs(pairs))


def failed(status: Any, reason: str = "why") -> Side:
    return replace(OK, status=status, reason=reason)


@pytest.mark.parametrize(
    ("factor", "sd", "expected"),
    [
        (1.0, 0.002, Verdict.SAME),
        (1.02, 0.002, Verdict.SLOWER),
        (0.98, 0.002, Verdict.FASTER),
        (1.01, 0.002, Verdict.INCONCLUSIVE),
        (0.99, 0.002, Verdict.NOT_SLOWER),
        (1.0, 0.1, Verdict.INCONCLUSIVE),
    ],
)
def test_the_ratio_decides(factor: float, sd: float, expected: Verdict) -> None:
    (point,) = judged(pair(factor, sd=sd))
    assert point.verdict is expected
    assert point.key == (make_case(kv_len=1024).case_id, "kernel", "graph")
    assert point.ratio is not None
    assert point.ratio.value == pytest.approx(factor, rel=3 * sd)
    assert point.cycles is None


@pytest.mark.parametrize(
    ("base", "candidate", "expected"),
    [
        (OK, failed("incorrect"), Verdict.INCORRECT),
        (failed("error"), failed("incorrect"), Verdict.INCORRECT),
        (OK, failed("error"), Verdict.LOST),
        (OK, failed("unsupported"), Verdict.LOST),
        (OK, failed("oom"), Verdict.LOST),
        (replace(OK, status=None), failed("error"), Verdict.LOST),
        (failed("error"), failed("error"), Verdict.BROKEN),
        (failed("unsupported"), failed("unsupported"), Verdict.UNMEASURED),
        (failed("unavailable"), OK, Verdict.INVALID),
        (failed("unavailable"), failed("unavailable"), Verdict.UNMEASURED),
        (failed("unsupported"), OK, Verdict.NEW),
        (failed("incorrect"), OK, Verdict.INVALID),
        (failed("error"), OK, Verdict.INVALID),
        (failed("oom"), OK, Verdict.INVALID),
        (failed("error"), replace(OK, status=None), Verdict.INVALID),
    ],
)
def test_a_side_that_was_not_measured(base: Side, candidate: Side, expected: Verdict) -> None:
    (point,) = judged(pair(base=base, candidate=candidate, blocks=()))
    assert (point.verdict, point.ratio) == (expected, None)
    for name, side in (("base", base), ("candidate", candidate)):
        assert (f"{name} kernel {side.status}: why" in point.reason) == (side.reason == "why")


@pytest.mark.parametrize(
    ("status", "has_run"),
    [
        ("ok", True),
        ("incorrect", True),
        ("error", True),
        ("oom", True),
        ("unsupported", False),
        ("unavailable", False),
        (None, False),
    ],
)
def test_code_that_fails_has_run_and_what_is_not_done_has_not(status: Any, has_run: bool) -> None:
    assert was_run(pair(candidate=replace(OK, status=status))) is has_run


def test_a_kernel_that_the_base_lacks_is_new_where_that_is_allowed() -> None:
    (point,) = judge_pairs([pair(base=failed("unavailable"), blocks=())], allow_new=True)
    assert point.verdict is Verdict.NEW


def test_the_hint_fits_what_is_unclear() -> None:
    settings = plan_settings(PLAN)
    noisy = AbGateResult("now", ("base",), settings, judge_pairs([pair(1.01)]))
    failing = AbGateResult("now", ("base",), settings, judge_pairs([pair(base=failed("error"), blocks=())]))
    assert "--max-s" in noisy.hint
    assert "name a commit where they work" in failing.hint
    passing = AbGateResult("now", ("base",), settings, judge_pairs([pair()]))
    assert passing.hint == ""
    assert "-a scope=layer" in replace(passing, blind_spot="no point runs 1 of 1 files that differ").hint


def test_the_hint_of_kernels_that_all_break_asks_to_mend_them() -> None:
    result = AbGateResult(
        "now", ("base",), plan_settings(PLAN), judge_pairs([pair(candidate=failed("error"), blocks=())])
    )
    assert result.exit_code is ExitCode.NOTHING_MEASURED
    assert "mend what fails" in result.hint


def test_a_blind_spot_is_inconclusive_and_hides_nothing_worse() -> None:
    settings, spot = plan_settings(PLAN), "no point runs 1 of 1 files that differ"
    same, slow, noisy = judge_pairs([pair()]), judge_pairs([pair(1.5)]), judge_pairs([pair(1.01)])
    results = [AbGateResult("now", ("base",), settings, points, blind_spot=spot) for points in (same, slow, noisy)]
    assert [result.exit_code.value for result in results] == [3, 1, 3]
    assert results[0].summary == f"gate: INCONCLUSIVE (3): {spot}"
    assert results[2].summary == f"gate: INCONCLUSIVE (3): 1 of 1 points inconclusive; {spot}"


def test_what_disturbed_a_pair_travels_with_it() -> None:
    telemetry = {"compute_processes": [1, 2], "clock_event_reasons": [["software power cap"]]}
    (quiet,) = judged(pair(telemetry={"compute_processes": [1, 1]}, clocks=(1980.0, 1980.0)))
    assert quiet.warnings == ()
    (point,) = judge_pairs([pair(telemetry=telemetry, clocks=(1500.0, 1500.0))], {"max_sm_clock_mhz": 1980})
    assert point.warnings == ("clocks were held down", "other processes were on the GPU")


def test_too_few_blocks_are_not_judged() -> None:
    (point,) = judged(replace(pair(), blocks=pair().blocks[:4]))
    assert (point.verdict, point.reason) == (Verdict.INVALID, "4 blocks where 5 are the least")


def test_a_change_of_the_clock_alone_is_not_the_codes() -> None:
    (slower,) = judged(pair(1.05, clocks=(1900.0, 1900 / 1.05)))
    assert slower.verdict is Verdict.INCONCLUSIVE
    assert slower.reason == "slower in time and the same in clock cycles: the clock, not the code"
    (faster,) = judged(pair(0.95, clocks=(1900.0, 1900 / 0.95)))
    assert (faster.verdict, "the clock, not the code" in faster.reason) == (Verdict.NOT_SLOWER, True)
    (both,) = judged(pair(1.05, clocks=(1900.0, 1900.0)))
    assert both.verdict is Verdict.SLOWER
    (hidden,) = judged(pair(1.0, clocks=(1800.0, 1980.0)))
    assert hidden.verdict is Verdict.SAME
    assert "slower in clock cycles" in hidden.warnings[0]


def test_the_family_shares_the_false_discoveries() -> None:
    """A chance of 3% stands beside seven clear slow-downs, and not alone among seven that are the same."""
    doubtful = next(p for p in (pair(1.0 + 0.0001 * step, place=8) for step in range(90, 200)) if p_slower(p) < 0.03)
    alone = judged(doubtful, *(pair(place=place) for place in range(1, 8)))
    beside = judged(doubtful, *(pair(1.05, place=place) for place in range(1, 8)))
    assert alone[0].verdict is Verdict.INCONCLUSIVE
    assert beside[0].verdict is Verdict.SLOWER


def p_slower(each: Pair) -> float:
    (point,) = judged(each)
    assert point.ratio is not None
    return point.ratio.p_slower


def test_what_ended_a_case_stands_in_any_family() -> None:
    plan = make_plan("cuda", 64)
    assert plan.certain_p == pytest.approx(0.05 / 64)
    assert plan.looks == LOOKS


@pytest.mark.parametrize("min_effect", [0.0, 1.0, -0.1, math.nan])
def test_a_least_effect_that_is_none_is_refused(min_effect: float) -> None:
    with pytest.raises(UsageError, match="--min-effect"):
        make_plan("cuda", 8, min_effect)


@pytest.mark.parametrize("max_s", [0.0, math.inf, math.nan])
def test_a_budget_that_is_none_is_refused(max_s: float) -> None:
    with pytest.raises(UsageError, match="--max-s"):
        make_plan("cpu", 8, max_s=max_s)


@pytest.mark.parametrize(
    ("pairs", "gate_code", "ab_code"),
    [
        ([pair(), pair(0.9, place=2)], ExitCode.PASS, ExitCode.PASS),
        ([pair(), pair(1.1, place=2)], ExitCode.REGRESSION, ExitCode.PASS),
        ([pair(), pair(1.01, place=2)], ExitCode.INCONCLUSIVE, ExitCode.PASS),
        ([pair(candidate=failed("incorrect"), blocks=())], ExitCode.INCORRECT, ExitCode.INCORRECT),
        ([pair(), pair(place=2, base=failed("incorrect"), blocks=())], ExitCode.INCONCLUSIVE, ExitCode.INCORRECT),
        ([pair(base=failed("unavailable"), blocks=())], ExitCode.INCONCLUSIVE, ExitCode.NOTHING_MEASURED),
        ([], ExitCode.NOTHING_MEASURED, ExitCode.NOTHING_MEASURED),
    ],
)
def test_exit_codes(pairs: list[Pair], gate_code: ExitCode, ab_code: ExitCode) -> None:
    assert GateResult("now", ("base",), plan_settings(PLAN), judge_pairs(pairs)).exit_code is gate_code
    result = ab_result("base", ["now"], pairs, PLAN)
    assert result.exit_code is ab_code
    assert result.to_json()["settings"]["looks"] == list(LOOKS)


def several() -> AbManyResult:
    """Three cases on two kernels, of which the second does not do the last."""
    first, second = replace(OK, kernel="first"), replace(OK, kernel="second")
    pairs = []
    for place, factors in ((1, (1.2, 1.5)), (2, (1.8, 1.25)), (3, (0.9, None))):
        for side, factor in zip((first, second), factors, strict=True):
            times = {"blocks": ()} if factor is None else {}
            candidate = side if factor else replace(side, status="unsupported", reason="not this one")
            pairs.append(pair(factor or 1.0, place=place, sd=0.0001, candidate=candidate, **times))
    result = ab_result("ours", ["first", "second"], pairs, PLAN)
    assert isinstance(result, AbManyResult)
    return result


def test_several_kernels_are_summed_up_and_so_is_the_fastest_of_them() -> None:
    result = several()
    first, second, best = result.sums
    assert [(total.name, total.points) for total in result.sums] == [("first", 3), ("second", 2), ("best of them", 3)]
    assert first.geometric_mean == pytest.approx((1.2 * 1.8 * 0.9) ** (1 / 3), rel=1e-3)
    assert (second.least, second.greatest) == pytest.approx((1.25, 1.5), rel=1e-3)
    assert best.geometric_mean == pytest.approx((1.2 * 1.25 * 0.9) ** (1 / 3), rel=1e-3)
    assert (best.least, best.greatest) == pytest.approx((0.9, 1.25), rel=1e-3)
    assert (
        "second: 1.369x [1.250, 1.500] the time of ours, geometric mean [least, greatest] of 2 points" in result.totals
    )
    assert result.to_json()["totals"][2]["name"] == "best of them"
    assert (result.current, result.baselines) == ("first, second", ("ours",))


def test_what_one_of_several_does_not_do_is_no_fault() -> None:
    result = several()
    assert [point.verdict.value for point in result.points] == ["slower"] * 4 + ["faster", "unmeasured"]
    assert "not this one" in result.points[5].reason
    assert result.exit_code is ExitCode.PASS
    assert result.summary == "ab: 6 points: 4 slower, 1 faster, 1 without a time"
    text = render_markdown(result)
    assert all(line.replace("[", "\\[").replace("]", "\\]") in text for line in result.totals)


def test_of_several_an_incorrect_one_counts_and_nothing_at_all_is_nothing() -> None:
    wrong, absent = replace(failed("incorrect"), kernel="wrong"), replace(failed("unavailable"), kernel="absent")
    pairs = [pair(candidate=wrong, blocks=()), pair(candidate=absent, blocks=())]
    assert ab_result("ours", ["wrong", "absent"], pairs, PLAN).exit_code is ExitCode.INCORRECT
    result = ab_result("ours", ["absent", "other"], pairs[1:], PLAN)
    assert (result.exit_code, result.totals) == (ExitCode.NOTHING_MEASURED, ())


@pytest.mark.parametrize(
    ("status", "words"),
    [("unsupported", "without a time"), ("unavailable", "without a time"), ("oom", "not comparable")],
)
def test_another_kernel_never_had_a_time_to_lose(status: Any, words: str) -> None:
    other = replace(failed(status), kernel="other")
    result = ab_result("kernel", ["other"], [pair(1.5), pair(place=2, candidate=other, blocks=())], PLAN)
    assert result.summary == f"ab: 2 points: 1 slower, 1 {words}"


def test_a_kernel_that_works_at_one_commit_only_has_lost_its_time() -> None:
    result = ab_result("kernel@a", ["kernel"], [pair(1.5), pair(place=2, candidate=failed("oom"), blocks=())], PLAN)
    assert result.summary == "ab: 2 points: 1 no longer measured, 1 slower"


def test_a_wrong_side_does_not_hide_that_others_were_compared() -> None:
    result = ab_result("kernel", ["now"], [pair(1.5), pair(place=2, candidate=failed("incorrect"), blocks=())], PLAN)
    assert result.exit_code is ExitCode.INCORRECT
    assert result.summary == "ab: 2 points: 1 incorrect, 1 slower"
    alone = ab_result("kernel", ["now"], [pair(candidate=failed("incorrect"), blocks=())], PLAN)
    assert alone.summary == "ab: nothing was compared: 1 incorrect"
