"""A summary in Markdown, as a CI job shows it beside its log."""

import re
from collections.abc import Sequence

from mlabench.errors import UsageError
from mlabench.units import format_latency, format_percent
from mlabench.verdict.comparison import Comparison
from mlabench.verdict.outputs.rows import note, plain, refused, remark, subject, tally, times, worst_first, worth_a_row
from mlabench.verdict.point import Point

MOST_ROWS = 50
"""Points in the table; the rest are counted. GitHub takes 1 MiB a step, and a reader less."""

MOST_WARNINGS = 20

_HEADER = ("verdict", "kernel", "case", "before", "now", "ratio [90%]", "note")
_RULE = (":--", ":--", ":--", "--:", "--:", "--:", ":--")
_MARKUP = re.compile(r"[\\`*|<>\[\]~&]|_(?![A-Za-z0-9])|(?<![A-Za-z0-9])_")


def render(result: Comparison) -> str:
    """The outcome, the warnings, a table of what moved, the worst first, and the totals."""
    listed = worst_first(worth_a_row(result))
    shown, left = listed[:MOST_ROWS], listed[MOST_ROWS:]
    keys = {point.key for point in listed}
    quiet = [point for point in result.points if point.key not in keys]
    blocks = [
        f"### {escaped(result.summary)}",
        _sides(result),
        _list((*result.warnings, *filter(None, (remark(quiet),)))),
        _table(shown) if shown else "",
        f"{len(left)} more: {tally(left)}." if left else "",
        f"Not listed: {tally(quiet)}." if quiet else "",
        "\n".join(f"- {escaped(line)}" for line in result.totals),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n\n"


def refusal(error: UsageError) -> str:
    """The heading of a gate that judged nothing, with the reason."""
    return f"### {escaped(refused(error))}\n\n"


def _sides(result: Comparison) -> str:
    against = ", ".join(map(_code, result.baselines))
    least = f"{format_percent(result.settings.min_effect, 1)} and {format_latency(result.settings.min_effect_us)}"
    return f"{_code(result.current)} against {against}; changes under {least} do not count."


def _list(warnings: Sequence[str]) -> str:
    lines = [f"- warning: {escaped(warning)}" for warning in warnings[:MOST_WARNINGS]]
    left = len(warnings) - len(lines)
    return "\n".join([*lines, f"- {left} more warnings"] if left else lines)


def _table(points: Sequence[Point]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (_HEADER, _RULE, *map(_cells, points)))


def _cells(point: Point) -> tuple[str, ...]:
    return (
        f"**{point.verdict.value}**",
        _code(subject(point)),
        escaped(point.label),
        *map(escaped, times(point)),
        escaped(note(point)),
    )


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\g<0>", plain(text))


def _code(text: str) -> str:
    """As code; a pipe would end a table's cell even there."""
    return f"`{plain(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
