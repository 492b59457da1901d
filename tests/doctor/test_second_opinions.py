"""Other tools' times against ours, on canned times and records."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlabench.doctor import opinions, second_opinions
from mlabench.doctor.finding import Examination
from mlabench.doctor.launches import split_at_marks
from mlabench.doctor.opinions import OPINIONS, OURS
from mlabench.doctor.profiles import scope_time_us, spans_us
from mlabench.doctor.second_opinions import examine_second_opinions, judge_opinion
from tests.factories import FINGERPRINTS

CUPTI, DO_BENCH, DO_BENCH_CUDAGRAPH = (
    next(opinion for opinion in OPINIONS if opinion.name == name)
    for name in ("CUPTI", "do_bench", "do_bench_cudagraph")
)

OUR_TIMES: dict[str, Any] = {
    "cold": {"spin": [103.0, 103.1, 103.2], "mla": [20.0, 20.2, 20.4]},
    "warm": {"spin": [103.1], "mla": [16.0]},
    "overhead_us": 3.0,
}

MARK = "void at::cuda::(anonymous namespace)::spin_kernel(long)"


def test_times_without_launch_are_held_against_ours_without_overhead() -> None:
    finding = judge_opinion(CUPTI, {"spin": [100.2], "mla": [17.5]}, OUR_TIMES)
    assert finding.status == "good"
    assert "2 of 2 launches agree" in finding.found
    assert finding.data["launches"][0]["ours_us"] == pytest.approx(100.1)


def test_times_with_launch_are_held_against_ours_as_they_are() -> None:
    finding = judge_opinion(DO_BENCH, {"spin": [103.0], "mla": [22.0, 22.1]}, OUR_TIMES)
    assert finding.status == "warning"
    assert "1 of 2 launches agree; mla: 22.05 us against our 20.2 us (+9.16%)" in finding.found
    assert "launch included" in finding.found


def test_warm_times_are_held_against_our_warm_ones() -> None:
    assert judge_opinion(DO_BENCH_CUDAGRAPH, {"mla": [13.4]}, OUR_TIMES).status == "good"
    assert judge_opinion(DO_BENCH_CUDAGRAPH, {"mla": [17.2]}, OUR_TIMES).status == "warning"


def test_short_calls_may_be_half_a_microsecond_apart() -> None:
    ours = {"cold": {"short": [8.0]}, "overhead_us": 3.0}
    assert judge_opinion(CUPTI, {"short": [5.4]}, ours).status == "good"
    assert judge_opinion(CUPTI, {"short": [5.6]}, ours).status == "warning"


def gpu() -> Examination:
    return Examination("cuda", True, FINGERPRINTS["cuda"])


def test_a_missing_package_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_opinions, "find_spec", lambda _name: None)
    monkeypatch.setattr(second_opinions, "_ask", lambda _name: OUR_TIMES)
    findings = {finding.name: finding for finding in examine_second_opinions(gpu())}
    assert {findings.pop("second opinions").status} == {"bad"}
    assert {finding.status for finding in findings.values()} == {"not here"}
    assert findings["CUPTI"].mend == "pip install cupti-python"
    assert "cuda-bench" in findings["NVBench"].mend


def test_an_opinion_whose_process_fails_is_a_warning_and_ours_is_not_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_opinions, "find_spec", lambda _name: object())
    failing: set[str] = {opinion.name for opinion in OPINIONS}

    def run(command: list[str], **_options: object) -> "subprocess.CompletedProcess[str]":
        name, path = command[-2:]
        if name in failing:
            return subprocess.CompletedProcess(command, 1, "", "Traceback ...\nRuntimeError: CUPTI is taken\n")
        Path(path).write_text('{"cold": {"spin": [103.0]}, "warm": {}, "overhead_us": 3.0}')
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    findings = examine_second_opinions(gpu())
    nothing = findings.pop()
    assert (nothing.name, nothing.status) == ("second opinions", "bad")
    assert {finding.status for finding in findings} == {"warning"}
    assert "RuntimeError: CUPTI is taken" in findings[0].found
    failing.add(OURS)
    with pytest.raises(second_opinions.NoAnswer):
        examine_second_opinions(gpu())


def test_marks_divide_what_a_profiler_lists() -> None:
    kernels = [("flush", 0), (MARK, 1), ("a", 2), ("b", 3), (MARK, 4), ("_spin_kernel", 5), (MARK, 6)]
    assert list(split_at_marks(kernels)) == [[2, 3], [5], []]
    assert list(split_at_marks([("flush", 0)])) == []
    assert list(split_at_marks([("_ZN2at4cuda11spin_kernelEl", 0), ("a", 1)])) == [[1]]


def test_a_launch_spans_from_its_first_kernel_to_its_last() -> None:
    kernels = [
        ("flush", 0, 50),
        (MARK, 60, 61),
        ("split", 1_000, 9_000),
        ("combine", 10_000, 13_500),
        (MARK, 14_000, 14_001),
        ("flush", 15_000, 90_000),
        (MARK, 90_100, 90_101),
        ("split", 91_000, 99_000),
        ("combine", 100_000, 104_500),
        (MARK, 105_000, 105_001),
    ]
    assert spans_us(kernels[::-1]) == [12.5, 13.5]
    with pytest.raises(RuntimeError, match="no marks among 1 recorded kernels"):
        spans_us(kernels[:1])


def test_the_time_of_a_scope_in_protons_tree() -> None:
    def leaf(name: str, time_ns: int) -> dict[str, Any]:
        return {"children": [], "frame": {"name": name}, "metrics": {"count": 5, "time (ns)": time_ns}}

    wanted = {"children": [leaf("split", 8000), leaf("combine", 2000)], "frame": {"name": "mla"}, "metrics": {}}
    other = {"children": [leaf("split", 5000)], "frame": {"name": "gqa"}, "metrics": {}}
    root = {"children": [wanted, other, leaf("flush", 70_000)], "frame": {"name": "ROOT"}, "metrics": {}}
    assert scope_time_us([root, {"CUDA": {"0": {"name": "H200"}}}], "mla") == 10.0
    assert scope_time_us(root, "gqa") == 5.0


def test_the_process_of_an_opinion_writes_its_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opinions, "make_launches", lambda: {"spin": lambda: None})
    monkeypatch.setattr(opinions, "time_ours", lambda launches: {name: [1.0] for name in launches})
    opinions.main(OURS, str(tmp_path / "times.json"))
    assert (tmp_path / "times.json").read_text() == '{"spin": [1.0]}'


def test_every_opinion_says_what_it_takes() -> None:
    assert len({opinion.name for opinion in OPINIONS}) == len(OPINIONS)
    assert all(opinion.cache in ("cold", "warm") and opinion.includes and opinion.install for opinion in OPINIONS)
