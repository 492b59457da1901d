"""`mlabench profile`: the trace with its ranges, the one case and the one kernel, and ncu's command."""

import json
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.cli.profile_steps import Asked, ncu_command
from mlabench.measure.kernels import find_kernel
from mlabench.measure.trace import Job
from tests.cli.commands import call, run
from tests.factories import make_case, make_record, make_run, write_run

SMALL = ("-a", "num_q_heads=4", "-a", "kv_len=8", "--device", "cpu")

CASE = make_case(num_q_heads=4, kv_len=8)

ASKED = Asked(None, ("batch=2",), ("deepseek-v3",), None, None, None, 10, 3, None, trace=True)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ranges(path: Path) -> Counter[str]:
    events = json.loads(path.read_text())["traceEvents"]
    return Counter(event["name"] for event in events if event.get("cat") == "user_annotation")


def test_the_trace_names_the_steps_and_each_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "profile", *SMALL, "--calls", "3", "-o", "trace.json") == 0
    found = ranges(folder / "trace.json")
    assert found == {"inputs": 1, "reference": 1, "bind": 1, "check": 2, "measure": 1, "calls": 1, "call": 3}
    output = capsys.readouterr().out
    assert output.startswith("trace.json: inputs ")
    assert "ncu" not in output


def test_a_layers_parts_are_in_the_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ("-a", "scope=layer", "-a", "hidden_size=64", "-a", "q_lora_rank=16")
    assert call(monkeypatch, "profile", *SMALL, *layer, "--calls", "1", "-o", "trace.json") == 0
    found = ranges(folder / "trace.json")
    assert found["parts"] == 1
    assert found["call"] == found["calls"] > 3


def test_a_case_of_a_run_is_found_by_the_start_of_its_id(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(folder / "results" / "runs" / "one", make_run(None, [make_record(CASE, kernel="mla_decode_torch")]))
    assert call(monkeypatch, "profile", CASE.case_id[:6], "--device", "cpu", "--calls", "1") == 0
    assert ranges(folder / f"mla_decode_torch-{CASE.case_id}.trace.json")["call"] == 1
    assert "num_q_heads" not in capsys.readouterr().err


def test_the_projects_kernel_and_device_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mlabench.toml").write_text('device = "cpu"\nkernel = "torch"\nmethod = "graph"\n')
    assert call(monkeypatch, "profile", "-a", "num_q_heads=4", "-a", "kv_len=8", "--calls", "1") == 0
    assert ranges(folder / f"mla_decode_torch-{CASE.case_id}.trace.json")["call"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["-a", "kv_len=8,9", "-a", "batch=1"], 2, "2 cases are left, and a trace is of one: choose it, as with -a kv"),
        (["--model", "deepseek-v3", "--model", "deepseek-v2-lite"], 2, "choose it, as with --model deepseek-v3"),
        (["-a", "kv_len=8", "--kernel", "peers"], 2, "kernels take the case, and a trace is of one: add --kernel mla_"),
        (["-a", "kv_len=8", "--kernel", "grouped_decode_torch"], 2, "grouped_decode_torch does not take MLA absorbed"),
        (["-a", "kv_len=8", "--kernel", "mla_decode_torc"], 2, "did you mean mla_decode_torch"),
        (["-a", "kv_len=8", "--run", "runs"], 2, "--run goes with a CASE"),
        (["abc", "-a", "kv_len=8"], 2, "leave -a, --dtype and --model away"),
        (["abc"], 2, "there is no run under results/runs"),
        (["-a", "kv_len=8", "--out", "absent/trace.json"], 2, "its folder is not there; choose another --out"),
        (["-a", "kv_len=8", "--no-trace"], 2, "--no-trace makes calls for ncu"),
    ],
)
def test_what_is_not_one_point_is_one_line(
    arguments: list[str],
    code: int,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "profile", "--device", "cpu", *arguments) == code
    errors = capsys.readouterr().err
    assert complaint in errors
    assert errors.count("\n") == 1


def test_a_case_that_a_run_does_not_hold_or_that_is_not_clear(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [make_record(make_case(batch=batch)) for batch in range(1, 40)]
    write_run(folder / "run", make_run(None, records))
    assert call(monkeypatch, "profile", "xyz", "--run", "run", "--device", "cpu") == 2
    assert "run holds no case 'xyz': `mlabench export run` lists their ids" in capsys.readouterr().err
    ids = [record.case.case_id for record in records]
    first = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    assert call(monkeypatch, "profile", first, "--run", "run", "--device", "cpu") == 2
    assert f"cases that begin with '{first}'" in capsys.readouterr().err


def test_a_kernel_that_cannot_run_ends_in_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "profile", *SMALL, "--kernel", "mla_decode_triton") == 6
    assert "unsupported: mla_decode_triton runs on cuda, not on cpu" in capsys.readouterr().out


def test_ncu_is_given_this_very_point() -> None:
    job = Job(CASE, find_kernel("mla_decode_triton"), "cuda", 10, 3)
    command = ncu_command(ASKED, job)
    assert command[0] == "ncu"
    assert "off" in command[command.index("--profile-from-start") :][:2]
    assert "-f" in command
    assert command[command.index("-m") - 1] == sys.executable
    own = command[command.index("mlabench") :]
    asked = ["-a", "batch=2", "--model", "deepseek-v3", "--kernel", "mla_decode_triton", "--device", "cuda"]
    assert own == ["mlabench", "profile", *asked, "--seed", "3", "--calls", "1", "--no-trace"]
    stored = ncu_command(replace(ASKED, case="abc", run=Path("runs/one"), axes=(), models=()), job)
    assert stored[stored.index("profile") + 1 :][:3] == ["abc", "--run", "runs/one"]


def test_a_kernel_that_leaves_is_one_that_could_not_run(folder: Path) -> None:
    done = run("profile", *SMALL, "--kernel", "leaving", "-o", str(folder / "trace.json"), faulty_kernels=True)
    assert done.returncode == 6
    assert "error: the kernel called for the end of the process" in done.stdout


def test_a_crash_says_where(folder: Path) -> None:
    done = run("profile", *SMALL, "--kernel", "segmented", "-o", str(folder / "trace.json"), faulty_kernels=True)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "faulty_kernels.py" in done.stderr


def test_a_wrong_kernel_is_told_and_its_trace_is_there(folder: Path) -> None:
    done = run("profile", *SMALL, "--kernel", "wrong", "-o", str(folder / "trace.json"), faulty_kernels=True)
    assert done.returncode == 5
    assert "incorrect: " in done.stdout
    assert ranges(folder / "trace.json")["bind"] == 1
