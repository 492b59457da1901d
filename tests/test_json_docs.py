"""docs/json.md: every key of every command's JSON, in the order in which it is written, and commands that are taken."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from mlabench.cli.app import JSON_FILE_COMMANDS, app
from mlabench.doctor import examine
from mlabench.doctor.examine import Section
from mlabench.doctor.finding import Finding
from mlabench.machine_code.rows import Row
from mlabench.machine_code.static_gate import StaticResult
from tests.cli.commands import ROOT, call
from tests.history.runs import write_runs
from tests.machine_code.rows import ROW, inspection

TEXT = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")

RUN = "results/baselines/nvidia-h200/decode"
MODEL = ("--model", "deepseek-v3")


def tables(heading: str) -> Iterator[list[str]]:
    """The keys of each table of a section, in order."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for lines in re.findall(r"(?:^\|.*\n)+", section + "\n", re.MULTILINE):
        cells = [line.split("|")[1] for line in lines.splitlines()[2:]]
        yield [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command prints with --json, as plain values."""

    def read(*arguments: str, code: int = 0) -> Any:
        assert call(monkeypatch, *arguments, "--json") == code
        return json.loads(capsys.readouterr().out)

    return read


def test_lists(printed: Any, tmp_path: Path) -> None:
    write_runs(tmp_path, [1.0])
    names = re.findall(r"^`mlabench list (\w+)`", TEXT, re.MULTILINE)
    for name, documented in zip(names, tables("list"), strict=True):
        rows = printed("list", name, *([str(tmp_path)] if name == "runs" else []))
        assert all(list(row) == documented for row in rows), name


def test_config(printed: Any) -> None:
    whole, setting = tables("config")
    plain = printed("config")
    assert list(plain) == whole
    assert all(list(each) == setting for each in plain["settings"])


def test_predictions(printed: Any) -> None:
    rows, crossovers, latencies, measured, plans = tables("predict")
    calibrate = ("--calibrate", RUN)
    assert list(printed("predict", *MODEL, *calibrate)[0]) == rows
    assert list(printed("predict", *MODEL)[0]) == rows[: rows.index("latency_us")]
    assert list(printed("predict", *MODEL, "--crossovers")[0]) == crossovers
    assert list(printed("predict", *MODEL, "--crossovers", *calibrate)[0]) == latencies
    assert list(printed("predict", "--crossovers", *calibrate)[0]) == measured
    plan = ("plan", *MODEL, "--gpus-count", "8")
    assert list(printed(*plan, *calibrate)[0]) == plans
    assert list(printed(*plan)[0]) == plans[: plans.index("attention_us")]


def test_claims(printed: Any) -> None:
    (whole,) = tables("claims")
    plain = printed("claims")
    assert all(list(claim) == whole[: whole.index("checks") + 1] for claim in plain)
    checks = [check for claim in plain for check in claim["checks"]]
    cell = next(line for line in TEXT.splitlines() if line.startswith("| `checks` |")).split("|")[2]
    assert all(list(check) == re.findall(r"`([^`]+)`", cell) for check in checks)
    assert {check["run"] for check in checks} == {None}


def test_history(printed: Any, tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0, 130.0])
    plain = printed("history", str(tmp_path))
    (series,) = plain["series"]
    assert [list(each) for each in (plain, series, series["readings"][0], series["steps"][0])] == list(
        tables("history")
    )


def test_inspect() -> None:
    whole, rows = tables("inspect")
    plain = json.loads(inspection([ROW]).to_text())
    assert list(plain) == whole
    assert set(rows) == {field.name for field in fields(Row)}
    assert set(plain["rows"][0]) <= set(rows)


def test_doctor(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, findings = tables("doctor")
    found = Finding("one", "good", "it is there", data={"points": [1]})
    monkeypatch.setattr(examine, "SECTIONS", (Section("one", "Section one", lambda _: [found]),))
    plain = printed("doctor", "--device", "cpu", "--quick")
    assert list(plain) == whole
    (section,) = plain["sections"]
    assert all(f"`{name}`" in TEXT for name in section)
    assert list(section["findings"][0]) == findings


def test_the_static_gate() -> None:
    whole, differences = tables("gate --static")
    plain = StaticResult(Path("stored.json"), (ROW,), inspection([replace(ROW, registers=1)])).to_json()
    assert list(plain) == whole
    assert list(plain["differences"][0]) == differences


def test_every_command_has_json_or_is_known_to_have_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without = {"sweep", "report", "export", "profile"}
    listed = {name for row in re.findall(r"^\| (`.*`) \| an? ", TEXT, re.M) for name in re.findall(r"`(\w+)`", row)}
    for command in (str(command.name) for command in app.registered_commands):
        call(monkeypatch, command, "--help")
        has = "--json" in capsys.readouterr().out
        assert has == (command not in without), command
        assert has == (command in listed), command


@pytest.mark.parametrize("arguments", [(), ("--all",)])
def test_json_without_a_file_is_printed(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repeat = "results/evidence/nvidia-h200/repeat"
    assert call(monkeypatch, "compare", f"{repeat}/01", f"{repeat}/02", "--json", *arguments) == 0
    output, errors = capsys.readouterr()
    assert json.loads(output)["command"] == "compare"
    assert errors.startswith("compare: 64 points")


def test_json_with_a_file_goes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repeat, path = "results/evidence/nvidia-h200/repeat", tmp_path / "out.json"
    for words in (["--json", str(path)], [f"--json={path}"]):
        assert call(monkeypatch, "compare", *words, f"{repeat}/01", f"{repeat}/02") == 0
        assert json.loads(path.read_text())["command"] == "compare"
        path.unlink()
        assert "compare: 64 points" in capsys.readouterr().out


def test_the_commands_with_a_file_are_told() -> None:
    assert JSON_FILE_COMMANDS == ("compare", "ab", "gate", "doctor")
    assert "`compare`, `ab`, `gate` and `doctor` also write to a file" in TEXT


@pytest.mark.parametrize("command", ["predict", "plan", "claims"])
def test_two_formats_are_refused(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, command, "--json", "--format", "md") == 2
    assert "--json and --format md name two formats" in capsys.readouterr().err


@pytest.mark.parametrize("line", re.findall(r"^    mlabench (.*)$", TEXT, re.MULTILINE))
def test_commands_are_taken(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, *shlex.split(line)) == 0
    assert json.loads(capsys.readouterr().out)


def test_linked_places_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
    headings = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings
