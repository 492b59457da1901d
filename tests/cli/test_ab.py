"""`mlabench ab`, and what `mlabench gate --ab` measures and judges."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.cases.grid import make_cases
from mlabench.cli.ab_steps import Asked, _gone, run_ab, run_sides
from mlabench.errors import ExitCode, UsageError
from mlabench.measure.base_kernels import TABLE
from mlabench.measure.config import SweepConfig
from mlabench.measure.kernels import all_kernels, find_kernel
from mlabench.measure.side_by_side import Matchup
from mlabench.measure.sides import AskedSide
from mlabench.records.pairs import PAIRS_FOLDER, PAIRS_NAME, load_pairs
from mlabench.verdict.interleaved import LEAST_EFFECTS, MAX_S, AbGateResult, make_plan, plan_settings
from mlabench.verdict.outputs import GATE_FORMATS
from mlabench.verdict.point import Verdict
from tests.cli.commands import ROOT, SOURCES, call
from tests.faults.sweeps import NearWorker
from tests.git_kernels import PACKAGE, Repository, git, make_repository, worktrees

SMALL = ("--device", "cpu", "-a", "num_q_heads=4", "-a", "kv_len=70")
IN_PROCESS = Asked(("num_q_heads=4", "kv_len=70"), {"device": "cpu"})


def run_beside(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `mlabench ARGUMENTS` with the packages in `folder` before all others."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{SOURCES}"}
    command = [sys.executable, "-m", "mlabench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    made = make_repository(tmp_path / "repository")
    monkeypatch.setattr(sys, "path", [str(made.folder), *sys.path])
    monkeypatch.setenv("PYTHONPATH", f"{made.folder}{os.pathsep}{SOURCES}")
    all_kernels.cache_clear()
    yield made
    all_kernels.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sources were copied without their repository")
def test_a_kernel_against_itself_at_the_same_commit(tmp_path: Path) -> None:
    clone, out = tmp_path / "clone", tmp_path / "run"
    git(tmp_path, "clone", "--quiet", str(ROOT), str(clone))
    sides = ("mla_decode_torch@HEAD", "mla_decode_torch")
    done = run_beside(clone / "kernels", "ab", *sides, *SMALL, "--min-effect", "0.5", "--json", "-", "--out", str(out))
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert (plain["command"], plain["current"], plain["baselines"]) == ("ab", sides[1], [sides[0]])
    (point,) = plain["points"]
    assert point["verdict"] != "slower"
    assert point["ratio_low"] < point["ratio"] < point["ratio_high"]
    (pair,) = load_pairs(out)
    assert pair.base.commit == git(clone, "rev-parse", "HEAD")
    assert Path(str(pair.candidate.source)) == clone / "kernels" / "mla_kernels" / "mla_decode_torch.py"
    assert pair.base.source not in (None, pair.candidate.source)
    assert not Path(str(pair.base.source)).exists()
    assert worktrees(clone) == 1


def test_a_kernel_against_an_older_commit(repository: Repository, tmp_path: Path) -> None:
    sides, out = (f"repeated@{repository.first[:9]}", "repeated"), tmp_path / "run"
    markdown = tmp_path / "summary.md"
    done = run_beside(repository.folder, "ab", *sides, *SMALL, "--out", str(out), "--markdown", str(markdown))
    assert done.returncode == 0, done.stderr
    assert "slower" in done.stdout
    assert f"{sides[1]} against {sides[0]}" in done.stdout
    assert done.stdout.rstrip().endswith("1 slower")
    assert "[1/1] MLA absorbed (4 heads)" in done.stderr
    assert "slower" in markdown.read_text()
    (pair,) = load_pairs(out)
    assert pair.base.commit == repository.first
    assert worktrees(repository.path) == 1


def test_a_kernel_at_two_commits(repository: Repository, tmp_path: Path) -> None:
    sides = (f"repeated@{repository.second}", f"repeated@{repository.first}")
    result = run_sides(sides[0], sides[1:], replace(IN_PROCESS, out=tmp_path / "run"))
    assert [point.verdict for point in result.points] == [Verdict.FASTER]
    (pair,) = load_pairs(tmp_path / "run")
    assert (pair.base.commit, pair.candidate.commit) == (repository.second, repository.first)
    assert worktrees(repository.path) == 1


def test_interrupted_it_keeps_what_is_there_and_no_worktree(repository: Repository, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sides = (f"repeated@{repository.first}", "repeated")
    axes = ("--device", "cpu", "-a", "num_q_heads=4", "-a", "kv_len=64:1064", "--out", str(out))
    command = [sys.executable, "-m", "mlabench", "ab", *sides, *axes]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / PAIRS_NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert f"interrupted; what was measured is in {out}" in errors
    assert "Traceback" not in errors
    assert len(load_pairs(out)) >= 1
    assert worktrees(repository.path) == 1


def test_the_gate_holds_every_chosen_kernel_against_itself(repository: Repository, tmp_path: Path) -> None:
    asked = Asked(IN_PROCESS.axes, {"device": "cpu", "kernel": ("versioned",)}, out=tmp_path / "run")
    result = run_ab("main~1", asked)
    assert {point.key[1]: point.verdict for point in result.points} == {
        "repeated": Verdict.SLOWER,
        "added": Verdict.INVALID,
        "mended": Verdict.INVALID,
    }
    assert result.exit_code is ExitCode.REGRESSION
    assert (result.current, result.baselines) == ("the sources at hand", (f"main~1 ({repository.first[:12]})",))
    assert len(load_pairs(tmp_path / "run")) == 3
    for render in GATE_FORMATS.values():
        assert "repeated" in render(result)
    assert worktrees(repository.path) == 1


def test_the_gates_cases_come_from_a_file(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    config = tmp_path / "sweep.toml"
    config.write_text('kernel = ["added"]\ndevice = "cpu"\n[axes]\nnum_q_heads = 4\nkv_len = [65, 70]\n')
    result = run_ab(repository.second, Asked(config=config, out=tmp_path / "run", min_effect=0.01))
    assert result.warnings == (
        "the kernels' sources are the same on both sides: every file of versioned_kernels",
        "--min-effect 0.01 is under 0.05, the least on cpu that unchanged code stays below",
    )
    assert [point.label for point in result.points] == [
        f"MLA absorbed (4 heads) batch 1 kv_len {kv_len} bfloat16" for kv_len in (65, 70)
    ]
    assert result.exit_code is not ExitCode.REGRESSION
    assert result.baselines == (repository.second[:12],)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mla_decode_torc", "mla_decode_torch"), "unknown kernel 'mla_decode_torc': did you mean mla_decode_torch"),
        (("mla_decode_torch@", "mla_decode_torch"), "names no commit: write KERNEL@COMMIT"),
        (("mla_decode_torch", "grouped_decode_torch"), "choose two kernels that read the same tensors"),
        (("mla_prefill_torch", "torch"), "takes (mla_absorbed_prefill): choose -a phase=prefill"),
        (("mla_decode_torch", "mla_decode_torch", "-a", "phase=prefill"), "(mla_absorbed): choose -a phase=decode"),
        (("mla_decode_torch", "mla_decode_torch", "-a", "variant=mqa"), "(mla_absorbed): choose others with -a or"),
        (("mla_decode_torch", "mla_decode_torch", "--min-effect", "5"), "--min-effect 5.0 must lie between 0 and 1"),
        (("mla_decode_torch", "mla_decode_torch", "--max-s", "0"), "--max-s 0 must be above zero"),
        (("mla_decode_torch", "mla_decode_torch", "--max-s", "600"), "after which a case is given up (timeout_s)"),
        (
            ("mla_decode_torch", "torch", "mla_decode_triton", "--max-s", "300"),
            "--max-s 300 for each of 2 kernels must",
        ),
        (("mla_decode_torch", "flashinfer"), "flashinfer has no kernel for mla_absorbed cases"),
        (("mla_decode_torch", "torch", "mla_decode_torch@HEAD"), "mla_decode_torch is named at two commits"),
        (("mla_decode_torch", "mla_decode_torch", "--timeout-s", "0"), "timeout-s 0 must be above zero"),
        (("mla_decode_torch", "mla_decode_torch", "--where", "batch > 1"), "leaves no case"),
        (("mla_decode_torch", "mla_decode_torch", "--json", "-", "--markdown", "-"), "cannot share standard output"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert call(monkeypatch, "ab", *arguments, *SMALL) == ExitCode.USAGE
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_its_run_is_taken_for_no_sweeps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr("mlabench.measure.side_by_side.Worker", NearWorker)
    run_sides("mla_decode_torch", ["mla_decode_torch"], replace(IN_PROCESS, out=out))
    capsys.readouterr()
    for command in (("ab", "mla_decode_torch", "mla_decode_torch"), ("gate", "--ab", "nowhere")):
        assert call(monkeypatch, *command, "--device", "cpu", "--out", str(out)) == ExitCode.USAGE
        told = tuple(capsys.readouterr())
        assert told == ("", f"mlabench: error: {out} already holds a run: choose another --out\n")
    for command in (("sweep", "--resume", "--out"), ("compare", str(out)), ("gate", "-b", str(out))):
        assert call(monkeypatch, *command, str(out)) == ExitCode.USAGE
        assert "is a run of `mlabench ab`" in capsys.readouterr().err


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sources were copied without their repository")
def test_a_kernel_that_is_gone_since_the_base_is_missing(tmp_path: Path) -> None:
    (tmp_path / ".git").touch()
    table = tmp_path / TABLE
    kernel = find_kernel("mla_decode_torch")
    cases = make_cases({"variant": ("mla", "mha"), "kv_len": (70,)})
    own = next(case for case in cases if case.variant.contract == kernel.contract)
    matchups = [Matchup(own, AskedSide(kernel, "0123456", str(tmp_path / "kernels")), (AskedSide(kernel),))]
    settings = SweepConfig(device="cpu", method="cpu")
    assert "cannot be read" in _gone(settings, matchups, cases)[1][0]
    table.parent.mkdir(parents=True)
    row = "Kernel({!r}, 'torch', 'mla_absorbed', 'mla_kernels.old:bind', devices={!r})"
    rows = (("mla_decode_torch", ("cpu",)), ("deleted", ("cpu",)), ("of_a_gpu", ("cuda",)))
    table.write_text(f"KERNELS = ({', '.join(row.format(*each) for each in rows)})")
    points, warnings = _gone(settings, matchups, cases)
    assert [(point.key, point.verdict) for point in points] == [((own.case_id, "deleted", "cpu"), Verdict.MISSING)]
    assert AbGateResult("now", ("base",), plan_settings(make_plan("cpu", 1)), tuple(points)).fails(points[0])
    assert warnings == ()
    assert _gone(replace(settings, kernel=("torch",)), matchups, cases) == ([], ())


@pytest.mark.usefixtures("repository")
def test_a_commit_that_is_not_there_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no commit 'nowhere'"):
        run_ab("nowhere", Asked(IN_PROCESS.axes, {"device": "cpu", "kernel": ("versioned",)}, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_of_seconds_cannot_be_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlabench.cli.sweep_steps.choose_device", lambda _: "cuda")
    with pytest.raises(UsageError, match="cannot be interleaved: choose graph or events"):
        run_ab("HEAD", Asked(given={"method": "sustained"}))


def without_spaces(text: str) -> str:
    """As it reads at every width of a terminal, which breaks words at their hyphens too."""
    return "".join(text.split())


def test_the_help_names_the_defaults(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "ab", "--help") == 0
    text = without_spaces(capsys.readouterr().out)
    effects = ", ".join(f"{least} on {device}" for device, (least, _) in LEAST_EFFECTS.items())
    assert without_spaces(effects) in text
    assert re.search(rf"ofonecase,inseconds\.\[default:\(?{MAX_S:g}\)?\]", text)
    assert f"{PAIRS_FOLDER}/DATE-TIME-DEVICE" in text


def test_the_gates_help_names_the_defaults(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "gate", "--help") == 0
    text = without_spaces(capsys.readouterr().out)
    effects = ", ".join(f"{least} on {device}" for device, (least, _) in LEAST_EFFECTS.items())
    assert without_spaces(f"with --ab {effects}") in text
    assert f"{PAIRS_FOLDER}/DATE-TIME-DEVICE" in text


def test_a_wrong_side_has_its_own_exit_code(repository: Repository, tmp_path: Path) -> None:
    sides = (f"mended@{repository.first}", "mended")
    done = run_beside(repository.folder, "ab", *sides, *SMALL, "--out", str(tmp_path / "run"))
    assert done.returncode == ExitCode.INCORRECT
    assert f"base mended@{repository.first[:7]} incorrect" in done.stdout


def test_several_kernels_are_held_against_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("mlabench.measure.side_by_side.Worker", NearWorker)
    out, report = tmp_path / "run", tmp_path / "ab.json"
    sides = ("mla_decode_torch", "torch", "mla_decode_triton", "flash_mla")
    options = ("-a", "batch=1,2", "--out", str(out), "--json", str(report))
    assert call(monkeypatch, "ab", *sides, *SMALL, *options) == ExitCode.PASS
    pairs = load_pairs(out)
    kernels = ["mla_decode_torch", "mla_decode_triton", "mla_decode_flash_mla"]
    assert [pair.candidate.kernel for pair in pairs] == kernels * 2
    assert [pair.candidate.status for pair in pairs] == ["ok", "unsupported", "unavailable"] * 2
    assert {pair.plan.certain_p for pair in pairs} == {0.05 / 6}
    output = capsys.readouterr().out
    lines = [line for line in output.splitlines() if "the time of mla_decode_torch" in line]
    assert [line.partition(":")[0] for line in lines] == ["mla_decode_torch", "best of them"]
    assert output.rstrip().endswith("ab: 6 points: 2 the same, 4 without a time")
    plain = json.loads(report.read_text())
    assert [point["kernel"] for point in plain["points"]] == kernels * 2
    assert [total["points"] for total in plain["totals"]] == [2, 2]
    assert plain["current"] == "torch, mla_decode_triton, flash_mla"


def test_peers_are_all_that_take_the_bases_cases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mlabench.measure.side_by_side.Worker", NearWorker)
    result = run_sides("mla_decode_torch", ["peers"], replace(IN_PROCESS, out=tmp_path / "run"))
    own = [kernel.name for kernel in all_kernels() if kernel.peer and kernel.contract == "mla_absorbed"]
    assert result.current == ", ".join(own)
    assert len(own) > 4
    assert result.exit_code is ExitCode.NOTHING_MEASURED


def test_a_gate_that_runs_nothing_of_what_differs_does_not_pass(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlabench.measure.side_by_side.Worker", NearWorker)
    (repository.folder / PACKAGE / "repeated.py").write_text("bind = None")
    git(repository.path, "commit", "--quiet", "--no-gpg-sign", "-am", "third")
    given = {"device": "cpu", "kernel": ("added",)}
    result = run_ab("main~1", Asked(("num_q_heads=4", "kv_len=70"), given, min_effect=0.9, out=tmp_path / "run"))
    assert result.exit_code is ExitCode.INCONCLUSIVE
    assert result.summary == "gate: INCONCLUSIVE (3): no point runs 1 of 1 files that differ"
    assert result.warnings[-1].endswith("no point runs it: versioned_kernels/repeated.py (repeated)")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("from versioned_kernels.wrong import bind", ExitCode.INCORRECT),
        ("def bind(**tensors):\n    raise KeyError('x')", ExitCode.NOTHING_MEASURED),
        ("def (", ExitCode.NOTHING_MEASURED),
    ],
)
def test_a_file_that_is_wrong_or_breaks_has_been_run(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, code: ExitCode
) -> None:
    monkeypatch.setattr("mlabench.measure.side_by_side.Worker", NearWorker)
    package = repository.folder / PACKAGE
    (package / "wrong.py").write_text(git(repository.path, "show", f"{repository.first}:kernels/{PACKAGE}/mended.py"))
    (package / "added.py").write_text(source)
    given = {"device": "cpu", "kernel": ("added",)}
    result = run_ab("main", Asked(("num_q_heads=4", "kv_len=70"), given, out=tmp_path / "run"))
    assert result.exit_code is code
    assert not [warning for warning in result.warnings if "no point runs" in warning]


def test_a_dry_run_shows_the_points_and_what_they_leave_out(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlabench.measure.side_by_side.Worker", lambda *_: pytest.fail("measured"))
    (repository.folder / PACKAGE / "repeated.py").write_text("bind = None")
    dry = ("gate", "--dry-run", "--ab", "main", *SMALL, "--kernel")
    assert call(monkeypatch, *dry, "added") == 0
    captured = capsys.readouterr()
    assert "added" in captured.out and "kv_len 70" in captured.out
    assert "1 point on " in captured.out and ": at most 5 s in turns" in captured.out
    assert captured.out.rstrip().endswith("the gate would be inconclusive (3): no point runs 1 of 1 files that differ")
    assert "no point runs it: versioned_kernels/repeated.py (repeated)" in captured.err
    assert call(monkeypatch, *dry, "repeated") == 0
    assert "inconclusive" not in capsys.readouterr().out
    assert worktrees(repository.path) == 1
