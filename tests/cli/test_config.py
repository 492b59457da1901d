"""`mlabench config`: every setting with its value and where that comes from."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlabench.cli.project import SETTINGS
from tests.cli.commands import call


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert call(monkeypatch, "config", "--json", *arguments) == 0
    plain = json.loads(capsys.readouterr().out)
    return {row["setting"]: (row["value"], row["from"]) for row in plain["settings"]}


def test_without_a_file_all_is_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(monkeypatch, capsys) == dict.fromkeys(SETTINGS, (None, "default"))
    assert call(monkeypatch, "config") == 0
    output = capsys.readouterr().out
    assert "results/runs" in output
    assert f"no mlabench.toml, and no [tool.mlabench] in a pyproject.toml, in {folder}" in output


def test_each_value_says_where_it_comes_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mlabench.toml").write_text('device = "cpu"\nkernel = "torch"\nruns = "measured"\n')
    found = told(monkeypatch, capsys, "--kernel", "triton", "--kernel", "gluon")
    assert found["device"] == ("cpu", "mlabench.toml, line 1")
    assert found["kernel"] == (["triton", "gluon"], "option")
    assert found["runs"] == ("measured", "mlabench.toml, line 3")
    assert found["cache"] == (None, "default")


def test_a_sweeps_file_takes_the_place_of_what_a_sweep_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mlabench.toml").write_text('device = "cpu"\nkernel = "torch"\nruns = "measured"\n')
    (folder / "sweep.toml").write_text('kernel = ["triton"]\n[axes]\nbatch = 1\n')
    found = told(monkeypatch, capsys, "--config", "sweep.toml", "--timeout-s", "5")
    assert found["kernel"] == (["triton"], "sweep.toml")
    assert found["device"] == (None, "default")
    assert found["timeout_s"] == (5.0, "option")
    assert found["runs"] == ("measured", "mlabench.toml, line 3")


def test_a_wrong_key_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mlabench.toml").write_text('kernels = "torch"\n')
    assert call(monkeypatch, "config") == 2
    errors = capsys.readouterr().err
    assert errors.startswith("mlabench: error: mlabench.toml, line 1: unknown key 'kernels': did you mean kernel")
    assert errors.count("\n") == 1
