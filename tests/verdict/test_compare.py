import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlabench.records.record import ARITHMETIC, Record
from mlabench.stats import benjamini_hochberg
from mlabench.verdict.compare import compare_runs
from mlabench.verdict.noise import NOISE
from mlabench.verdict.point import Change, Point, Verdict
from tests.factories import make_case, make_record, make_run

CASE = make_case(kv_len=8192)


def record(latency_us: float = 100.0, **fields: Any) -> Record:
    return make_record(CASE, "kernel", latency_us, **{"noise": 0.005, **fields})


def judge(current: Sequence[Record], *baselines: Sequence[Record]) -> tuple[Point, ...]:
    return compare_runs(make_run(None, current), [make_run(None, records) for records in baselines], NOISE["cuda"])


def verdict(current: Record, *baselines: Record) -> Verdict:
    (point,) = judge([current], *([baseline] for baseline in baselines))
    return point.verdict


@pytest.mark.parametrize(
    ("latency_us", "expected"),
    [
        (100, Verdict.SAME),
        (103, Verdict.SAME),
        (97, Verdict.SAME),
        (105, Verdict.INCONCLUSIVE),
        (95, Verdict.NOT_SLOWER),
        (110, Verdict.SLOWER),
        (200, Verdict.SLOWER),
        (90, Verdict.FASTER),
        (10, Verdict.FASTER),
    ],
)
def test_the_ratio_decides(latency_us: float, expected: Verdict) -> None:
    assert verdict(record(latency_us, seed=1), record(100, seed=2)) is expected


@pytest.mark.parametrize("status", ["unsupported", "unavailable", "oom", "error"])
def test_a_point_that_was_measured_and_is_no_longer_is_lost(status: Any) -> None:
    (point,) = judge([record(status=status, reason="why")], [record()])
    assert (point.verdict, point.reason, point.ratio) == (Verdict.LOST, f"{status}: why", None)


@pytest.mark.parametrize("before", ["ok", "incorrect", "unsupported"])
def test_an_incorrect_point_is_incorrect_whatever_the_baseline_says(before: Any) -> None:
    (point,) = judge([record(status="incorrect", reason="off by 40%")], [record(status=before)])
    assert (point.verdict, point.reason) == (Verdict.INCORRECT, "off by 40%")


def test_points_match_by_case_kernel_and_method() -> None:
    other_case = make_record(make_case(kv_len=4096), "kernel")
    points = judge([record(), other_case, record(method="events")], [record(), record(backend="triton", method="cpu")])
    assert {point.key: point.verdict for point in points} == {
        (CASE.case_id, "kernel", "graph"): Verdict.SAME,
        (CASE.case_id, "kernel", "cpu"): Verdict.MISSING,
        other_case.key: Verdict.NEW,
        (CASE.case_id, "kernel", "events"): Verdict.NEW,
    }


def test_a_point_without_a_time_before_is_new_or_stays_unmeasured() -> None:
    assert verdict(record(), record(status="oom")) is Verdict.NEW
    assert verdict(record(status="unsupported"), record(status="unsupported")) is Verdict.UNMEASURED
    assert judge([], [record(status="unsupported")]) == ()


def test_a_cache_that_differs_is_not_comparable() -> None:
    (point,) = judge([record(cache="warm")], [record(cache="cold")])
    assert (point.verdict, point.reason) == (Verdict.INVALID, "caches differ: cold against warm")


@pytest.mark.parametrize(("now", "before"), [(4, 20), (20, 4), (0, 20)])
def test_too_few_samples_on_either_side_are_not_comparable(now: int, before: int) -> None:
    assert verdict(record(samples=now), record(samples=before)) is Verdict.INVALID


def test_five_samples_are_enough() -> None:
    assert verdict(record(samples=5), record(samples=5)) is Verdict.SAME


@pytest.mark.parametrize("sample", [math.nan, math.inf, 0.0, -1.0])
def test_a_sample_that_is_no_time_is_not_comparable(sample: float) -> None:
    good = record()
    assert good.timing is not None
    bad = replace(good, timing=replace(good.timing, samples_us=(*good.timing.samples_us, sample)))
    assert verdict(bad, good) is Verdict.INVALID
    assert verdict(good, bad) is Verdict.INVALID


def test_a_record_that_says_ok_without_a_time_is_not_comparable() -> None:
    assert verdict(replace(record(), timing=None), record()) is Verdict.INVALID


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("step", [-1, 1])
def test_an_exact_count_that_differs_from_the_stored_one_is_a_change(name: str, step: int) -> None:
    now = record()
    before = replace(now, stored_arithmetic={**now.arithmetic, name: now.arithmetic[name] + step})
    (point,) = judge([now], [before])
    assert point.verdict is Verdict.CHANGED
    assert point.changes == (Change(name, now.arithmetic[name] + step, now.arithmetic[name]),)


