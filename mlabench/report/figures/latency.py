"""Latency of one call over the cache's length."""

from typing import TYPE_CHECKING

from mlabench.report.figures.lines import line_panels, one_head_count
from mlabench.report.series import Context
from mlabench.report.style import log_ticks
from mlabench.units import format_latency

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """Latency against kv_len, both logarithmic, one line a series and one panel a batch size."""
    label = f"{context.phase} latency, one {'whole ' if context.scope == 'layer' else ''}layer"
    return line_panels(one_head_count(frame, context), context, "latency_us", label, _finish)


def _finish(axes: "Axes", rows: "pandas.DataFrame") -> None:
    axes.set_yscale("log")
    low, high = float(rows["latency_us"].min()), float(rows["latency_us"].max())
    axes.set_ylim(low / 1.4, high * 1.4)
    log_ticks(axes.yaxis, format_latency, low, high)
