"""Small multiples: a panel for each series, its runs in order along x, the levels between its steps drawn through."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from mlabench.errors import UsageError
from mlabench.history.steps import Trend
from mlabench.history.words import tell_changes, tell_when
from mlabench.report.style import RC, STYLES, Style, new_figure
from mlabench.units import format_exact, format_latency, format_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 12
"""More are not read; those with the largest steps are drawn."""

COLUMNS = 2
PANEL_INCHES = 1.35
LINE_INCHES = 0.16
"""Heights of a panel without its title, and of a line of text."""

HEAD_INCHES = 0.5
TITLE_WIDTH = 50
"""Characters of a line above a panel."""

LEAST_SPAN = 0.25
"""Of a panel's times from the lowest to the highest, over the lowest, so that noise does not look like a mountain."""

MARGIN, HEAD_ROOM = 0.1, 0.35
"""Shares of that span below and above the times, and above them where ratios are written there."""

STAGGER_POINTS = 11

TEXT_RC: Any = {"font.size": 9, "axes.titlesize": 9, "figure.titlesize": 10}


def plot_trends(trends: Sequence[Trend], path: Path) -> None:
    """Draw the series, the largest steps first, into a .png or .svg. Raises `UsageError` if it cannot be written."""
    from matplotlib import rc_context

    shown = trends[:MOST_PANELS]
    shared = _shared(shown)
    titles = [_title(trend, shared) for trend in shown]
    columns = min(COLUMNS, len(shown))
    lines = [max(title.count("\n") + 1 for title in titles[at : at + columns]) for at in range(0, len(shown), columns)]
    heights = [PANEL_INCHES + LINE_INCHES * count for count in lines]
    with rc_context({**RC, **TEXT_RC}):
        figure = new_figure(HEAD_INCHES + sum(heights))
        panels = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights}).flatten()
        for panel, trend, title in zip(panels, shown, titles, strict=False):
            _draw(panel, trend)
            panel.set_title(title, loc="left")
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        figure.suptitle(_head(shown, len(trends), shared), x=0.01, horizontalalignment="left")
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise UsageError(f"cannot write --plot {path}: {error.strerror or error}") from None


def _shared(trends: Sequence[Trend]) -> frozenset[str]:
    """Which of the setting, kernel and dtype all panels have in common, so that it is said once, above them."""
    told = [{_setting(trend), trend.series.kernel, trend.series.case.dtype} for trend in trends]
    return frozenset(set.intersection(*told))


def _head(shown: Sequence[Trend], count: int, shared: frozenset[str]) -> str:
    """What all panels have in common, and which of the points they are."""
    first = shown[0]
    of_all = [name for name in (_setting(first), first.series.kernel, first.series.case.dtype) if name in shared]
    notes = [f"{len(shown)} of {format_exact(count)} points, the largest steps first"] if len(shown) < count else []
    if any(reading.disturbances for trend in shown for reading in trend.series.readings):
        notes.append("hollow: disturbed runs")
    return "\n".join(", ".join(words) for words in (of_all, notes) if words)


def _title(trend: Trend, shared: frozenset[str]) -> str:
    """What the panel is of, as far as it is no other's too; and its largest step in words."""
    case, step = trend.series.case, trend.largest_step
    label = case.label.removesuffix(case.dtype).rstrip() if case.dtype in shared else case.label
    told = [label, *(name for name in (trend.series.kernel, _setting(trend)) if name not in shared)]
    if step:
        told.append(f"from {tell_when(trend, step)}: {tell_changes(trend, step)}")
    return "\n".join(fill(text, TITLE_WIDTH) for text in told)


def _setting(trend: Trend) -> str:
    return trend.series.setting.label


def _draw(axes: "Axes", trend: Trend) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    readings, style = trend.series.readings, _style(trend)
    places = range(1, len(readings) + 1)
    middles = [reading.latency_us for reading in readings]
    reach = [
        [reading.latency_us - reading.low_us for reading in readings],
        [reading.high_us - reading.latency_us for reading in readings],
    ]
    axes.errorbar(places, middles, reach, color=style.colour, linestyle="")
    for at, reading in zip(places, readings, strict=True):
        inside = "white" if reading.disturbances else style.colour
        axes.plot(
            at, reading.latency_us, color=style.colour, marker=style.marker, markersize=4.5, markerfacecolor=inside
        )
    _draw_levels(axes, trend)
    low, high = min(reading.low_us for reading in readings), max(reading.high_us for reading in readings)
    span = max(high - low, LEAST_SPAN * low)
    spare = (span - (high - low)) / 2
    above = HEAD_ROOM if trend.steps else MARGIN
    axes.set_ylim(low - spare - MARGIN * span, high + spare + above * span)
    axes.yaxis.set_major_locator(MaxNLocator(3))
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
        left = step.index > 0.8 * len(trend.series.readings)
        axes.annotate(
            format_ratio(step.ratio),
            (step.index + 0.5, 1),
            xycoords=axes.get_xaxis_transform(),
            # Every second one lower, for steps may lie close together.
            xytext=(-3 if left else 3, -STAGGER_POINTS * (number % 2)),
            textcoords="offset points",
            horizontalalignment="right" if left else "left",
            verticalalignment="top",
            fontweight="bold",
        )


def _style(trend: Trend) -> Style:
    """The look of the case's variant and form in every figure."""
    variant = trend.series.case.variant
    return next(style for style in STYLES if (style.variant, style.form) == (variant.name, variant.form))
