"""`mlabench doctor`: the table, the JSON and the exit codes."""

import json
from pathlib import Path

import pytest
import typer

from mlabench.cli.doctor import doctor
from mlabench.doctor import examine
from mlabench.doctor.examine import Section
from mlabench.doctor.finding import Examination, Finding
from mlabench.errors import UsageError


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(doctor)
    monkeypatch.setattr("sys.argv", ["doctor", *arguments])
    with pytest.raises(SystemExit) as end:
        app()
    return int(end.value.code or 0)


def stand_in(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    def look(_examination: Examination) -> list[Finding]:
        return list(findings)

    monkeypatch.setattr(examine, "SECTIONS", (Section("one", "Section one", look),))


GOOD = Finding("truth", "good", "25 of 25 spins read [true]", data={"points": [1.0, 2.0]})
BAD = Finding("slope", "bad", "copies are lost", "do not trust it")


def test_the_table_has_the_section_what_was_found_and_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, GOOD, BAD)
    assert call(monkeypatch, "--device", "cpu") == 1
    output = capsys.readouterr().out
    for words in ("Section one", "25 of 25 spins read [true]", "mend: do not trust it", "something is bad"):
        assert words in output
    assert output.rstrip().endswith("(1 good, 1 bad)")


def test_good_is_exit_code_0_and_json_goes_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, GOOD)
    assert call(monkeypatch, "--device", "cpu", "--quick", "--json", str(tmp_path / "doctor.json")) == 0
    plain = json.loads((tmp_path / "doctor.json").read_text())
    assert (plain["quick"], plain["exit_code"]) == (True, 0)
    assert plain["sections"][0]["findings"][0]["data"]["points"] == [1.0, 2.0]
    assert "nothing is bad (1 good)" in capsys.readouterr().out


def test_json_on_standard_output_is_all_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, BAD)
    assert call(monkeypatch, "--device", "cpu", "--json", "-") == 1
    output, errors = capsys.readouterr()
    assert json.loads(output)["exit_code"] == 1
    assert "something is bad" in errors


def test_bad_input_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "--device", "tpu") == 2
    monkeypatch.setattr(examine, "diagnose", lambda *_arguments: pytest.fail("measured"))
    for arguments, words in (
        (("--device", "cpu", "--json", "nowhere/doctor.json"), "its folder is not there"),
        (("--device", "cpu", "--json", "."), "it is a folder"),
        (("--device", "cpu", "--method", "sustained"), "means of calls back to back"),
        (("--device", "cpu", "--method", "graph"), "does not time a cpu device"),
        (("--device", "cuda"), "no NVIDIA GPU answers"),
    ):
        monkeypatch.setattr("mlabench.machine.nvml.Nvml.open", lambda _uuid=None: None)
        monkeypatch.setattr("sys.argv", ["doctor", *arguments])
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(doctor)
        with pytest.raises(UsageError, match=words):
            app()


def test_the_help_says_the_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0 nothing is bad" in output
    assert "1 something is bad" in output
    assert "Example: mlabench doctor" in output


def test_a_real_quick_examination_of_this_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "doctor.json"
    code = call(monkeypatch, "--device", "cpu", "--quick", "--json", str(path))
    plain = json.loads(path.read_text())
    assert code == plain["exit_code"]
    assert [section["name"] for section in plain["sections"]] == ["machine", "ceilings", "timer", "kernels"]
    findings = {f["name"]: f for section in plain["sections"] for f in section["findings"]}
    assert len(findings["truth"]["data"]["points"]) == 25
    assert len(findings["slope of copies"]["data"]["levels_us"]) == 7
    assert findings["coverage"]["data"]["windows"] == 60
    assert findings["mla_decode_torch"]["status"] == "good"


def test_a_proof_that_was_asked_for_and_cannot_be_made_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proofs = tuple(section for section in examine.SECTIONS if section.option)
    monkeypatch.setattr(examine, "SECTIONS", proofs)
    assert call(monkeypatch, "--device", "cpu", "--counters", "--cross-check") == 1
    output = capsys.readouterr().out
    assert output.rstrip().endswith("(2 bad)")
    assert "mend: ask for them where there is a GPU" in output
    assert call(monkeypatch, "--device", "cpu") == 0
