"""Lines of a measured quantity over a length, a panel for each batch size; several figures share it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlabench.report.series import Context, NothingToShowError, Series, measured
from mlabench.report.style import Style, bottom_legend, new_figure, value_ticks
from mlabench.units import format_tokens

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS_NAMES = {
    "decode": {"kv_len": "kv_len (cached tokens)", "batch": "batch (requests)"},
    "prefill": {"kv_len": "kv_len (tokens)", "q_len": "q_len (new tokens)", "batch": "batch (requests)"},
}
MOST_TICKS = {1: 10, 2: 7, 3: 5}
SINGLE_VALUE_MARGIN = 2.0
"""Around a lone x value, the factor by which its axis reaches to either side."""


def one_head_count(frame: "pandas.DataFrame", context: Context) -> "pandas.DataFrame":
    """The fastest kernel of each case with the head count that single-head-count figures draw."""
    rows = measured(frame)
    rows = rows[rows["num_q_heads"] == context.num_q_heads]
    if rows.empty:
        raise NothingToShowError("no point was measured.")
    return rows


def look(style: Style) -> dict[str, Any]:
    """A style as keyword arguments of `Axes.plot`."""
    return {
        "color": style.colour,
        "marker": style.marker,
        "linestyle": style.line,
        "linewidth": style.width,
        "markersize": 5.5 + style.width / 2,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        # The widest line lies under the others, so that a line it coincides with still shows.
        "zorder": 4 - style.width / 2,
    }


def draw_lines(axes: "Axes", rows: "pandas.DataFrame", context: Context, column: str) -> dict[str, Any]:
    """Draw one line a series with the band of its interval; the handles by the series' names."""
    handles = {}
    for series in context.series:
        line = rows[rows["series"] == series.name].sort_values(context.x)
        if line.empty:
            continue
        x = line[context.x].to_numpy(dtype=float)
        (handles[series.name],) = axes.plot(
            x, line[column].to_numpy(dtype=float), label=series.name, **look(series.style)
        )
        if column == "latency_us":
            low, high = (line[end].to_numpy(dtype=float) for end in ("latency_us_low", "latency_us_high"))
            axes.fill_between(x, low, high, color=series.style.colour, alpha=0.25, linewidth=0)
    return handles


def line_panels(
    rows: "pandas.DataFrame",
    context: Context,
    column: str,
    label: str,
    finish: Callable[["Axes", "pandas.DataFrame"], None],
) -> "Figure":
    """A figure with one panel for each value in `context.panels`; `finish` sets up the y axis that they share."""
    figure = new_figure()
    rows = rows[rows[context.panel].isin(context.panels)]
    panels = figure.subplots(1, len(context.panels), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axes, value in zip(panels, context.panels, strict=True):
        handles |= draw_lines(axes, rows[rows[context.panel] == value], context, column)
        axes.set_title(context.panel_title(value))
        set_x(axes, rows, context, len(panels))
    panels[0].set_ylabel(label)
    finish(panels[0], rows)
    bottom_legend(figure, in_order(handles, context.series))
    return figure


def set_x(axes: "Axes", rows: "pandas.DataFrame", context: Context, panels: int) -> None:
    """A logarithmic x axis with ticks at measured values, as many as fit one of `panels` side by side."""
    values = sorted({float(value) for value in rows[context.x]})
    axes.set_xscale("log", base=2)
    if len(values) == 1:
        axes.set_xlim(values[0] / SINGLE_VALUE_MARGIN, values[0] * SINGLE_VALUE_MARGIN)
    value_ticks(axes.xaxis, values, format_tokens, MOST_TICKS[panels])
    axes.set_xlabel(AXIS_NAMES[context.phase][context.x])


def in_order(handles: dict[str, Any], series: Sequence[Series]) -> list[Any]:
    """The handles that were drawn, in the legend's order."""
    return [handles[one.name] for one in series if one.name in handles]
