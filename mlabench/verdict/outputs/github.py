"""Annotations in the form that GitHub Actions reads from a step's output."""

from collections.abc import Sequence

from mlabench.errors import ExitCode, UsageError
from mlabench.verdict.gate import UNCLEAR, GateResult
from mlabench.verdict.outputs.rows import note, passes, plain, remark, subject, tally, times, worst_first
from mlabench.verdict.point import Point, Verdict

MOST_A_LEVEL = 10
"""Errors, warnings and notices that GitHub shows of one step, of each."""

TITLE = "mlabench gate"

_NOTICED = (Verdict.FASTER, Verdict.NEW, Verdict.MISSING)
_OUTCOME_LEVELS = {ExitCode.PASS: "notice", ExitCode.INCONCLUSIVE: "warning"}


def render(result: GateResult) -> str:
    """The outcome, then the points: errors fail the gate, warnings leave it unclear, notices are worth knowing.

    The worst of each level come first; where they are too many for GitHub, the last says how many more there are. Of a
    gate that passes no point has a line, and what warnings they carry is one.
    """
    counted = [remark(result.points)] if passes(result) else []
    outcome = _OUTCOME_LEVELS.get(result.exit_code, "error")
    levels: dict[str, list[Point]] = {"error": [], "warning": [], "notice": []}
    for point in () if passes(result) else worst_first(result.points):
        if level := _level(result, point):
            levels[level].append(point)
    lines = []
    for level, points in levels.items():
        first = [annotation(level, TITLE, result.summary)] if level == outcome else []
        remarks = [*result.warnings, *filter(None, counted)] if level == "warning" else ()
        lines += [*first, *_bounded(level, remarks, points, MOST_A_LEVEL - len(first))]
    return "".join(f"{line}\n" for line in lines)


def annotation(level: str, title: str, message: str) -> str:
    """One workflow command; `level` is error, warning or notice."""
    escaped = _escape(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={escaped}::{_escape(message)}"


def refusal(error: UsageError) -> str:
    """The annotation of a gate that judged nothing."""
    return f"{annotation('error', TITLE, plain(str(error)))}\n"


def _level(result: GateResult, point: Point) -> str | None:
    if result.fails(point):
        return "error"
    if point.verdict in UNCLEAR or point.warnings:
        return "warning"
    return "notice" if point.verdict in _NOTICED else None


def _bounded(level: str, remarks: Sequence[str], points: Sequence[Point], most: int) -> list[str]:
    lines = [annotation(level, TITLE, plain(remark)) for remark in remarks] + [_point(level, p) for p in points]
    if len(lines) <= most:
        return lines
    left = points[max(0, most - 1 - len(remarks)) :]
    unseen = len(remarks) - (most - 1)
    others = [f"{unseen} warnings about whole runs"] if unseen > 0 else []
    message = ", ".join(filter(None, (*others, tally(left)))) + "; the log has them all"
    return [*lines[: most - 1], annotation(level, f"{TITLE}: {len(lines) - most + 1} more", message)]


def _point(level: str, point: Point) -> str:
    before, now, ratio = times(point)
    measured = f"{ratio}, {before} before and {now} now" if point.ratio else ""
    message = "; ".join(filter(None, (plain(point.label), measured, note(point))))
    return annotation(level, f"{point.verdict.value}: {subject(point)}", message)


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
