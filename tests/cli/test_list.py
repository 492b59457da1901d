"""`mlabench list`: tables, JSON with raw values, runs, and names that are near."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlabench.cli.list import LISTINGS
from mlabench.measure.kernels import Kernel
from tests.cli.commands import call
from tests.cli.joined import install_kernels
from tests.history.runs import write_runs


def listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[Any]:
    assert call(monkeypatch, "list", *arguments, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert isinstance(rows, list)
    return rows


def test_json_has_raw_values(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = [row for row in listed(monkeypatch, capsys, "models") if row["model"] == "deepseek-v3"]
    assert (model["kv_cache_bytes_per_token_per_layer"], model["num_attention_layers"]) == (1152, 61)
    (gpu,) = [row for row in listed(monkeypatch, capsys, "gpus") if row["gpu"] == "h200-sxm"]
    assert gpu["memory_bytes_per_s"] == 4.8e12
    (axis,) = [row for row in listed(monkeypatch, capsys, "axes") if row["axis"] == "variant"]
    assert axis == {"axis": "variant", "values": ["mha", "gqa", "mqa", "mla"], "default": "mla"}
    kernels = {row["kernel"]: row for row in listed(monkeypatch, capsys, "kernels")}
    assert kernels["mla_decode_torch"]["devices"] == ["cuda", "cpu"]
    assert not kernels["mla_decode_flash_mla"]["by_default"]


def test_entry_points_that_give_no_kernel_or_no_function_are_listed_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = Kernel(name="aimless", backend="own", contract="grouped", target="nowhere:bind", devices=("cpu",))
    install_kernels(tmp_path, monkeypatch, aimless=kernel, broken=None)
    rows = {row["kernel"]: row for row in listed(monkeypatch, capsys, "kernels")}
    assert rows["aimless"]["missing"].startswith("its target nowhere:bind does not load: No module named 'nowhere'")
    assert rows["broken"]["missing"] == "entry point broken (joined:broken) is no mlabench.measure.kernels.Kernel"
    assert {value for name, value in rows["broken"].items() if name not in ("kernel", "missing")} == {None}
    assert rows["mla_decode_torch"]["missing"] == ""
    assert call(monkeypatch, "list", "kernels") == 0
    assert "is no mlabench.measure.kernels.Kernel" in " ".join(capsys.readouterr().out.split())


def test_runs_are_listed_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "results" / "runs", [1.0, 1.0])
    write_runs(tmp_path / "kept", [1.0], first_day=7)
    assert [row["path"] for row in listed(monkeypatch, capsys, "runs")] == [
        "results/runs/run-01",
        "results/runs/run-00",
    ]
    assert call(monkeypatch, "list", "runs", "kept") == 0
    output = capsys.readouterr().out
    assert "kept/run-00" in output
    assert "2026-01-07 12:00" in output
    assert "Synthetic H200" in output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["runz"], "there is no list of 'runz': did you mean runs?"),
        (["kernels", "results"], "leave results away"),
        (["runs", "absent"], "there is no folder absent"),
        (["runs", "."], "there is no run in ."),
    ],
)
def test_what_cannot_be_listed_is_one_line(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "list", *arguments) == 2
    errors = capsys.readouterr().err
    assert complaint in errors
    assert errors.count("\n") == 1


def test_help_names_every_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "list", "--help")
    output = capsys.readouterr().out
    assert all(name in output for name in LISTINGS)
