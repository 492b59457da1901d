import pytest

from mlabench.verdict.outputs.rows import by_name, is_notable, note, plain, remark, tally, worst_first, worth_a_row
from mlabench.verdict.point import Change, Verdict
from tests.verdict.outputs.results import judged, point


def test_the_worst_come_first_by_verdict_and_then_by_ratio() -> None:
    points = [
        point(Verdict.FASTER, 0.5),
        point(Verdict.SLOWER, 1.2, "a"),
        point(Verdict.SLOWER, 1.5, "b"),
        point(Verdict.LOST),
    ]
    assert [points.index(each) for each in worst_first(points)] == [3, 2, 1, 0]
    assert [each.label for each in by_name(points[1:3][::-1])] == ["MLA a kv_len 4096", "MLA b kv_len 4096"]
    assert tally(points) == "1 no longer measured, 2 slower, 1 faster"


def test_what_did_not_move_is_notable_only_with_a_warning() -> None:
    assert not is_notable(point(Verdict.SAME))
    assert is_notable(point(Verdict.SAME, warnings=("clocks were held down now",)))
    assert is_notable(point(Verdict.NEW))


def test_a_note_joins_reason_changes_and_warnings() -> None:
    changed = point(Verdict.CHANGED, reason="why", changes=(Change("flops", 1000, 2000),), warnings=("odd",))
    assert note(changed) == "why; flops 1,000 is now 2,000; odd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two\r\nlines\tand more", "two lines and more"),
        ("\x1b[31mred\x00\x07", "[31mred"),
        ("\ud800 surrogate \ufffe", "surrogate"),
        ("naïve → 3 µs", "naïve → 3 µs"),
        ("x" * 600, "x" * 497 + "..."),
    ],
)
def test_text_becomes_one_printable_line(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_of_a_gate_that_passes_only_what_is_faster_has_a_row() -> None:
    noted = [point(Verdict.SAME, warnings=("odd",)), point(Verdict.NEW), point(Verdict.FASTER, 0.5)]
    assert worth_a_row(judged(noted)) == noted[2:]
    assert worth_a_row(judged([*noted, point(Verdict.SAME), point(Verdict.INVALID)])) == [
        *noted,
        point(Verdict.INVALID),
    ]


def test_warnings_are_counted_by_point() -> None:
    assert remark([point(Verdict.SAME)]) == ""
    assert (
        remark([point(Verdict.SAME), point(Verdict.SAME, warnings=("odd",))])
        == "1 point with warnings, all of them: odd"
    )
