"""Achieved memory traffic and arithmetic, under the machine's measured ceilings."""

from typing import TYPE_CHECKING, Any

from mlabench.report.figures.lines import draw_lines, in_order, one_head_count, set_x
from mlabench.report.series import Context
from mlabench.report.style import CEILING_COLOUR, bottom_legend, log_ticks, new_figure
from mlabench.units import format_bandwidth, format_flop_rate

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """Bandwidth (linear) and FLOP rate (logarithmic) side by side, for one batch size."""
    rows = one_head_count(frame, context)
    rows = rows if context.x == "batch" else rows[rows["batch"] == context.batch]
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    handles = draw_lines(left, rows, context, "bandwidth_bytes_per_s") | draw_lines(right, rows, context, "flops_per_s")
    for axes in (left, right):
        set_x(axes, rows, context, panels=2)
    _bandwidth_axis(left, rows, context)
    _flop_rate_axis(right, rows, context)
    bottom_legend(figure, in_order(handles, context.series))
    return figure


def _bandwidth_axis(axes: "Axes", rows: "pandas.DataFrame", context: Context) -> None:
    from matplotlib.ticker import FuncFormatter

    top = float(rows["bandwidth_bytes_per_s"].max())
    if context.ceilings:
        ceiling = context.ceilings.bandwidth_bytes_per_s
        _ceiling(axes, ceiling, f"measured ceiling {format_bandwidth(ceiling)}")
        top = max(top, ceiling)
    axes.set_ylim(0, top * 1.15)
    axes.set_title("achieved bandwidth")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bandwidth(value)))


def _flop_rate_axis(axes: "Axes", rows: "pandas.DataFrame", context: Context) -> None:
    low, top = float(rows["flops_per_s"].min()), float(rows["flops_per_s"].max())
    ceiling = context.ceilings.matmul_flops_per_s.get(context.dtype) if context.ceilings else None
    if ceiling is not None:
        _ceiling(axes, ceiling, f"measured ceiling {format_flop_rate(ceiling)}")
        top = max(top, ceiling)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.5, top * 2)
    axes.set_title("achieved FLOP rate")
    log_ticks(axes.yaxis, format_flop_rate, low, top)


def _ceiling(axes: "Axes", value: float, text: str) -> Any:
    axes.axhline(value, color=CEILING_COLOUR, linewidth=1.4)
    axes.annotate(
        text,
        (1, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        fontsize=11,
    )
