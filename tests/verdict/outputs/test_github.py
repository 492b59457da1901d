import re
from collections import Counter

import pytest

from mlabench.errors import UsageError
from mlabench.verdict.outputs.github import MOST_A_LEVEL, annotation, refusal, render
from mlabench.verdict.point import Verdict
from tests.verdict.outputs.results import judged, point

COMMAND = re.compile(r"::(error|warning|notice) title=([^:,\r\n]*)::([^\r\n]*)")
"""As the runner reads a line: a command, its properties up to the next `::`, and the message."""


def read(text: str) -> list[tuple[str, str, str]]:
    lines = text.splitlines()
    found = [match.groups() for line in lines if (match := COMMAND.fullmatch(line))]
    assert len(found) == len(lines)

    def plain(escaped: str) -> str:
        for code, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            escaped = escaped.replace(code, character)
        return escaped

    return [(level, plain(title), plain(message)) for level, title, message in found]


def test_the_outcome_and_each_level_of_point() -> None:
    points = [
        point(Verdict.FASTER, 0.5, "d"),
        point(Verdict.INCONCLUSIVE, 1.05, "c", reason="the noise allows both"),
        point(Verdict.SLOWER, 2.0, "b"),
        point(Verdict.INCORRECT, name="a", reason="40%, off"),
        point(Verdict.SAME, warnings=("clocks were held down now",)),
        point(Verdict.SAME),
    ]
    assert read(render(judged(points, warnings=["cut short"]))) == [
        ("error", "mlabench gate", "gate: FAIL (5): 1 of 6 points incorrect, 1 slower"),
        ("error", "incorrect: mla_decode_triton (graph)", "MLA a kv_len 4096; 40%, off"),
        (
            "error",
            "slower: mla_decode_triton (graph)",
            "MLA b kv_len 4096; 2.000x [1.967, 2.033], 100 us before and 200 us now",
        ),
        ("warning", "mlabench gate", "cut short"),
        (
            "warning",
            "inconclusive: mla_decode_triton (graph)",
            "MLA c kv_len 4096; 1.050x [1.033, 1.067], 100 us before and 105 us now; the noise allows both",
        ),
        (
            "warning",
            "same: mla_decode_triton (graph)",
            "MLA case kv_len 4096; 1.000x [0.984, 1.017], 100 us before and 100 us now; clocks were held down now",
        ),
        (
            "notice",
            "faster: mla_decode_triton (graph)",
            "MLA d kv_len 4096; 0.500x [0.492, 0.508], 100 us before and 50 us now",
        ),
    ]


@pytest.mark.parametrize(
    ("points", "level"),
    [
        ([point(Verdict.SAME)], "notice"),
        ([point(Verdict.INCONCLUSIVE)], "warning"),
        ([point(Verdict.SLOWER, 2.0)], "error"),
        ([], "error"),
    ],
)
def test_the_outcome_has_the_level_of_its_exit_code(points: list, level: str) -> None:
    result = judged(points)
    assert read(render(result))[0] == (level, "mlabench gate", result.summary)


def test_a_missing_point_that_is_allowed_is_a_notice() -> None:
    points = [point(Verdict.MISSING), point(Verdict.INVALID)]
    assert [level for level, *_ in read(render(judged(points)))] == ["error", "error", "warning"]
    assert [level for level, *_ in read(render(judged(points, allow_missing=True)))] == ["warning", "warning", "notice"]


def test_a_gate_that_passes_says_so_in_a_line_and_its_warnings_in_another() -> None:
    held, hidden = "clocks were held down now", "a higher clock hides it"
    warned = [point(Verdict.SAME, warnings=(held,)), point(Verdict.SAME, warnings=(hidden, held))]
    result = judged([*[point(Verdict.FASTER, 0.5)] * 20, *[point(Verdict.NEW)] * 20, *warned], warnings=["cut short"])
    assert read(render(result)) == [
        ("warning", "mlabench gate", "cut short"),
        ("warning", "mlabench gate", f"2 points with warnings, most often: {held}"),
        ("notice", "mlabench gate", result.summary),
    ]


@pytest.mark.parametrize("extra", [0, 1, 30])
def test_each_level_stays_within_what_github_shows(extra: int) -> None:
    slow = [point(Verdict.SLOWER, 2 + step, str(step)) for step in range(MOST_A_LEVEL - 1 + extra)]
    unclear = [point(Verdict.INVALID, name=str(step)) for step in range(MOST_A_LEVEL + extra)]
    found = read(render(judged([*slow, *unclear, *[point(Verdict.NEW)] * 12])))
    assert Counter(level for level, *_ in found) == {"error": 10, "warning": 10, "notice": 10}
    errors, warnings, notices = (
        [each for each in found if each[0] == level] for level in ("error", "warning", "notice")
    )
    assert notices[-1][1:] == ("mlabench gate: 3 more", "3 new; the log has them all")
    if extra:
        assert errors[-1][1:] == (f"mlabench gate: {extra + 1} more", f"{extra + 1} slower; the log has them all")
        assert warnings[-1][1] == f"mlabench gate: {extra + 1} more"
        assert errors[1][2].startswith(f"MLA {len(slow) - 1} kv_len")
    else:
        assert "more" not in errors[-1][1] + warnings[-1][1]


def test_many_warnings_about_runs_are_counted_too() -> None:
    points = [point(Verdict.SAME), *[point(Verdict.INVALID)] * 3]
    found = [each for each in read(render(judged(points, warnings=["odd"] * 12))) if each[0] == "warning"]
    assert len(found) == MOST_A_LEVEL
    assert found[-1][1:] == (
        "mlabench gate: 7 more",
        "4 warnings about whole runs, 3 not comparable; the log has them all",
    )


def test_what_would_end_a_command_is_escaped() -> None:
    assert annotation("error", "a: b, 5%\n", "100%\r\n::error::") == (
        "::error title=a%3A b%2C 5%25%0A::100%25%0D%0A::error::"
    )
    assert refusal(UsageError("no\nbaseline")) == "::error title=mlabench gate::no baseline\n"
