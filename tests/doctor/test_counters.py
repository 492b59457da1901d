"""What ncu counted, on canned output."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mla_kernels.launch import Launch
from mlabench.doctor import counted_calls
from mlabench.doctor.counters import CASES, PLANTED, examine_counters, judge_counters
from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.launches import make_case
from mlabench.doctor.ncu import METRICS, most_passes, ncu_command, parse_ncu
from mlabench.errors import UsageError
from tests.factories import FINGERPRINTS

ASKED = (*CASES, *PLANTED)

MARK = "spin_kernel(long)"


def ncu_log(reads: list[list[float]], passes: int = 1) -> str:
    """The log of a run in which each case read so many bytes, a kernel each, behind a mark."""
    rows = [("Kernel Name", *METRICS), ("", "byte", "byte", "sector")]
    for case in reads:
        rows += [(MARK, "0", "0", "12"), *(("attend", f"{read:,.0f}", "1024", "33") for read in case)]
    messages = [f'==PROF== Profiling "attend" - {n}: 0%....50%....100% - {passes} pass' for n in range(len(rows))]
    numbers = ["ID", "", *range(len(rows))]
    lines = [
        ",".join(f'"{cell}"' for cell in (number, "1234", *row)) for number, row in zip(numbers, rows, strict=False)
    ]
    lines[0] = lines[0].replace("1234", "Process ID")
    return "\n".join(["==PROF== Connected to process 1234", *messages, "==PROF== Disconnected", *lines]) + "\n"


def cold_reads(share: float = 1.0) -> list[list[float]]:
    """Each cold case reads its bytes in two kernels, each planted one next to nothing."""
    cold = [[0.9 * share * make_case(axes).bytes_moved, 0.1 * share * make_case(axes).bytes_moved] for axes in CASES]
    return [*cold, *([4096.0] for _ in PLANTED)]


def judge(reads: list[list[float]], passes: int = 1, workspace: int | None = 0) -> dict[str, Finding]:
    log = ncu_log(reads, passes)
    findings = judge_counters(ASKED, parse_ncu(log), most_passes(log), [workspace] * len(ASKED))
    return {finding.name: finding for finding in findings}


def test_twenty_cases_from_4_mb_to_2_gb() -> None:
    sizes = sorted(make_case(axes).kv_cache_bytes for axes in CASES)
    assert len(CASES) == len({make_case(axes).case_id for axes in CASES}) == 20
    assert 4e6 <= sizes[0] <= 5e6
    assert 2e9 <= sizes[-1] <= 2.3e9


def test_cold_calls_are_good_and_planted_warm_ones_are_told_apart() -> None:
    found = judge(cold_reads())
    assert {name: finding.status for name, finding in found.items()} == dict.fromkeys(
        ("cold by counters", "accounting", "planted warm"), "good"
    )
    assert "20 of 20 cases of 4.19 MB to 2.15 GB KV" in found["cold by counters"].found
    case = found["cold by counters"].data["cases"][0]
    assert case["kernels"] == ("attend", "attend")
    assert case["dram_read_bytes"] == pytest.approx(case["bytes_moved"], abs=2)
    assert case["l2_read_sectors"] == 66


def test_one_warm_case_among_the_cold_ones_is_bad() -> None:
    reads = cold_reads()
    reads[4] = [0.2 * make_case(CASES[4]).kv_cache_bytes]
    found = judge(reads)
    assert found["cold by counters"].status == "bad"
    assert "the least 20.0% (GQA-8 (128 heads) batch 1 kv_len 1024" in found["cold by counters"].found
    assert found["accounting"].status == "warning"


def test_planted_warm_calls_that_look_cold_are_bad() -> None:
    reads = cold_reads()
    reads[-1] = [make_case(CASES[16]).kv_cache_bytes]
    assert judge(reads)["planted warm"].status == "bad"


def test_bytes_that_do_not_add_up_are_bad() -> None:
    found = judge(cold_reads(1.08))
    assert found["cold by counters"].status == "good"
    assert found["accounting"].status == "bad"
    assert "8.0% (median over 20 cases)" in found["accounting"].found


@pytest.mark.parametrize(
    ("workspace", "status", "words"),
    [
        (1 << 20, "good", "partial results written and read again: a workspace of 1.05 MB"),
        (1 << 10, "warning", "which its workspace does not explain"),
        (None, "warning", "which its workspace does not explain"),
    ],
)
def test_every_exception_is_explained_or_told(workspace: int | None, status: str, words: str) -> None:
    reads = cold_reads()
    reads[0].append(2e6)
    finding = judge(reads, workspace=workspace)["accounting"]
    assert finding.status == status
    assert "1 of them by more than 5%; MHA (128 heads) batch 1 kv_len 64 bfloat16 by +47.0%" in finding.found
    assert words in finding.found


def test_several_passes_spoil_the_cache() -> None:
    assert judge(cold_reads(), passes=3)["passes"].status == "bad"
    assert judge_counters(ASKED, parse_ncu(ncu_log(cold_reads())), None, [None] * len(ASKED))[0].status == "not here"


def test_a_case_that_could_not_be_called_keeps_the_others_in_their_places() -> None:
    reads = cold_reads()
    reads[0] = []
    found = judge(reads)
    assert "1 of 22 cases launched nothing" in found["cases"].found
    assert found["cases"].status == found["cold by counters"].status == "bad"
    assert "19 of 20 cases" in found["cold by counters"].found
    assert found["cold by counters"].found.endswith("; 1 were not counted")


def test_a_planted_case_that_could_not_be_called_is_bad() -> None:
    found = judge([*cold_reads()[:-1], []])
    assert (found["cases"].status, found["cold by counters"].status) == ("bad", "good")


def test_units_are_scaled() -> None:
    log = ncu_log([[1.5]]).replace('"byte","byte"', '"Mbyte","byte"').replace('"2"', '"1.5"')
    assert [kernel.values[METRICS[0]] for kernel in parse_ncu(log)] == [0.0, 1.5e6]
    with pytest.raises(UsageError, match="'parsec'"):
        parse_ncu(log.replace("Mbyte", "parsec"))


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", "run as root"),
        ("==ERROR== Failed to initialize the profiler: LibraryNotLoaded", "LibraryNotLoaded"),
        ("==WARNING== No kernels were profiled.", "it gave no reason"),
        ('"ID","Kernel Name","dram__bytes_read.sum"\n"0","attend","5"', "did not count dram__bytes_write.sum"),
    ],
)
def test_ncus_own_failures_are_said(log: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_ncu(log)


def test_ncu_runs_the_child_and_its_log_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ncu = tmp_path / "ncu"
    log = tmp_path / "canned.csv"
    log.write_text(ncu_log(cold_reads()))
    asked = tmp_path / "asked.json"
    # A stand-in for ncu: it keeps the cases that the child would have been given, and prints the canned log.
    ncu.write_text(
        f'#!/bin/sh\nwhile [ $# -gt 0 ]; do case "$1" in\n--cases) cp "$2" {asked};; esac; shift; done; cat {log}\n'
    )
    ncu.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _name: str(ncu))
    findings = examine_counters(Examination("cuda", True, FINGERPRINTS["cuda"]))
    assert {finding.status for finding in findings} == {"good"}
    assert [entry.get("warm", False) for entry in json.loads(asked.read_text())] == [False] * 20 + [True] * 2


def test_without_ncu_the_proof_that_was_asked_for_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    (finding,) = examine_counters(Examination("cuda", True, FINGERPRINTS["cuda"]))
    assert (finding.status, bool(finding.mend)) == ("bad", True)


def test_a_failing_ncu_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "ncu")
    done = subprocess.CompletedProcess([], 1, "==ERROR== ERR_NVGPUCTRPERM", "")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: done)
    (finding,) = examine_counters(Examination("cuda", True, FINGERPRINTS["cuda"]))
    assert (finding.status, bool(finding.mend)) == ("bad", True)
    assert "may not read the counters" in finding.found


def test_clocks_and_caches_are_left_alone() -> None:
    command = ncu_command("ncu", ["python"])
    for option in ("--clock-control", "--cache-control"):
        assert command[command.index(option) + 1] == "none"
    assert command[command.index("--profile-from-start") + 1] == "off"
    assert command[-1] == "python"


def test_the_child_marks_every_case_and_launches_behind_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    order: list[str] = []

    def prepare(axes: dict[str, object], warm: bool) -> Launch:
        if axes["batch"] == 2:
            raise ValueError("does not fit")
        return Launch({}, 77, lambda: order.append(f"launch {axes['batch']} {'warm' if warm else 'cold'}"))

    monkeypatch.setattr(counted_calls, "_prepared", prepare)
    monkeypatch.setattr(counted_calls, "mark", lambda: order.append("mark"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda.profiler, "start", lambda: order.append("start"))
    monkeypatch.setattr(torch.cuda.profiler, "stop", lambda: order.append("stop"))
    path = tmp_path / "cases.json"
    path.write_text('[{"batch": 1}, {"batch": 2}, {"batch": 3, "warm": true}]')
    workspaces = tmp_path / "workspaces.json"
    monkeypatch.setattr(sys, "argv", ["counted_calls", "--cases", str(path), "--workspaces", str(workspaces)])
    counted_calls.main()
    assert json.loads(workspaces.read_text()) == [77, None, 77]
    assert order == [
        *("start", "mark", "launch 1 cold", "stop"),
        *("start", "mark", "stop"),
        *("start", "mark", "launch 3 warm", "stop"),
    ]
