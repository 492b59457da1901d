"""The gate's documentation and its example workflow: what they say is so, and the workflow's steps run."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from mlabench.cli.app import app
from mlabench.errors import ExitCode
from mlabench.measure.config import load_config
from mlabench.measure.kernels import KERNELS
from mlabench.measure.plan import estimate_memory_bytes, make_points
from mlabench.records.store import read_manifest
from mlabench.verdict.compare import MIN_SAMPLES
from mlabench.verdict.comparison import settings_of
from mlabench.verdict.gate import GateResult
from mlabench.verdict.noise import NOISE
from mlabench.verdict.outputs.github import MOST_A_LEVEL
from mlabench.verdict.outputs.markdown import MOST_ROWS
from mlabench.verdict.point import Verdict
from tests.cli.commands import ROOT, SOURCES, call
from tests.factories import make_case, make_record, make_run, write_run
from tests.verdict.outputs.results import judged, point

GUIDE = ROOT / "docs" / "gating.md"
TEXT = GUIDE.read_text(encoding="utf-8")
WORKFLOW = ROOT / "docs" / "examples" / "mlabench-gate.yml"

PULL_CASES = ROOT / "docs" / "examples" / "mlabench-gate.toml"

STAND_IN = """#!/bin/bash
echo "$*" >> "$CALLED"
case "$*" in
  "gate --static"* | "gate --ab"* | "gate --dry-run"*) ;;
  sweep*) while [ "$1" != --out ]; do shift; done; mkdir -p "$(dirname "$2")"; cp -r "$STORED_RUN" "$2" ;;
  *) exec "$PYTHON" -m mlabench "$@" ;;
esac
"""
"""A `mlabench` that measures nothing and compiles nothing: its sweep copies a stored run; all else is the real one.

