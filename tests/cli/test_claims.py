"""`mlabench claims`: the ledger in each format, without a GPU or torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlabench.claims.ledger import load_ledger
from tests.cli.commands import ROOT, call

BASELINES = "results/baselines/nvidia-h200"
RUNS = [f"{BASELINES}/{name}" for name in ("decode", "decode-sustained", "layer", "layer-sustained", "prefix")]


def test_json_has_a_row_a_claim_with_its_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert call(monkeypatch, "claims", "--check", *RUNS, "--format", "json") == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [claim.id for claim in load_ledger()]
    assert rows["insights.1"]["checks"][0]["value"] == 70272
    assert rows["insights.4"]["verdict"] == "wrong"
    assert all(one["value"] is not None for row in rows.values() for one in row["checks"])


def test_without_a_run_the_table_says_what_waits_for_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "claims") == 0
    out = capsys.readouterr().out
    assert out.count("not checked without a run") == 1 + sum(claim.kind == "measured" for claim in load_ledger())


@pytest.mark.parametrize(
    ("runs", "named"),
    [
        (RUNS[:1], f"--check {RUNS[0]}"),
        (RUNS[:2], f"--check {BASELINES}/{{decode,decode-sustained}}"),
        ([RUNS[0], f"./{RUNS[2]}/../layer"], f"--check {RUNS[0]} --check {RUNS[2]}/../layer"),
    ],
    ids=["one", "of one folder", "of several"],
)
def test_markdown_names_the_runs(
    runs: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert call(monkeypatch, "claims", "--check", *runs, "--format", "md") == 0
    assert f"    mlabench claims {named} --format md\n" in capsys.readouterr().out


def test_a_run_without_the_option_is_one_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    repeated = [word for run in RUNS for word in ("--check", run)]
    outputs = []
    for arguments in (RUNS, ["--check", *RUNS], repeated):
        assert call(monkeypatch, "claims", *arguments, "--format", "json") == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_run_that_is_not_there_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "claims", "--check", str(tmp_path / "none")) == 2
    assert capsys.readouterr().err.startswith("mlabench: error: ")


def test_a_run_that_tells_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "manifest.json").write_bytes((ROOT / RUNS[0] / "manifest.json").read_bytes())
    monkeypatch.chdir(ROOT)
    assert call(monkeypatch, "claims", "--check", RUNS[0], str(empty)) == 0
    assert capsys.readouterr().err == f"mlabench: warning: {empty} tells nothing that a claim takes\n"


def test_arithmetic_loads_no_torch() -> None:
    code = (
        "import sys; from mlabench.claims.judge import judge_all; from mlabench.claims.ledger import load_ledger; "
        "judge_all(load_ledger()); print([name for name in ('torch', 'triton', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
