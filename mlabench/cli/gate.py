"""`mlabench gate`: hold a run against a stored baseline and answer with an exit code."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mlabench.cli.show import console
from mlabench.errors import ExitCode, UsageError
from mlabench.records.store import newest_run
from mlabench.units import format_exact, format_latency, format_ratio_interval
from mlabench.verdict.compare import Point, Verdict
from mlabench.verdict.gate import WORDS, GateResult, run_gate
from mlabench.verdict.noise import NOISE

_QUIET = frozenset({Verdict.SAME, Verdict.NOT_SLOWER, Verdict.UNMEASURED})
_STYLES = {ExitCode.PASS: "green", ExitCode.INCONCLUSIVE: "yellow"}
_DEFAULT_EFFECTS = ", ".join(f"{noise.min_effect} on {device}" for device, noise in NOISE.items())
_HINTS = {
    ExitCode.REGRESSION: "if the change is meant, store the current run as the new baseline",
    ExitCode.INCONCLUSIVE: "sweep again with a longer --sampling-s, or give three or more runs as --baseline",
    ExitCode.NOTHING_MEASURED: "sweep the baseline's cases with its kernels and method",
}


def gate(
    current: Annotated[
        Path | None, typer.Argument(help="The run directory to judge.", show_default="newest in results/runs")
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            "--baseline",
            "-b",
            help="A run to compare with; repeat it for several.",
            show_default="the one under results/baselines/DEVICE",
        ),
    ] = None,
    min_effect: Annotated[
        float | None,
        typer.Option(help="Least change of a time that counts, as a fraction.", show_default=_DEFAULT_EFFECTS),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Only report the baseline's points that the run does not hold.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Also list the points that did not change.")] = False,
    json_path: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write every point as JSON; - is standard output.")
    ] = None,
) -> None:
    """Fail if a run is slower than its baseline, wrong, or cannot be judged.

    Exit codes: 0 pass; 1 regression (slower, missing, no longer measured, or an exact count changed); 2 usage error;
    3 inconclusive, or a kernel without a baseline fails; 4 baseline missing, or of another machine, software or method;
    5 a kernel is incorrect; 6 nothing was measured. Where several apply, the first of 2, 4, 5, 6, 1, 3, 0.

    Example: mlabench gate results/runs/today --baseline results/baselines/nvidia-h200/decode
    """
    result = run_gate(current or newest_run(), baseline or (), min_effect, allow_missing)
    if json_path is not None:
        _write_json(result, json_path)
    if json_path == "-":
        print(result.summary, file=sys.stderr)
    else:
        _print(result, show_all)
    raise typer.Exit(result.exit_code.value)


def _write_json(result: GateResult, target: str) -> None:
    text = json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {target}: {error.strerror or error}; choose another --json") from None


def _print(result: GateResult, show_all: bool) -> None:
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
