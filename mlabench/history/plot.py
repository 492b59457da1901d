"""Small multiples: a panel for each series, its runs in order along x, the levels between its steps drawn through."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from mlabench.errors import UsageError
from mlabench.history.steps import Trend
from mlabench.report.style import RC, STYLES, Style, new_figure
from mlabench.units import format_exact, format_latency, format_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 24
"""More are not read; those with the largest steps are drawn."""

COLUMNS = 3
ROW_INCHES = 2.2
HEAD_INCHES = 0.6
TITLE_WIDTH = 46
LEAST_SPAN = 1.25
"""Of a panel's highest time over its lowest, so that noise does not look like a mountain."""


def plot_trends(trends: Sequence[Trend], path: Path) -> None:
    """Draw the series, the largest steps first, into a .png or .svg. Raises `UsageError` if it cannot be written."""
    from matplotlib import rc_context

    shown = trends[:MOST_PANELS]
    rows = -(-len(shown) // COLUMNS)
    with rc_context({**RC, "font.size": 8, "axes.titlesize": 8}):
        figure = new_figure(HEAD_INCHES + ROW_INCHES * rows, width_inches=11.0)
        panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
        settings = list(dict.fromkeys(trend.series.setting.label for trend in shown))
        for panel, trend in zip(panels, shown, strict=False):
            _draw(panel, trend)
            told = [trend.series.setting.label] if len(settings) > 1 else []
            panel.set_title("\n".join(fill(text, TITLE_WIDTH) for text in (*_names(trend), *told)), loc="left")
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        some = f"{len(shown)} of {format_exact(len(trends))} points" if len(shown) < len(trends) else ""
        figure.suptitle("\n".join(filter(None, (*(settings if len(settings) == 1 else ()), some))))
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise UsageError(f"cannot write --plot {path}: {error.strerror or error}") from None


def _names(trend: Trend) -> tuple[str, str]:
    return trend.series.case.label, trend.series.kernel


def _draw(axes: "Axes", trend: Trend) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    readings, style = trend.series.readings, _style(trend)
    places = range(1, len(readings) + 1)
    middles = [reading.latency_us for reading in readings]
    reach = [
        [reading.latency_us - reading.low_us for reading in readings],
        [reading.high_us - reading.latency_us for reading in readings],
    ]
    axes.errorbar(places, middles, reach, color=style.colour, marker=style.marker, linestyle="", markersize=4)
    _draw_levels(axes, trend)
    low, high = min(reading.low_us for reading in readings), max(reading.high_us for reading in readings)
    widen = max(1.05, (LEAST_SPAN * low / high) ** 0.5)
    axes.set_ylim(low / widen, high * widen)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_latency(value, digits=4)))
    axes.set_xlim(0.5, len(readings) + 0.5)
    first, last = readings[0].at, readings[-1].at
    day = "%Y-%m-%d" if last.date() > first.date() else "%m-%d %H:%M"
    axes.set_xticks([1, len(readings)], [first.strftime(day), last.strftime(day)])
    axes.grid(visible=False, axis="x")


def _draw_levels(axes: "Axes", trend: Trend) -> None:
    """The time between two steps as a line, and each step's ratio beside it."""
    ends = [0, *(step.index for step in trend.steps), len(trend.series.readings)]
    for number, step in enumerate(trend.steps):
        axes.hlines(step.before_us, ends[number] + 0.6, step.index + 0.4, color="#555555", linewidth=1)
        axes.hlines(step.after_us, step.index + 0.6, ends[number + 2] + 0.4, color="#555555", linewidth=1)
        axes.axvline(step.index + 0.5, color="#888888", linewidth=0.8, linestyle=":")
        axes.annotate(
            format_ratio(step.ratio),
            (step.index + 0.5, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(2, -9),
            textcoords="offset points",
            fontweight="bold",
        )


def _style(trend: Trend) -> Style:
    """The look of the case's variant and form in every figure."""
    variant = trend.series.case.variant
    return next(style for style in STYLES if (style.variant, style.form) == (variant.name, variant.form))
