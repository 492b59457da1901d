"""`mlabench history`: how the points of a folder's runs went over time."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlabench.cli import options
from mlabench.cli.show import warn

if TYPE_CHECKING:
    from mlabench.history.series import Gathered
    from mlabench.history.steps import Trend


MOST_BARS = 30
"""Of a line of all times."""


def history(
    folder: Annotated[
        Path | None, typer.Argument(help="Where the runs lie, at any depth.", show_default="results/runs")
    ] = None,
    kernel: options.Kernels = None,
    where: options.Where = None,
    min_effect: Annotated[
        float | None,
        typer.Option(
            help="Least change of level that counts, as a fraction.",
            show_default="the gate's: 0.05 on cuda, 0.4 on cpu",
        ),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also list the points without a step.")] = False,
    as_json: options.AsJson = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw a panel for each point, as .png or .svg.")
    ] = None,
) -> None:
    """Show how the time of each point went over the runs of a folder, and where its level stepped.

    A point is a case on a kernel. Runs of other machines, timing methods or cache states are never put in one history;
    commits, versions and cards may change within one, and a step names those that changed beside it. A step is a change
    of level by more than --min-effect, tested at the likeliest place, against the noise between runs of unchanged code
    that the gate takes for the kind of device, pooled with what the series itself shows. The level is taken to stay
    between steps. Of the points said to have a step an expected 5% have none. The bars of a point's times span 10% at
    least, so that noise looks flat.

    Exit codes: 0 done, whatever the steps; 2 bad input; 6 no point was measured in two runs.

    Example: mlabench history results/runs --plot history.png
    """
    # Here, so that the help of any command stays quick.
    from mlabench.cli.project import find_project
    from mlabench.errors import NothingMeasuredError, UsageError
    from mlabench.history.export import to_json
    from mlabench.history.series import gather
    from mlabench.history.steps import find_trends
    from mlabench.report.predicted import check_plot_path

    if min_effect is not None and not 0 <= min_effect < 1:
        raise UsageError(f"--min-effect {min_effect} must be at least 0 and below 1: write 0.05 for 5%")
    if plot:
        check_plot_path(plot)
    runs = folder or find_project().runs_folder
    gathered = gather(runs, kernel or (), where or "")
    for warning in gathered.warnings:
        warn(warning)
    if not gathered.series:
        raise NothingMeasuredError(
            f"no point was measured in two comparable sweeps of the {gathered.runs} under {runs}: "
            "a history takes at least two sweeps of one machine, timing method and cache, and no run of ab or gate --ab"
        )
    trends = find_trends(gathered.series, min_effect)
    if as_json:
        print(json.dumps(to_json(runs, gathered, trends), indent=1, allow_nan=False))
    else:
        _print(gathered, trends, show_all)
    if plot:
        from mlabench.history.plot import plot_trends

        plot_trends(trends, plot)
        typer.echo(f"mlabench: drew {plot}", err=True)


def _print(gathered: "Gathered", trends: Sequence["Trend"], show_all: bool) -> None:
    from mlabench.cli.show import print_table
    from mlabench.units import format_exact
    from mlabench.verdict.comparison import format_points

    headers = ("largest step", "first run after it", "runs", "all times", "now", "now/first", "point", "changed there")
    listed = [trend for trend in trends if show_all or trend.steps]
    # Stable, so that within a setting the largest step stays first.
    ordered = sorted(listed, key=lambda trend: trend.series.setting.label)
    for label, of_setting in groupby(ordered, key=lambda trend: trend.series.setting.label):
        print_table(headers, [_cells(trend) for trend in of_setting], label)
    stepped = sum(1 for trend in trends if trend.steps)
    counts = [f"{format_points(len(trends))} over {format_exact(gathered.runs)} runs", f"{stepped} with a step"]
    if gathered.single:
        counts.append(f"{format_exact(gathered.single)} more measured in one run alone")
    print(", ".join(counts) + ("" if show_all or len(listed) == len(trends) else " (--all lists every point)"))


def _thinned(times_us: Sequence[float]) -> list[float]:
    """Medians of neighbours where there are more times than a cell has room for."""
    from statistics import median_low

    together = -(-len(times_us) // MOST_BARS)
    return [median_low(times_us[at : at + together]) for at in range(0, len(times_us), together)]


def _cells(trend: "Trend") -> tuple[str, ...]:
    from mlabench.history.words import tell_changes, tell_doubts, tell_when
    from mlabench.units import NOT_MEASURED, format_latency, format_ratio, format_ratio_interval, format_sparkline

    readings, largest = trend.series.readings, trend.largest_step
    times = format_sparkline(_thinned([reading.latency_us for reading in readings]))
    now = (format_latency(readings[-1].latency_us), format_ratio(trend.change))
    point = f"{trend.series.kernel}: {trend.series.case.label}"
    if largest is None:
        return (NOT_MEASURED, NOT_MEASURED, str(len(readings)), times, *now, point, "")
    more = f" and {len(trend.steps) - 1} more" if len(trend.steps) > 1 else ""
    return (
        format_ratio_interval(largest.ratio, largest.low, largest.high) + more,
        tell_when(trend, largest),
        str(len(readings)),
        times,
        *now,
        point,
        ", ".join([tell_changes(trend, largest), *tell_doubts(trend, largest)]),
    )
