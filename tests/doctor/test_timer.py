"""The self-test passes a sound timer, and finds each planted fault by its name."""

import json
from typing import cast

import pytest

from mlabench.doctor.clearing import check_clearing
from mlabench.doctor.coverage import WINDOW, adaptive_windows, judge_coverage
from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.repeats import check_pairs, judge_pairs, least_squares_slope
from mlabench.doctor.spinning import CpuBench, Effort, Limits, Subject, resolution_us
from mlabench.doctor.timer import CHECKS, check_timer, choose_tested, examine_timer
from mlabench.doctor.truth import LENGTHS_NS
from mlabench.errors import UsageError
from mlabench.machine.fingerprint import DeviceKind
from mlabench.measure.timing.cpu import CpuTimer
from mlabench.measure.timing.method import Budget
from mlabench.stats import median_interval
from tests.doctor.stand_ins import (
    CoarseTimer,
    CorrelatedTimer,
    DroppingTimer,
    LongTimer,
    MoodyTimer,
    OffsetTimer,
    StandInBench,
    StandInTimer,
    WarmTimer,
    make_subject,
)
from tests.factories import FINGERPRINTS

FEW = Effort(samples=3, copies_samples=3, pairs=20, windows=10)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def bad(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings if finding.status == "bad"}


def test_a_sound_timer_is_good_in_everything() -> None:
    findings = check_timer(make_subject())
    assert {finding.name: finding.status for finding in findings} == dict.fromkeys(
        (
            "truth",
            "resolution",
            "truth in cycles",
            "overhead",
            "slope of copies",
            "A/A",
            "coverage",
            "coverage, adaptive",
            "cold is cold",
            "memory given back",
            "sampling",
        ),
        "good",
    )
    assert len(json.dumps([finding.to_json() for finding in findings], allow_nan=False)) > 1000


@pytest.mark.parametrize(
    ("kind", "names", "words"),
    [
        (LongTimer, {"truth", "truth in cycles"}, "long ones by +2.00%"),
        (OffsetTimer, {"overhead"}, "an empty call reads 4 us, declared are 3 us: more than 0.5 us apart"),
        (CoarseTimer, {"truth", "resolution"}, "steps of 1 us"),
        (WarmTimer, {"cold is cold"}, "not clearly slower than warm"),
        (DroppingTimer, {"slope of copies"}, "a copy over 1 to 64 copies, -6."),
    ],
)
def test_a_planted_fault_is_found_by_name(kind: type[StandInTimer], names: set[str], words: str) -> None:
    findings = check_timer(make_subject(kind, FEW))
    assert bad(findings) == names
    assert any(words in finding.found for finding in findings if finding.status == "bad")
    assert all(finding.mend for finding in findings if finding.status == "bad")


def test_correlated_samples_are_found_by_their_coverage() -> None:
    findings = by_name(check_timer(make_subject(CorrelatedTimer)))
    assert bad(list(findings.values())) >= {"coverage", "coverage, adaptive"}
    assert findings["coverage"].data["share"] < 0.8
    assert findings["coverage, adaptive"].data["autocorrelation"] > 0.3


def test_on_a_machine_with_spells_they_are_a_warning() -> None:
    bench = StandInBench(Limits(independent=False))
    findings = check_timer(Subject(CorrelatedTimer(bench), bench, Effort(windows=200)))
    assert by_name(findings)["coverage"].status == "warning"


def test_intervals_that_are_too_narrow_are_found_on_a_sound_trace() -> None:
    subject = make_subject()
    trace = subject.times_us(subject.bench.work(), 500 * WINDOW)

    def narrow(samples: object) -> tuple[float, float, float]:
        middle, low, high = median_interval(samples)  # type: ignore[arg-type]
        return middle, middle - (middle - low) / 2, middle + (high - middle) / 2

    assert {finding.status for finding in judge_coverage(trace, Limits())} == {"good"}
    assert {finding.status for finding in judge_coverage(trace, Limits(), narrow)} == {"bad"}


def test_intervals_that_are_too_wide_are_a_warning() -> None:
    subject = make_subject()
    trace = subject.times_us(subject.bench.work(), 500 * WINDOW)
    findings = judge_coverage(trace, Limits(), lambda samples: (min(samples), min(samples), max(samples)))
    assert {finding.status for finding in findings} == {"warning"}


def test_the_same_call_twice_that_differs() -> None:
    (finding,) = check_pairs(make_subject(MoodyTimer))
    assert (finding.name, finding.status) == ("A/A", "bad")
    assert "1.020x" in finding.found


