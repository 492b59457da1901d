"""`mlabench history`: the table, the JSON, the plot, and what it cannot show."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import call
from tests.factories import make_case
from tests.history.runs import write_runs


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "runs", [100.0, 100.0, 130.0])
    write_runs(tmp_path / "runs", [100.0, 100.0], [make_case(batch=7)], first_day=11, kernel="level")
    return tmp_path


def test_the_table_shows_the_steps_and_what_changed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "history", "runs") == 0
    output = capsys.readouterr().out
    assert "Synthetic H200, 700 W, graph, cold cache" in output
    assert "run-02, 2026-01-03 12:00" in output
    assert "▁▁█" in output
    assert "commit 0202020 to 0303030" in output
    assert "2 points over 5 runs, 1 with a step (--all lists every point)" in output
    assert "level:" not in output


def test_all_lists_the_points_without_a_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "history", "runs", "--all") == 0
    output = capsys.readouterr().out
    assert output.index("synthetic_torch:") < output.index("level:")
    assert "--all" not in output


def test_many_runs_take_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(folder / "many", [100.0] * 16 + [130.0] * 15)
    assert call(monkeypatch, "history", "many") == 0
    assert f" {8 * '▁'}{8 * '█'} " in capsys.readouterr().out


def test_kernel_and_effect_choose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "history", "runs", "--kernel", "level") == 0
    assert "1 point over 5 runs, 0 with a step" in capsys.readouterr().out
    assert call(monkeypatch, "history", "runs", "--where", "batch == 7") == 0
    assert "1 point over 5 runs, 0 with a step" in capsys.readouterr().out
    assert call(monkeypatch, "history", "runs", "--min-effect", "0.5") == 0
    assert "0 with a step" in capsys.readouterr().out


def test_json_has_every_reading_and_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "history", "runs", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    first, second = plain["series"]
    assert (first["kernel"], len(first["readings"]), [step["index"] for step in first["steps"]]) == (
        "synthetic_torch",
        3,
        [2],
    )
    assert first["steps"][0]["run"] == "runs/run-02"
    assert first["steps"][0]["ratio_low"] < 1.3 < first["steps"][0]["ratio_high"]
    assert second["steps"] == []


def test_the_projects_runs_are_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mlabench.toml").write_text('runs = "runs"\n')
    assert call(monkeypatch, "history", "--plot", "history.png") == 0
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")
    assert "drew history.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["absent"], 2, "there is no folder absent"),
        (["runs/run-00"], 6, "no point was measured in two comparable sweeps of the 1 under runs/run-00"),
        (["runs", "--kernel", "other"], 2, "holds kernel 'other'"),
        (["runs", "--where", "batch == 6"], 2, "--where 'batch == 6' keeps no case of the runs under runs"),
        (["runs", "--plot", "history.pdf"], 2, "name it history.png or history.svg"),
        (["runs", "--min-effect", "-1"], 2, "--min-effect -1.0 must be at least 0 and below 1"),
        (["runs", "--min-effect", "5"], 2, "--min-effect 5.0 must be at least 0 and below 1: write 0.05 for 5%"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    arguments: list[str],
    code: int,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "history", *arguments) == code
    errors = capsys.readouterr().err
    assert complaint in errors
    assert errors.count("\n") == 1