What it was called with is noted.
"""


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the first table after the text, by their first cell."""
    lines = TEXT[TEXT.index(heading) :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|--"))
    rows = {}
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        first, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        rows[first] = rest
    return rows


def names(cells: dict[str, list[str]]) -> list[str]:
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_exit_code_is_documented_with_the_order_of_precedence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documented = {int(code): name for code, (name, _) in table("## Exit codes").items()}
    named = {code.value: code.name.lower().replace("_", " ") for code in ExitCode if code is not ExitCode.INTERRUPTED}
    assert documented == named
    order = "the first of 2, 4, 5, 6, 1, 3, 0"
    assert order in TEXT
    call(monkeypatch, "gate", "--help")
    assert order in " ".join(capsys.readouterr().out.split())
    assert "2, 4, 5, 6, 1, 3, 0" in " ".join((ExitCode.__doc__ or "").split())


def test_what_each_verdict_does_to_the_gate_is_documented() -> None:
    documented = {cell.strip("`"): row[0] for cell, row in table("| verdict |").items()}
    assert list(documented) == [verdict.value for verdict in Verdict]
    for verdict in Verdict:
        code = judged([point(Verdict.SAME), point(verdict)]).exit_code
        if verdict in (Verdict.NEW, Verdict.UNMEASURED):
            assert judged([point(verdict)]).exit_code is ExitCode.NOTHING_MEASURED
        word = {ExitCode.PASS: "passes", ExitCode.INCONCLUSIVE: "unclear, 3"}.get(code, f"fails, {code.value}")
        assert documented[verdict.value] == word


def test_every_key_of_the_json_is_documented() -> None:
    plain = judged([point(Verdict.SLOWER, 2.0)]).to_json()
    assert names(table("### The JSON")) == list(plain)
    assert names(table("Each point:")) == list(plain["points"][0])
    settings = table("### The JSON")["`settings`"][0]
    assert re.findall(r"`([^`]+)`", settings) == list(plain["settings"])


def test_documented_numbers_are_the_codes() -> None:
    words = " ".join(TEXT.split())
    cuda, cpu = NOISE["cuda"], NOISE["cpu"]
    assert f"by default {cuda.min_effect:.0%} on a GPU, {cpu.min_effect:.0%} on a CPU" in words
    assert f"a time ({cuda.min_effect_us:g} us, {cpu.min_effect_us:g} us)" in words
    assert (MIN_SAMPLES, MOST_ROWS, MOST_A_LEVEL) == (5, 50, 10)
    assert "Under five samples" in words and "at most 50 rows" in words and "ten errors, ten warnings" in words
    empty = GateResult("now", (), settings_of(cuda), ())
    assert f"`schema_version` is {empty.to_json()['schema_version']};" in words


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (GUIDE.parent / target).exists(), target


@cache
def steps() -> dict[str, str]:
    """The workflow's scripts by the step's name, read as this file is laid out: `run:` in one line or a block."""
    found: dict[str, str] = {}
    name = ""
    lines = iter(WORKFLOW.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if match := re.fullmatch(r"      - name: (.*)", line):
            name = match[1]
        elif line == "        run: |":
            block = []
            for inner in lines:
                if not inner.startswith(" " * 10):
                    break
                block.append(inner[10:])
            found[name] = "\n".join(block)
        elif match := re.fullmatch(r"        run: (.*)", line):
            found[name] = match[1]
    return found


def commands() -> list[list[str]]:
    """Every `mlabench` command of the workflow as words."""
    return [
        shlex.split(line)[1:]
        for script in steps().values()
        for line in script.replace("\\\n", " ").splitlines()
        if line.startswith("mlabench ")
    ]


def variable(name: str) -> str:
    """What the workflow sets a variable of its scripts to."""
    (value,) = re.findall(rf"^  {name}: (\S+)(?: #.*)?$", WORKFLOW.read_text(encoding="utf-8"), re.M)
    return str(value)


def test_the_workflow_has_its_steps_and_no_expression_in_a_script() -> None:
    assert [words[:2] for words in commands()] == [
        ["gate", "--static"],
        ["gate", "--ab"],
        ["gate", "--dry-run"],
        ["sweep", "--config"],
        ["gate", "$RUN"],
    ]
    assert not [script for script in steps().values() if "${{" in script]
    text = WORKFLOW.read_text(encoding="utf-8")
    assert "\t" not in text and "fetch-depth: 0" in text and "actions/upload-artifact@" in text
    assert "BASE: origin/${{ github.base_ref || 'main' }}\n" in text
    assert commands()[1][1:3] == ["--ab", "$BASE"]


@pytest.mark.parametrize("has_torch", [True, False])
def test_the_workflow_keeps_the_runners_own_torch_and_else_takes_the_pinned_one(
    tmp_path: Path, has_torch: bool
) -> None:
    """Stored runs are of the runner's software, which the pins would exchange."""
    called, folder = tmp_path / "called", tmp_path / "bin"
    pip = tmp_path / ".venv" / "bin" / "pip"
    for path in (folder / "python3", pip):
        path.parent.mkdir(parents=True)
        path.write_text(f'#!/bin/bash\necho "$*" >> {called}\n[ "$1" != -c ] || exit {int(not has_torch)}\n')
        path.chmod(0o755)
    pip.write_text(f'#!/bin/bash\necho "pip $*" >> {called}\n')
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_PATH": str(tmp_path / "path")}
    script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps()["Install"]]
    subprocess.run(script, cwd=tmp_path, env=environment, check=True, timeout=60)
    make, _, install = called.read_text().splitlines()
    assert make == "-m venv --system-site-packages .venv"
    assert install == f"pip install --quiet {'' if has_torch else '-c constraints.txt '}-e ."
    assert (tmp_path / "path").read_text() == f"{tmp_path}/.venv/bin\n"
    assert (ROOT / "constraints.txt").exists()


def test_every_option_of_the_workflow_is_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {words[0] for words in commands()} <= {command.name for command in app.registered_commands}
    for command, *words in commands():
        call(monkeypatch, command, "--help")
        options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert {word for word in words if word.startswith("--")} <= options


def test_the_workflows_sweep_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (words,) = [words for words in commands() if words[0] == "sweep"]
    asked = [variable("DRIFT_CONFIG") if word == "$DRIFT_CONFIG" else word for word in words]
    assert call(monkeypatch, *asked, "--device", "cpu", "--dry-run") == 0


def test_the_cases_of_a_pull_request_run_every_kernel_of_the_suite_alone_and_in_a_layer() -> None:
    assert variable("PULL_CONFIG") == str(PULL_CASES.relative_to(ROOT))
    points = make_points(load_config(PULL_CASES).resolved("cuda", "graph", "cold"), "cuda")
    assert f"{len(points)} points of every kernel" in TEXT
    expected = {kernel.name for kernel in KERNELS if kernel.by_default}
    for scope in ("core", "layer"):
        assert {each.kernel.name for each in points if each.kernel and each.case.scope == scope} >= expected
    assert max(map(estimate_memory_bytes, points)) < 24e9


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sources were copied without their repository")
def test_the_cases_of_a_pull_request_are_taken(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": f"{clone / 'kernels'}:{SOURCES}"}
    dry = ("gate", "--ab", "HEAD", "--config", str(PULL_CASES), "--device", "cpu", "--dry-run")
    command = [sys.executable, "-m", "mlabench", *dry]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "mla_prefill_torch" in done.stdout and "inconclusive" not in done.stdout


def test_the_workflow_takes_the_machine_of_the_stored_runs_and_refuses_other_software_before_it_sweeps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    stored = (ROOT / variable("DRIFT_CONFIG")).with_suffix("")
    machine = read_manifest(stored).fingerprint
    monkeypatch.setattr("mlabench.cli.sweep_steps.choose_device", lambda _: "cuda")
    monkeypatch.setattr("mlabench.cli.gate_plan.worker_fingerprint", lambda _: machine)
    (words,) = [words for words in commands() if "--dry-run" in words]
    asked = [variable("DRIFT_CONFIG") if word == "$DRIFT_CONFIG" else word for word in words]
    assert call(monkeypatch, *asked) == 0
    assert str(stored.relative_to(ROOT)) in capsys.readouterr().out.splitlines()
    other = replace(machine, torch="0.0.0")
    monkeypatch.setattr("mlabench.cli.gate_plan.worker_fingerprint", lambda _: other)
    assert call(monkeypatch, *asked) == ExitCode.NO_BASELINE
    assert "was measured on other terms" in capsys.readouterr().out


def test_a_first_baseline_takes_three_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text('device = "cpu"\nkernel = "mla_decode_torch"\n[axes]\nnum_q_heads = 4\nkv_len = 64\n')
    found = re.findall(r"^    mlabench (sweep --config sweep\.toml .*)$", TEXT, re.M)
    assert len(found) == 3
    dry = ("gate", "--dry-run", "--config", "sweep.toml")
    assert f"`mlabench {' '.join(dry)}`" in TEXT
    assert call(monkeypatch, *dry) == ExitCode.NO_BASELINE
    (device,) = re.findall(r"--out results/baselines/(\S+)/NAME", capsys.readouterr().err)
    for command in found:
        words = command.replace("YOUR-DEVICE", device).split()
        assert call(monkeypatch, *words, "--sampling-s", "0.01", "--precision", "0.5") == 0
    capsys.readouterr()
    assert call(monkeypatch, *dry) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 baselines of this machine (")


@pytest.mark.parametrize(
    ("fields", "code", "level"),
    [
        ({"latency_us": 200}, 0, "notice"),
        ({"latency_us": 400}, 1, "error"),
        ({"latency_us": 210}, 3, "warning"),
        ({"status": "incorrect"}, 5, "error"),
        ({"status": "unsupported"}, 6, "error"),
    ],
)
def test_the_workflows_scripts_run(tmp_path: Path, fields: dict, code: int, level: str) -> None:
    case = make_case()
    slug = make_run(None, []).manifest.fingerprint.slug
    for name in ("decode", "decode-2", "decode-3"):
        before = make_run(None, [make_record(case, "kernel", 200)])
        write_run(tmp_path / "work" / "results" / "baselines" / slug / name, before)
    stored = write_run(tmp_path / "stored", make_run(None, [make_record(case, "kernel", **fields)]))
    summary = tmp_path / "summary.md"
    summary.write_text("# before\n")
    results = run_scripts(tmp_path, stored, summary)

    *others, gate = results
    assert ([each.returncode for each in others], gate.returncode) == ([0] * 4, code), gate.stderr
    ab = shlex.split((tmp_path / "called").read_text().splitlines()[1])
    assert ab[:5] == ["gate", "--ab", "origin/main", "--config", "pull.toml"]
    assert gate.stdout.startswith(f"::{level} title=mlabench gate::gate: ")
    assert gate.stdout.rstrip().splitlines()[-1].startswith("gate: ")
    assert summary.read_text().startswith("# before\n### gate: ")
    assert {path.name for path in (tmp_path / "work" / "gate").iterdir()} == {"stored.xml", "stored.json"}


def run_scripts(tmp_path: Path, stored: Path, summary: Path) -> list["subprocess.CompletedProcess[str]"]:
    """Run the workflow's scripts with `mlabench` commands as a GitHub runner does, one bash each."""
    stand_in = tmp_path / "bin" / "mlabench"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{stand_in.parent}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": SOURCES,
        "STORED_RUN": str(stored),
        "CALLED": str(tmp_path / "called"),
        "BASE": "origin/main",
        "PULL_CONFIG": "pull.toml",
        "DRIFT_CONFIG": "sweep.toml",
        "RUN": "results/runs/gate-1-1",
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    (tmp_path / "work" / "gate").mkdir()
    scripts = [script for script in steps().values() if re.search(r"^mlabench ", script, re.M)]
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    return [
        subprocess.run(
            [*bash, script],
            env=environment,
            cwd=tmp_path / "work",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        for script in scripts
    ]
