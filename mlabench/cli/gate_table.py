"""A comparison on the terminal: what moved, and the outcome in the last line."""

from collections.abc import Sequence

from mlabench.cli.show import console
from mlabench.errors import ExitCode
from mlabench.verdict.comparison import Comparison
from mlabench.verdict.gate import GateResult
from mlabench.verdict.outputs.rows import (
    by_name,
    note,
    passes,
    plain,
    remark,
    subject,
    tally,
    times,
    worst_first,
    worth_a_row,
)
from mlabench.verdict.point import Point

MOST_OF_A_PASS = 10
"""Faster points that a gate lists if it passes: there is nothing to mend."""

_STYLES = {ExitCode.PASS: "green", ExitCode.INCONCLUSIVE: "yellow"}


def print_result(result: Comparison, show_all: bool, sort: str = "ratio") -> None:
    """Print what moved, the worst first or by name, and the outcome in the last line.

    A result with totals is printed whole and in its own order, with those after the table.
    """
    # Why there is nothing to see is then what there is to see.
    show_all = show_all or bool(result.totals) or result.exit_code is ExitCode.NOTHING_MEASURED
    for warning in result.warnings:
        _line(f"warning: {plain(warning)}", "yellow")
    listed = list(result.points) if show_all else worth_a_row(result)
    if passes(result) and not show_all:
        # The last of a verdict are those that gained most.
        listed = worst_first(listed)[-MOST_OF_A_PASS:]
    if listed:
        order = list if result.totals else by_name if sort == "name" else worst_first
        _print_table(order(listed))
    for line in result.totals:
        _line(line)
    shown = {point.key for point in listed}
    if quiet := [point for point in result.points if point.key not in shown]:
        _line(f"{tally(quiet)} (--all lists every point)")
        if told := remark(quiet):
            _line(f"warning: {told}", "yellow")
    if result.baselines:
        _line(plain(f"{result.current} against {', '.join(result.baselines)}"))
    code = result.exit_code
    if not isinstance(result, GateResult):
        _line(result.summary, "bold")
        return
    if result.hint:
        _line(f"hint: {result.hint}")
    _line(result.summary, f"bold {_STYLES.get(code, 'red')}")


def _line(text: str, style: str | None = None) -> None:
    console().print(text, style=style, markup=False)


def _print_table(points: Sequence[Point]) -> None:
    """Never narrower than its numbers and its longest word, so that a narrow screen breaks none of them."""
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(point) for point in points]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, header in enumerate(("verdict", "baseline", "current", "ratio [90%]")):
        width = max(len(text) for text in (header, *(row[column] for row in rows)))
        table.add_column(header, justify="right" if column else "left", no_wrap=True, min_width=width)
    table.add_column("point", min_width=max(len(word) for row in rows for word in row[-1].split()))
    for row in rows:
        table.add_row(*map(Text, row))
    screen = console()
    screen.width = max(screen.width, Measurement.get(screen, screen.options.update(max_width=10_000), table).minimum)
    screen.print(table)


def _cells(point: Point) -> tuple[str, ...]:
    notes = note(point)
    where = f"{subject(point)}: {plain(point.label)}" + (f" - {notes}" if notes else "")
    return (point.verdict.value, *times(point), where)
