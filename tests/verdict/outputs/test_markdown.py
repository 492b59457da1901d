import re
from dataclasses import replace

import pytest

from mlabench.verdict.comparison import Comparison, settings_of
from mlabench.verdict.noise import NOISE
from mlabench.verdict.outputs.markdown import MOST_ROWS, MOST_WARNINGS, render
from mlabench.verdict.point import Verdict
from tests.verdict.outputs.results import judged, point


def rows(text: str) -> list[list[str]]:
    """The table's cells, without its header; an escaped pipe is no border."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]


def test_the_outcome_comes_first_and_then_what_moved() -> None:
    points = [point(Verdict.SAME), point(Verdict.SLOWER, 1.2, "a"), point(Verdict.SLOWER, 2.0, "b")]
    text = render(judged(points, warnings=["now is compared with itself"]))
    assert text.startswith(
        "### gate: FAIL (1): 2 of 3 points slower\n\n`runs/now` against `baselines/a`, `baselines/b`"
    )
    assert "changes under 5.0% and 1 us do not count" in text
    assert "- warning: now is compared with itself" in text
    assert [cells[2].strip() for cells in rows(text)] == ["MLA b kv_len 4096", "MLA a kv_len 4096"]
    assert [cell.strip() for cell in rows(text)[0]][3:6] == ["100 us", "200 us", r"2.000x \[1.967, 2.033\]"]
    assert "Not listed: 1 the same." in text


def test_nothing_moved_is_a_summary_without_a_table() -> None:
    text = render(judged([point(Verdict.SAME)]))
    assert text.startswith("### gate: PASS (0)")
    assert rows(text) == []


def test_a_large_result_is_bounded_and_the_rest_is_counted() -> None:
    long = "word " * 10_000
    slow = [point(Verdict.SLOWER, 2 + step, str(step), reason=long) for step in range(3000)]
    text = render(judged([*slow, point(Verdict.FASTER, 0.5)], warnings=[long] * 100))
    assert len(rows(text)) == MOST_ROWS
    assert len(text.encode()) < 100_000
    assert f"{3001 - MOST_ROWS} more: {3000 - MOST_ROWS} slower, 1 faster." in text
    assert f"- {100 - MOST_WARNINGS} more warnings" in text


@pytest.mark.parametrize("odd", ["a | b", "a\nb", "<script>", "`x` *y* _z_ [l](u)", "back\\slash", "&amp;"])
def test_text_cannot_break_the_table_or_become_markup(odd: str) -> None:
    text = render(judged([point(Verdict.SLOWER, 2.0, reason=odd)]))
    (cells,) = rows(text)
    assert len(cells) == 7
    bare = re.sub(r"\\[^A-Za-z0-9\s]", "", cells[-1])
    assert not re.search(r"[|<>`*\[\]\\&]|\b_|_\b", bare)
    assert re.sub(r"\\([^A-Za-z0-9\s])", r"\1", cells[-1]).strip() == " ".join(odd.split())


def test_a_comparison_that_judges_nothing_reads_the_same_way() -> None:
    result = Comparison("now", ("before",), settings_of(NOISE["cuda"]), (point(Verdict.SLOWER, 2.0),))
    assert render(result).startswith("### compare: 1 point: 1 slower\n")


def test_a_kernels_name_cannot_break_the_table() -> None:
    odd = replace(point(Verdict.SLOWER, 2.0), key=("id", "a|b`c", "graph"))
    (cells,) = rows(render(judged([odd])))
    assert len(cells) == 7
    assert cells[1].strip() == r"`a\|b'c (graph)`"
