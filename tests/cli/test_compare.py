import json
from pathlib import Path
from typing import Any

import pytest

from mlabench.records.record import Record
from tests.cli.commands import call
from tests.factories import make_case, make_record, make_run, write_run

FACTORS = {"a_kernel": 1.2, "b_kernel": 1.0, "c_kernel": 2.0}


def records(factors: dict[str, float], **fields: Any) -> list[Record]:
    return [make_record(make_case(), kernel, 200 * factor, **fields) for kernel, factor in factors.items()]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    before = write_run(tmp_path / "before", make_run(None, records(dict.fromkeys(FACTORS, 1.0))))
    return str(before), str(write_run(tmp_path / "now", make_run(None, records(FACTORS))))


def kernels(output: str) -> list[str]:
    """The kernel of each row of the table, from the top."""
    return [word for line in output.splitlines() for word in line.split() if word in FACTORS]


def test_the_worst_come_first_and_what_did_not_move_is_counted(
    runs: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "compare", *runs) == 0
    output = capsys.readouterr().out
    assert kernels(output) == ["c_kernel", "a_kernel"]
    assert "2.000x [1.972, 2.028]" in output
    assert "1 the same (--all lists every point)" in output
    assert output.rstrip().splitlines()[-1].rstrip() == "compare: 3 points: 2 slower, 1 the same"


@pytest.mark.parametrize(
    ("sort", "order"),
    [("ratio", ["c_kernel", "a_kernel", "b_kernel"]), ("name", ["a_kernel", "b_kernel", "c_kernel"])],
)
def test_all_points_in_either_order(
    runs: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sort: str,
    order: list[str],
) -> None:
    assert call(monkeypatch, "compare", *runs, "--sort", sort, "--all") == 0
    assert kernels(capsys.readouterr().out) == order


def test_json_and_markdown_are_written(
    runs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    markdown = tmp_path / "c.md"
    assert call(monkeypatch, "compare", *runs, "--json", "-", "--markdown", str(markdown)) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["command"] == "compare"
    assert output.err == "compare: 3 points: 2 slower, 1 the same\n"
    assert markdown.read_text().startswith("### compare: 3 points: 2 slower, 1 the same\n")


def test_nothing_compared_and_bad_input_have_their_codes(
    runs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, now = runs
    empty = str(write_run(tmp_path / "empty", make_run(None, [])))
    assert call(monkeypatch, "compare", before, empty) == 6
    assert "compare: nothing was compared: 3 missing" in capsys.readouterr().out
    assert call(monkeypatch, "compare", before, str(tmp_path / "nowhere")) == 2
    assert call(monkeypatch, "compare", before, now, "--sort", "size") == 2
    assert call(monkeypatch, "compare", before, now, "--json", "-", "--markdown", "-") == 2
    assert "not a run directory" in capsys.readouterr().err