@pytest.mark.parametrize(("shift", "status"), [(0.0, "good"), (0.002, "warning"), (-0.02, "bad")])
def test_pairs_are_bad_beyond_chance_and_the_limit(shift: float, status: str) -> None:
    log_ratios = [shift + 0.0001 * (number - 9.5) for number in range(20)]
    assert judge_pairs(log_ratios, 0.005).status == status


def test_a_timer_that_says_warm_is_not_tested_for_cold() -> None:
    bench = StandInBench()
    findings = check_timer(Subject(StandInTimer(bench, "warm"), bench, FEW, StandInTimer(bench, "warm")))
    assert by_name(findings)["cold is cold"].status == "not here"


def test_a_cold_read_that_is_faster_than_memory() -> None:
    class Impossible(StandInTimer):
        def read_us(self, kernels_us: list[float]) -> float:
            return sum(us / 4 if us < 10 else us for us in kernels_us)

    findings = by_name(check_timer(make_subject(Impossible, FEW)))
    assert "faster than memory can be" in findings["cold is cold"].found


def test_memory_that_is_cleared_slower_than_is_waited_for() -> None:
    bench = StandInBench(clears_slowly=True)
    (finding,) = check_clearing(Subject(StandInTimer(bench), bench, FEW))
    assert finding.status == "bad"
    assert finding.found.endswith("were given back 1.14x of it, and 1.14x after the wait of 85.9 ms")


def test_a_timer_that_declares_no_overhead_or_reads_no_clock() -> None:
    class Plain(StandInTimer):
        def overhead_us(self) -> None:  # type: ignore[override]
            return None

        def sample(self, *arguments: object) -> object:  # type: ignore[override]
            samples = super().sample(*arguments)  # type: ignore[arg-type]
            return type(samples)(samples.times_us)

    findings = by_name(check_timer(make_subject(Plain, FEW)))
    assert findings["overhead"].status == "warning"
    assert findings["truth in cycles"].status == "not here"


def test_adaptive_windows_follow_one_another_as_the_timers_sample() -> None:
    trace = [100.0 + number % 2 for number in range(1000)]
    windows = adaptive_windows(trace, Budget(max_s=3600, precision=0.5, min_samples=10, max_samples=50))
    together = [value for window in windows for value in window]
    assert together == trace[: len(together)]
    assert len(trace) - len(together) < 100
    assert all(10 <= len(window) <= 20 for window in windows)


def test_the_lengths_span_four_decades() -> None:
    assert (len(LENGTHS_NS), LENGTHS_NS[0], LENGTHS_NS[-1]) == (25, 1_000, 10_000_000)


def test_small_arithmetic() -> None:
    assert least_squares_slope([1, 2, 4], [5.0, 7.0, 11.0]) == pytest.approx(2.0)
    assert resolution_us([3.0, 1.0, 1.5, 3.0]) == 0.5
    assert resolution_us([1.0, 1.0]) == 0.0


def test_the_cpus_own_timer_goes_through_every_check() -> None:
    findings = check_timer(Subject(CpuTimer(), CpuBench(), Effort(samples=3, copies_samples=3, pairs=4, windows=10)))
    names = by_name(findings)
    assert len(findings) == len(CHECKS) + 2
    assert len(names["truth"].data["points"]) == 25
    assert names["truth"].data["points"][-1]["measured"] >= 10_000
    assert names["cold is cold"].status == names["memory given back"].status == "not here"


@pytest.mark.parametrize(
    ("asked", "device", "tested"),
    [("auto", "cuda", "graph"), ("events", "cuda", "events"), ("auto", "cpu", "cpu"), ("cpu", "cpu", "cpu")],
)
def test_the_method_that_was_asked_for_is_tested(
    monkeypatch: pytest.MonkeyPatch, asked: str, device: DeviceKind, tested: str
) -> None:
    monkeypatch.setattr("mlabench.doctor.timer.check_timer", lambda subject: [subject])
    (subject,) = cast(list[Subject], examine_timer(Examination(device, True, FINGERPRINTS[device], asked)))
    assert subject.timer.method == tested
    assert subject.warm_timer is not None
    assert (subject.warm_timer.method, subject.warm_timer.cache) == (tested, "warm")


@pytest.mark.parametrize(
    ("asked", "device", "words"),
    [("sustained", "cuda", "means of calls back to back"), ("graph", "cpu", "does not time a cpu device")],
)
def test_a_method_that_cannot_be_tested_is_refused_with_the_reason(asked: str, device: DeviceKind, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choose_tested(asked, device)