def test_stored_counts_survive_the_store_and_are_not_computed_again() -> None:
    written = json.loads(json.dumps(record().to_json()))
    assert written["arithmetic"] == {name: getattr(CASE, name) for name in ARITHMETIC}
    written["arithmetic"]["flops"] = 17
    back = Record.from_json(written)
    assert back.arithmetic["flops"] == 17 and back.case.flops == CASE.flops
    assert back.to_json()["arithmetic"]["flops"] == 17


def test_a_record_without_stored_counts_is_not_comparable() -> None:
    plain = record().to_json()
    del plain["arithmetic"]
    assert verdict(record(), Record.from_json(plain)) is Verdict.INVALID


def test_a_baseline_may_lack_a_count_that_was_added_since() -> None:
    now = record()
    older = replace(now, stored_arithmetic={name: now.arithmetic[name] for name in ARITHMETIC[:2]})
    assert verdict(now, older) is Verdict.SAME


def test_held_clocks_travel_with_the_point() -> None:
    (point,) = judge([record(throttled=True)], [record(throttled=False)])
    assert point.verdict is Verdict.SAME
    assert point.warnings == ("clocks were held down now",)
    (point,) = judge([record(throttled=False)], [record(throttled=True)])
    assert point.warnings == ("clocks were held down in synthetic-cuda",)


BUSY, IDLE = {"others_share": [0.5, 0.6]}, {"others_share": [0.01]}


@pytest.mark.parametrize(
    ("now", "before", "latency_us", "expected", "where"),
    [
        (BUSY, IDLE, 200.0, Verdict.INCONCLUSIVE, "now"),
        (IDLE, BUSY, 200.0, Verdict.INCONCLUSIVE, "in baseline"),
        (BUSY, IDLE, 50.0, Verdict.INCONCLUSIVE, "now"),
        (IDLE, IDLE, 200.0, Verdict.SLOWER, ""),
        (None, None, 200.0, Verdict.SLOWER, ""),
        (BUSY, BUSY, 100.0, Verdict.SAME, ""),
    ],
)
def test_a_difference_beside_others_on_the_processors_is_inconclusive(
    now: Any, before: Any, latency_us: float, expected: Verdict, where: str
) -> None:
    current, baseline = replace(record(latency_us), telemetry=now), replace(record(), telemetry=before)
    (point,) = compare_runs(make_run(None, [current]), [make_run(Path("baseline"), [baseline])], NOISE["cpu"])
    assert point.verdict is expected
    if where:
        word = "slower" if latency_us > 100 else "faster"
        assert point.reason == f"{word}, but others computed on the processors {where}"


def test_another_version_of_an_outside_package_is_said() -> None:
    new, old = ({"package": f"flash {version}"} for version in ("2.0", "1.0"))
    (point,) = judge([record(kernel_config=new)], [record(kernel_config=old)], [record(kernel_config=new)])
    assert point.warnings == ("another package's work: flash 1.0 in the baseline, flash 2.0 now",)
    (point,) = judge([record(kernel_config=new)], [record(kernel_config=new)])
    assert point.warnings == ()


def test_several_baselines_count_together() -> None:
    (point,) = judge([record(104, noise=0)], *([record(level, noise=0)] for level in (100, 102, 104)))
    assert point.ratio is not None and point.ratio.baseline_runs == 3
    assert point.verdict is Verdict.SAME


def test_a_point_that_one_of_several_baselines_measured_must_still_be_there() -> None:
    (point,) = judge([record(status="oom")], [record()], [record(status="oom")])
    assert point.verdict is Verdict.LOST


def test_two_seeded_slow_downs_are_found_among_many_points() -> None:
    cases = [make_case(kv_len=1024 * step) for step in range(1, 65)]
    factor = {5: 1.2, 40: 1.5}
    now = [
        make_record(case, noise=0.01, seed=1000 + index, latency_us=factor.get(index, 1.0) * 300)
        for index, case in enumerate(cases)
    ]
    before = [make_record(case, noise=0.01, seed=index, latency_us=300) for index, case in enumerate(cases)]
    points = judge(now, before)
    assert [index for index, point in enumerate(points) if point.verdict is Verdict.SLOWER] == [5, 40]
    assert {point.verdict for point in points} == {Verdict.SLOWER, Verdict.SAME}


def test_benjamini_hochberg_on_the_example_of_the_paper() -> None:
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719]
    p_values += [0.6528, 0.7590, 1.0000]
    assert benjamini_hochberg(p_values, 0.05) == (True,) * 4 + (False,) * 11
    assert benjamini_hochberg(p_values[::-1], 0.05) == (False,) * 11 + (True,) * 4
    assert benjamini_hochberg([], 0.05) == ()


def clocked(latency_us: float, mhz: float | Sequence[float] | None, **fields: Any) -> Record:
    """A record with the SM clock of each sample."""
    plain = record(latency_us, **fields)
    assert plain.timing is not None
    count = len(plain.timing.samples_us)
    clocks = None if mhz is None else (float(mhz),) * count if isinstance(mhz, int | float) else tuple(mhz)
    return replace(plain, timing=replace(plain.timing, sm_clocks_mhz=clocks))


