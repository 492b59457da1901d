"""The options of `mlabench report`: what is drawn, of which cases, as what."""

import re
import shlex
from pathlib import Path

import pytest

from mlabench.cli.report import NAMES
from mlabench.report.names import FIGURE_NAMES
from mlabench.report.write import FORMATS, MOST_VIEWS
from tests.cli.commands import call
from tests.factories import make_case, make_record, make_run, make_sweep, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    records = make_sweep(variant=("mha", "mla"), form=("absorbed",), batch=(1, 8), kv_len=(1024, 4096))
    return write_run(tmp_path / "first", make_run(None, records))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_help_names_every_figure_and_format(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(NAMES) == set(FIGURE_NAMES)
    assert call(monkeypatch, "report", "--help") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"Draw these alone, with commas: {', '.join(NAMES)}." in told
    assert set(FORMATS) <= set(re.findall(r"\w+", told))


def test_only_the_figures_asked_for_are_drawn(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    given = ("--format", "html,png,md", "--figures", "roofline, latency")
    assert call(monkeypatch, "report", str(run), "-o", str(out), *given) == 0
    assert names(out) == {"report.html", "report.md", "latency.png", "roofline.png"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert 'id="view0-roofline"' in page
    assert 'id="view0-speedup"' not in page


def test_a_figure_that_is_none_is_answered_with_the_near_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "report", str(run), "-o", str(tmp_path / "out"), "--figures", "rooflin") == 2
    assert "there is no figure 'rooflin': did you mean roofline?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_the_cases_asked_for_are_shown(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    where = "batch == 8 and variant == 'mla'"
    assert call(monkeypatch, "report", str(run), "-o", str(out), "--format", "md", "--where", where) == 0
    told = (out / "report.md").read_text(encoding="utf-8")
    assert "- points: 2 measured of 2 records in first" in told
    assert "MHA" not in told


def test_cases_that_are_not_there_are_one_clear_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "report", str(run), "--where", "batch == 3") == 2
    assert "--where 'batch == 3' leaves none of the 8 cases" in capsys.readouterr().err


def test_two_runs_of_the_same_points_say_what_moved(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = make_sweep(variant=("mla",), form=("absorbed",), batch=(1, 8), kv_len=(1024, 4096))
    later = write_run(tmp_path / "later", make_run(None, records))
    out = tmp_path / "out"
    assert call(monkeypatch, "report", str(run), str(later), "-o", str(out), "--format", "html,png,svg") == 0
    assert {"moved.png", "moved.svg"} <= names(out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "What moved: later against first" in page
    assert "4 points timed in both: 4 same." in page


def test_of_three_runs_each_comparison_has_a_picture_of_its_own(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = make_sweep(variant=("mla",), form=("absorbed",), batch=(1,), kv_len=(1024, 4096))
    later = [str(write_run(tmp_path / name, make_run(None, records))) for name in ("second", "third")]
    out = tmp_path / "out"
    assert call(monkeypatch, "report", str(run), *later, "-o", str(out), "--format", "png", "--figures", "moved") == 0
    assert names(out) == {"moved-1.png", "moved-2.png"}


def test_the_command_told_for_what_is_not_drawn_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    views = [(dtype, phase) for dtype in ("bfloat16", "float16", "float32") for phase in ("decode", "prefill")]
    records = [
        make_record(make_case(dtype=dtype, phase=phase, kv_len=kv_len))
        for place, (dtype, phase) in enumerate(views)
        for kv_len in range(1024, 1024 * (8 - place), 1024)
    ]
    path = write_run(tmp_path / "a run", make_run(None, records))
    assert call(monkeypatch, "report", str(path), "-o", str(tmp_path / "all"), "--format", "md") == 0
    told = (tmp_path / "all" / "report.md").read_text(encoding="utf-8")
    left_out = [line for line in told.splitlines() if line.startswith("- Not drawn")]
    assert len(left_out) == len(views) - MOST_VIEWS
    command = shlex.split(left_out[-1].partition("To draw it: ")[2])
    assert command[:2] == ["mlabench", "report"]
    assert call(monkeypatch, *command[1:], "-o", str(tmp_path / "one"), "--format", "png") == 0
    assert {"latency.png", "roofline.png"} <= names(tmp_path / "one")
    capsys.readouterr()
