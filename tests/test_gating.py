"""The gate's documentation and its example workflow: what they say is so, and the workflow's steps run."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from mlabench.cli.app import app
from mlabench.errors import ExitCode
from mlabench.verdict.compare import MIN_SAMPLES, Verdict
from mlabench.verdict.comparison import settings_of
from mlabench.verdict.gate import GateResult
from mlabench.verdict.noise import NOISE
from mlabench.verdict.outputs.github import MOST_A_LEVEL
from mlabench.verdict.outputs.markdown import MOST_ROWS
from tests.cli.commands import ROOT, SOURCES, call
from tests.factories import make_case, make_record, make_run, write_run
from tests.verdict.outputs.results import judged, point

GUIDE = ROOT / "docs" / "gating.md"
TEXT = GUIDE.read_text(encoding="utf-8")
WORKFLOW = ROOT / "docs" / "examples" / "mlabench-gate.yml"

STAND_IN = """#!/bin/bash
case "$*" in
  "gate --static"*) ;;
  sweep*) while [ "$1" != --out ]; do shift; done; mkdir -p "$(dirname "$2")"; cp -r "$STORED_RUN" "$2" ;;
  *) exec "$PYTHON" -m mlabench "$@" ;;
esac
"""
"""A `mlabench` that measures nothing and compiles nothing: its sweep copies a stored run; all else is the real one."""


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
        for line in script.splitlines()
        if line.startswith("mlabench ")
    ]


def test_the_workflow_has_its_steps_and_no_expression_in_a_script() -> None:
    assert [words[:2] for words in commands()] == [["gate", "--static"], ["sweep", "--config"], ["gate", "$RUN"]]
    assert not [script for script in steps().values() if "${{" in script]
    text = WORKFLOW.read_text(encoding="utf-8")
    assert "\t" not in text and "fetch-depth: 0" in text and "actions/upload-artifact@" in text


def test_every_option_of_the_workflow_is_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {words[0] for words in commands()} <= {command.name for command in app.registered_commands}
    for command, *words in commands():
        call(monkeypatch, command, "--help")
        options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert {word for word in words if word.startswith("--")} <= options


def test_the_workflows_sweep_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    (config,) = re.findall(r"^      CONFIG: (\S+)", WORKFLOW.read_text(encoding="utf-8"), re.M)
    monkeypatch.chdir(ROOT)
    (words,) = [words for words in commands() if words[0] == "sweep"]
    asked = [config if word == "$CONFIG" else word for word in words]
    assert call(monkeypatch, *asked, "--device", "cpu", "--dry-run") == 0


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

    static, sweep, gate = results
    assert (static.returncode, sweep.returncode, gate.returncode) == (0, 0, code), gate.stderr
    assert gate.stdout.startswith(f"::{level} title=mlabench gate::gate: ")
    assert gate.stdout.rstrip().splitlines()[-1].startswith("gate: ")
    assert summary.read_text().startswith("# before\n### gate: ")
    assert {path.name for path in (tmp_path / "work" / "gate").iterdir()} == {"junit.xml", "gate.json"}


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
        "CONFIG": "sweep.toml",
        "RUN": "results/runs/gate-1-1",
        "GITHUB_STEP_SUMMARY": str(summary),
    }
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