def judge_clocked(current: Record, *baselines: Record) -> Point:
    (point,) = judge([current], *([baseline] for baseline in baselines))
    return point


def test_slower_in_time_and_in_cycles_is_slower() -> None:
    point = judge_clocked(clocked(120, 1500), clocked(100, 1500))
    assert point.verdict is Verdict.SLOWER
    assert point.cycles is not None and point.cycles.value == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize(("mhz", "seen"), [(1250, "the same"), (1100, "not slower")])
def test_slower_by_the_clock_alone_is_inconclusive(mhz: int, seen: str) -> None:
    point = judge_clocked(clocked(120, mhz), clocked(100, 1500))
    assert point.verdict is Verdict.INCONCLUSIVE
    assert point.reason == f"slower in time and {seen} in clock cycles: the clock, not the code"
    assert point.ratio is not None and point.ratio.value == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize(("mhz", "seen"), [(1800, "the same"), (2000, "slower")])
def test_faster_by_the_clock_alone_is_only_not_slower(mhz: int, seen: str) -> None:
    point = judge_clocked(clocked(1500 / 18, mhz), clocked(100, 1500))
    assert point.verdict is Verdict.NOT_SLOWER
    assert point.reason == f"faster in time and {seen} in clock cycles: the clock, not the code"
    assert bool(point.warnings) == (seen == "slower")


def test_faster_in_cycles_too_is_faster() -> None:
    assert judge_clocked(clocked(80, 1500), clocked(100, 1500)).verdict is Verdict.FASTER


def test_more_cycles_in_the_same_time_are_warned_about() -> None:
    point = judge_clocked(clocked(100, 1800), clocked(100, 1500))
    assert point.verdict is Verdict.SAME
    assert point.warnings == (
        "slower in clock cycles (1.2x) and not in time: a higher clock hides it, or the clock does not set the time",
    )


def test_fewer_cycles_in_the_same_time_are_nothing_to_warn_about() -> None:
    point = judge_clocked(clocked(100, 1200), clocked(100, 1500))
    assert (point.verdict, point.warnings) == (Verdict.SAME, ())


def test_a_clock_that_changes_between_samples_is_followed() -> None:
    now = clocked(100, [1500.0] * 10 + [750.0] * 10, noise=0)
    assert now.timing is not None
    drifting = replace(now, timing=replace(now.timing, samples_us=(100.0,) * 10 + (200.0,) * 10))
    point = judge_clocked(drifting, clocked(100, 1500, noise=0))
    assert point.cycles is not None and point.cycles.value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (None, 1500),
        (1500, None),
        (None, None),
        (0, 1500),
        (1500, math.nan),
        ([1500.0] * 19, 1500),
        ([], 1500),
    ],
)
def test_without_the_clock_of_every_sample_time_alone_decides(now: Any, before: Any) -> None:
    point = judge_clocked(clocked(120, now), clocked(100, before))
    assert (point.verdict, point.cycles) == (Verdict.SLOWER, None)


def test_one_of_several_baselines_without_clocks_leaves_time_alone() -> None:
    point = judge_clocked(clocked(120, 1250), clocked(100, 1500), clocked(100, None), clocked(100, 1500))
    assert (point.verdict, point.cycles) == (Verdict.SLOWER, None)


def test_the_least_time_that_counts_is_the_same_in_cycles() -> None:
    point = judge_clocked(clocked(4.6, 1500, noise=0), clocked(4.0, 1000, noise=0))
    assert point.ratio is not None and point.cycles is not None
    assert point.cycles.min_effect == point.ratio.min_effect == pytest.approx(0.25)
    assert point.cycles.baseline_us == pytest.approx(4.0)


def test_a_change_that_the_family_hides_is_not_called_noise() -> None:
    """Alone it would be slower; among as many unchanged points it is not sure enough."""
    cases = [make_case(kv_len=1024 * step) for step in range(1, 65)]

    def run_of(slow_us: float) -> list[Record]:
        return [make_record(case, "kernel", slow_us if case is cases[0] else 100, noise=0.0) for case in cases]

    odd, *_ = judge(run_of(106.8), run_of(100))
    assert odd.verdict is Verdict.INCONCLUSIVE
    assert odd.ratio is not None and odd.ratio.interval[0] > 1.05
    assert odd.reason == "beyond the 5% that count, but not surely enough as one of 64 points (p = 0.023)"
    (alone,) = judge(run_of(106.8)[:1], run_of(100)[:1])
    assert alone.verdict is Verdict.SLOWER


def test_baselines_that_lie_further_apart_than_what_counts_are_remarked() -> None:
    (apart,) = judge([record(105)], [record(100, noise=0)], [record(112, noise=0)])
    assert apart.warnings == (
        "its baselines lie 12% apart, more than the 5% that count: sweep them anew on an idle machine",
    )
    (near,) = judge([record(100)], [record(100, noise=0)], [record(104, noise=0)])
    assert near.warnings == ()
