"""A judged run on the terminal and as JSON."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mlabench.cli.show import console
from mlabench.errors import ExitCode, UsageError
from mlabench.units import format_exact, format_latency, format_ratio_interval
from mlabench.verdict.compare import Point, Verdict
from mlabench.verdict.gate import WORDS, GateResult

_QUIET = frozenset({Verdict.SAME, Verdict.NOT_SLOWER, Verdict.UNMEASURED})
_STYLES = {ExitCode.PASS: "green", ExitCode.INCONCLUSIVE: "yellow"}
_HINTS = {
    ExitCode.REGRESSION: "if the change is meant, store the current run as the new baseline",
    ExitCode.INCONCLUSIVE: "sweep again with a longer --sampling-s, or give three or more runs as --baseline",
    ExitCode.NOTHING_MEASURED: "sweep the baseline's cases with its kernels and method",
}


def write_json(result: GateResult, target: str) -> None:
    """Write every point as JSON to a file, or for `-` to standard output. Raises `UsageError`."""
    text = json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {target}: {error.strerror or error}; choose another --json") from None


def print_result(result: GateResult, show_all: bool) -> None:
    """Print what moved, the worst first, and the outcome in the last line."""
    for warning in result.warnings:
        _line(f"warning: {warning}", "yellow")
    order = list(Verdict)
    listed = [point for point in result.points if show_all or point.warnings or point.verdict not in _QUIET]
    listed.sort(key=lambda point: (order.index(point.verdict), -point.ratio.value if point.ratio else 0.0))
    if listed:
        _print_table(listed)
    quiet = [f"{result.counts[v]} {WORDS[v]}" for v in Verdict if v in _QUIET and v in result.counts]
    if quiet and not show_all:
        _line(f"{', '.join(quiet)} (--all lists every point)")
    code = result.exit_code
    if code in _HINTS:
        _line(f"hint: {_HINTS[code]}")
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
    _, kernel, method = point.key
    ratio = point.ratio
    times = (ratio.baseline_us, ratio.current_us) if ratio else (None, None)
    interval = format_ratio_interval(ratio.value, *ratio.interval) if ratio else ""
    changes = (f"{c.name} {format_exact(c.baseline)} is now {format_exact(c.current)}" for c in point.changes)
    notes = "; ".join(filter(None, (point.reason, *changes, *point.warnings)))
    where = f"{kernel} ({method}): {point.label}" + (f" - {notes}" if notes else "")
    return (point.verdict.value, *map(format_latency, times), interval, where)
