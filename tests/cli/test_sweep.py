"""`mlabench sweep`: the whole way, its interruptions, and its refusals."""

import json
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from mlabench.measure.config import SweepConfig
from mlabench.measure.plan import make_points
from mlabench.records.store import load_run
from tests.cli.commands import QUICK, SMALL_SWEEP, call, run, start
from tests.cli.joined import install_kernels

DRY_RUN = ("sweep", "--dry-run", "--device", "cpu", "--kernel", "torch")

ALL_FORMS = ("-a", "variant=mha,gqa,mqa,mla", "-a", "form=absorbed,recompute,expanded", "-a", "num_kv_heads=2")


def wait_for_records(path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    records = path / "records.jsonl"
    while time.monotonic() < deadline:
        if records.exists() and records.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not reach {count} records")


def test_every_variant_and_form_is_measured_and_checked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(*SMALL_SWEEP, *ALL_FORMS, "-a", "kv_len=70,200", "--out", str(out))
    assert done.returncode == 0, done.stderr
    records = load_run(out).records
    assert len(records) == 12
    for record in records:
        assert (record.status, record.reason) == ("ok", "")
        assert record.relative_error is not None
        assert record.timing is not None
        assert len(record.timing.samples_us) >= 5
    assert "12 ok" in done.stdout
    assert "[12/12]" in done.stderr


def test_one_point_is_one_point(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, *DRY_RUN, "-a", "kv_len=70", "-a", "num_q_heads=4", "-a", "variant=mla") == 0
    assert "1 point on" in capsys.readouterr().out


def test_decode_and_prefill_are_measured_in_one_sweep_and_reported_apart(tmp_path: Path) -> None:
    out = tmp_path / "run"
    axes = ("-a", "phase=decode,prefill", "-a", "variant=gqa,mla", "-a", "form=absorbed,recompute")
    done = run(*SMALL_SWEEP, *axes, "-a", "num_kv_heads=2", "-a", "kv_len=70,200", "--out", str(out))
    assert done.returncode == 0, done.stderr
    records = load_run(out).records
    outcomes = Counter((record.case.phase, record.kernel, record.status) for record in records)
    assert outcomes == {
        ("decode", "grouped_decode_torch", "ok"): 2,
        ("decode", "mla_decode_torch", "ok"): 2,
        ("decode", "mla_recompute_decode_torch", "ok"): 2,
        ("prefill", "grouped_prefill_torch", "ok"): 2,
        ("prefill", "mla_prefill_torch", "ok"): 2,
        ("prefill", "mla_recompute_prefill_torch", "ok"): 2,
    }
    assert "GQA-2 (4 heads) batch 1 prefill q_len 200 kv_len 200 bfloat16" in done.stderr
    assert {record.case.q_len for record in records if record.case.phase == "prefill"} == {70, 200}
    reported = run("report", str(out), "-o", str(tmp_path / "report"))
    assert reported.returncode == 0, reported.stderr
    page = (tmp_path / "report" / "report.html").read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    views = [title for title in titles if "timing method cpu" in title]
    assert len(views) == 2
    assert [title.endswith(", prefill of whole prompts") for title in sorted(views)] == [False, True]


def test_killed_in_the_middle_and_resumed_gives_the_same_records_once(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = (*SMALL_SWEEP, *ALL_FORMS, "-a", "kv_len=70,100,130,200", "--out", str(out))
    process = start(*arguments)
    wait_for_records(out, 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    survived = len(load_run(out).records)
    assert 5 <= survived < 24
    with (out / "records.jsonl").open("ab") as file:
        file.write(b'{"case_id":"cut off in the mid')
    done = run(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert "was cut short and is left out" in done.stderr
    lines = (out / "records.jsonl").read_text().splitlines()
    keys = [(plain["case_id"], plain["kernel"], plain["method"]) for plain in map(json.loads, lines)]
    config = SweepConfig.from_json(load_run(out).manifest.config)
    assert sorted(keys) == sorted(point.key("cpu") for point in make_points(config, "cpu"))
    assert f"[{survived + 1:>2}/24]" in done.stderr
    assert all(record.status == "ok" for record in load_run(out).records)


def test_interrupted_keeps_what_is_there_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(*SMALL_SWEEP, *ALL_FORMS, "-a", "kv_len=70,100,130,200", "--out", str(out))
    wait_for_records(out, 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"mlabench sweep --resume --out {out}" in errors
    assert "Traceback" not in errors
    assert load_run(out).warnings == ()


def test_resuming_without_arguments_uses_the_runs_own_settings_and_refuses_others(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(*SMALL_SWEEP, "-a", "kv_len=70", "--out", str(out))
    again = run("sweep", "--resume", "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert len(load_run(out).records) == 1
    other = run(*SMALL_SWEEP, "-a", "kv_len=90", "--out", str(out), "--resume")
    assert other.returncode == 2
    assert "was begun with another axes" in other.stderr


def test_faulty_kernels_become_statuses_and_a_wrong_one_exit_code_5(tmp_path: Path) -> None:
    out = tmp_path / "run"
    chosen = [word for name in ("wrong", "crashing", "raising", "narrow", "torch") for word in ("--kernel", name)]
    done = run(*QUICK, "-a", "kv_len=70", *chosen, "--out", str(out), faulty_kernels=True)
    assert done.returncode == 5, done.stderr
    statuses = {record.kernel: record.status for record in load_run(out).records}
    assert statuses == {
        "wrong": "incorrect",
        "crashing": "error",
        "raising": "error",
        "narrow": "unsupported",
        "mla_decode_torch": "ok",
    }
    assert "SIGABRT" in done.stdout
    assert "on a small ragged batch (kv_lens 193, 1, 33)" in " ".join(done.stdout.split())


def test_nothing_measured_is_exit_code_6(tmp_path: Path) -> None:
    done = run(*QUICK, "--kernel", "mla_decode_triton", "-a", "kv_len=70", "--out", str(tmp_path / "run"))
    assert done.returncode == 6
    assert "runs on cuda, not on cpu" in done.stdout


def test_dry_run_shows_cases_memory_and_time_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *DRY_RUN, "-a", "variant=mha,mla", "-a", "kv_len=1024") == 0
    output = capsys.readouterr().out
    assert "MHA (128 heads) batch 1 kv_len 1024" in output
    assert "473 MB" in output
    assert "2 points on" in output
    assert list(tmp_path.iterdir()) == []


def test_a_page_size_that_is_not_everyones_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *DRY_RUN, "-a", "kv_len=70", "-a", "page_size=16,64") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "kv_len 70" in line]
    assert ["page_size 16" in line for line in lines] == [True, False]


def test_lengths_over_the_context_of_a_model_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *DRY_RUN, "--model", "llama-2-7b", "-a", "kv_len=4096,5000") == 0
    over = "mlabench: warning: kv_len over the model's max_context: 5,000 of llama-2-7b (4,096)\n"
    assert capsys.readouterr().err == over
    assert call(monkeypatch, *DRY_RUN, "-a", "kv_len=300000") == 0
    assert capsys.readouterr().err == ""


def test_a_broken_entry_point_stops_no_sweep_that_does_not_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_kernels(tmp_path, monkeypatch, broken=None)
    small = ("sweep", "--dry-run", "--device", "cpu", "-a", "kv_len=70")
    reason = "entry point broken (joined:broken) is no mlabench.measure.kernels.Kernel"
    assert call(monkeypatch, *small) == 0
    assert capsys.readouterr().err == f"mlabench: warning: {reason}; its kernel is left out\n"
    assert call(monkeypatch, *small, "--kernel", "torch") == 0
    assert capsys.readouterr().err == ""
    assert call(monkeypatch, *small, "--kernel", "broken") == 2
    assert capsys.readouterr().err == f"mlabench: error: {reason}\n"


def test_dry_run_charges_nothing_for_points_without_a_kernel_and_marks_those_that_take_too_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prefill = ("-a", "phase=prefill", "-a", "kv_len=512")
    refused = ("--kernel", "grouped_prefill_torch", *prefill, "-a", "form=absorbed")
    assert call(monkeypatch, *DRY_RUN[:-2], *refused) == 0
    assert "at most 0 B at a time, about 0 s" in capsys.readouterr().out
    for timeout_s, marked in (("0.01", True), ("600", False)):
        assert call(monkeypatch, *DRY_RUN, *prefill, "-a", "form=expanded", "--timeout-s", timeout_s) == 0
        assert ("over the timeout of" in capsys.readouterr().out) is marked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-a", "bach=1"), "unknown axis 'bach': did you mean batch"),
        (("--model", "deepsek-v3"), "unknown model 'deepsek-v3': did you mean deepseek-v3"),
        (("--kernel", "trton"), "unknown kernel 'trton': did you mean triton"),
        (("-a", "variant=gqa", "-a", "num_q_heads=20"), "num_q_heads 20 is not a multiple of num_kv_heads 8"),
        (("-a", "phase=prefil"), "phase=prefil is unknown: did you mean prefill"),
        (
            ("-a", "phase=prefill", "-a", "q_len=9", "-a", "kv_len=8"),
            "under q_len 9: kv_len counts the new",
        ),
        (("-a", "q_len=8192"), "kv_len 4096, the default, is under q_len 8192: add -a kv_len=8192"),
        (("-a", "q_len=64,2048", "-a", "kv_len=1024,4096"), "leave such pairs out with --where 'q_len <= kv_len'"),
        (("-a", "batch=0"), "batch=0 must be a positive whole number"),
        (("-a", "kv_len=-4"), "kv_len=-4 must be a positive whole number"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--dtype", "fp8"), "dtype=fp8 is unknown"),
        (("--dtype", "bf16"), "dtype=bf16 is unknown: did you mean bfloat16?"),
        (("--method", "graph", "--device", "cpu"), "method 'graph' does not time a cpu device"),
        (("--where", "batch > 99"), "leaves no case"),
        (("-a", "batch=1", "-a", "batch=2"), "axis batch is given twice"),
        (("--dtype", "float16", "-a", "dtype=float32"), "axis dtype is given twice"),
        (("--timeout-s", "inf"), "timeout-s inf must be above zero, and finite"),
        (("-a", "batch[pow2]=34"), "at most 65536"),
        (("-a", "batch=1:1000000"), "has over 100000 values"),
        (("--sampling-s", "0"), "sampling-s 0 must be above zero, and finite"),
        (("--config", "nothing.toml"), "cannot read nothing.toml"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "sweep", "--device", "cpu", *arguments) == 2
    errors = capsys.readouterr().err.strip()
    assert errors.startswith("mlabench: error: ")
    assert words in errors
    assert len(errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("mlabench.machine.nvml.Nvml.open", lambda _uuid=None: None)
    assert call(monkeypatch, "sweep", "--device", "cuda", "--dry-run") == 2
    assert "no NVIDIA GPU answers here; use --device cpu" in capsys.readouterr().err


def test_an_existing_run_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(*SMALL_SWEEP, "-a", "kv_len=70", "--out", str(out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = run(*SMALL_SWEEP, "-a", "kv_len=70", "--out", str(out))
    assert again.returncode == 2
    assert again.stderr == (
        f"mlabench: error: {out} already holds a run: add --resume to go on with it, or choose another --out\n"
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_resuming_a_run_by_its_name_is_told_how(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "sweep", "--resume", "results/runs/one") == 2
    told = "--resume takes no value: name the run with --out, as in --resume --out results/runs/one"
    assert capsys.readouterr().err == f"mlabench: error: {told}\n"
