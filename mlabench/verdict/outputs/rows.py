"""What the outputs share: which points are worth a line, in which order, and their texts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mlabench.errors import ExitCode, UsageError
from mlabench.units import format_exact, format_latency, format_ratio_interval
from mlabench.verdict.comparison import WORDS, Comparison, format_points
from mlabench.verdict.gate import GateResult
from mlabench.verdict.point import Point, Verdict

QUIET = frozenset({Verdict.SAME, Verdict.NOT_SLOWER, Verdict.UNMEASURED})
"""Verdicts that are only counted, unless a point carries a warning."""

_ORDER: Mapping[Verdict, int] = {verdict: place for place, verdict in enumerate(Verdict)}


def worst_first(points: Iterable[Point]) -> list[Point]:
    """The points by verdict, and within one by how much slower they are."""
    return sorted(points, key=lambda point: (_ORDER[point.verdict], -point.ratio.value if point.ratio else 0.0))


def by_name(points: Iterable[Point]) -> list[Point]:
    """The points by kernel, case and method."""
    return sorted(points, key=lambda point: (point.key[1], point.label, point.key))


def is_notable(point: Point) -> bool:
    """Whether the point moved, could not be judged, or carries a warning."""
    return bool(point.warnings) or point.verdict not in QUIET


def passes(result: Comparison) -> bool:
    """Whether this is a gate that lets the change through: its points are then counted, and few are listed."""
    return isinstance(result, GateResult) and result.exit_code is ExitCode.PASS


def worth_a_row(result: Comparison) -> list[Point]:
    """The points that moved, could not be judged or carry a warning; of a gate that passes only the faster ones."""
    if passes(result):
        return [point for point in result.points if point.verdict is Verdict.FASTER]
    return [point for point in result.points if is_notable(point)]


def remark(points: Iterable[Point]) -> str:
    """How many points carry warnings, and the commonest of those; empty where none does."""
    warned = [point.warnings for point in points if point.warnings]
    if not warned:
        return ""
    (commonest, _), *others = Counter(warning for each in warned for warning in each).most_common()
    return (
        f"{format_points(len(warned))} with warnings, {'most often' if others else 'all of them'}: {plain(commonest)}"
    )


def tally(points: Sequence[Point]) -> str:
    """How many points have which verdict: `2 slower, 1 new`."""
    verdicts = [point.verdict for point in points]
    return ", ".join(f"{verdicts.count(verdict)} {WORDS[verdict]}" for verdict in Verdict if verdict in verdicts)


def subject(point: Point) -> str:
    """The kernel and how it was timed."""
    _, kernel, method = point.key
    return plain(f"{kernel} ({method})")


def note(point: Point) -> str:
    """Why the verdict, which exact counts changed, and the warnings; may be empty."""
    changes = (f"{c.name} {format_exact(c.baseline)} is now {format_exact(c.current)}" for c in point.changes)
    return plain("; ".join(filter(None, (point.reason, *changes, *point.warnings))))


def refused(error: UsageError) -> str:
    """The line of a gate that judged nothing."""
    return f"gate: REFUSED ({error.exit_code.value}): {plain(str(error))}"


def times(point: Point) -> tuple[str, str, str]:
    """The time before, the time now, and their ratio with its interval, as text."""
    ratio = point.ratio
    if ratio is None:
        return format_latency(None), format_latency(None), ""
    interval = format_ratio_interval(ratio.value, *ratio.interval)
    return format_latency(ratio.baseline_us), format_latency(ratio.current_us), interval


def plain(text: str, most: int = 500) -> str:
    """One line without control characters, cut at `most` characters: a reason may be any exception's message."""
    line = " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
