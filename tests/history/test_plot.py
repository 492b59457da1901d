"""The small multiples: a panel a series, the steps written into them."""

from pathlib import Path

import pytest

from mlabench.errors import UsageError
from mlabench.history.plot import MOST_PANELS, plot_trends
from mlabench.history.series import gather
from mlabench.history.steps import find_trends
from tests.factories import CEILINGS, make_case
from tests.history.runs import write_runs


def test_a_panel_names_its_point_and_its_steps(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0, 130.0])
    path = tmp_path / "history.svg"
    plot_trends(find_trends(gather(tmp_path).series), path)
    text = path.read_text()
    for told in ("MLA absorbed (128 heads) batch 1 kv_len 4096", "1.3x", "2026-01-01", "2026-01-03"):
        assert f"<!-- {told}" in text
    assert "from run-02, 2026-01-03 12:00: commit" in text
    assert "Synthetic H200, 700 W, graph, cold cache, synthetic_torch, bfloat16" in text
    assert "hollow" not in text


def test_what_all_panels_share_is_said_once(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0], kernel="one")
    write_runs(tmp_path, [100.0, 100.0], [make_case(dtype="float16")], first_day=5, kernel="other")
    path = tmp_path / "history.svg"
    plot_trends(find_trends(gather(tmp_path).series), path)
    text = path.read_text()
    assert text.count("Synthetic H200") == 1
    for told in ("<!-- one -->", "<!-- other -->", "<!-- bfloat16 -->", "<!-- float16 -->"):
        assert text.count(told) == 1


def test_disturbed_runs_are_hollow_and_said_to_be(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0], throttled=True, run={"ceilings": CEILINGS["cuda"]})
    path = tmp_path / "history.svg"
    plot_trends(find_trends(gather(tmp_path).series), path)
    assert "hollow: disturbed runs" in path.read_text()


def test_the_same_runs_give_the_same_file(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0, 130.0])
    trends = find_trends(gather(tmp_path).series)
    for name in ("one.svg", "two.svg"):
        plot_trends(trends, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_only_as_many_panels_as_are_read_are_drawn(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0], [make_case(batch=batch) for batch in range(1, MOST_PANELS + 3)])
    path = tmp_path / "history.svg"
    plot_trends(find_trends(gather(tmp_path).series), path)
    text = path.read_text()
    assert text.count("<!-- MLA absorbed (128 heads) batch") == MOST_PANELS
    assert f"{MOST_PANELS} of {MOST_PANELS + 2} points" in text


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0])
    with pytest.raises(UsageError, match="cannot write --plot"):
        plot_trends(find_trends(gather(tmp_path).series), tmp_path / "absent" / "history.png")
