"""How near each kernel comes to the machine's own limits."""

from typing import TYPE_CHECKING

from mlabench.report.figures.lines import line_panels, one_head_count
from mlabench.report.series import Context, NothingToShowError
from mlabench.report.style import CEILING_COLOUR, log_ticks
from mlabench.units import format_percent

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINEAR_UP_TO = 2.0
"""Above this share a linear axis would flatten the points that did read from memory."""


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """Fraction of the roofline's least time against kv_len, one panel a batch size."""
    rows = one_head_count(frame, context).dropna(subset=["fraction_of_floor"])
    if rows.empty:
        raise NothingToShowError(f"the run holds no measured ceilings for {context.dtype}, so the floor is not known.")
    return line_panels(rows, context, "fraction_of_floor", "share of the roofline's speed", _finish)


def _finish(axes: "Axes", rows: "pandas.DataFrame") -> None:
    from matplotlib.ticker import FuncFormatter

    low, high = float(rows["fraction_of_floor"].min()), float(rows["fraction_of_floor"].max())
    for panel in axes.figure.axes:
        panel.axhline(1, color=CEILING_COLOUR, linewidth=1.2)
    if high > LINEAR_UP_TO:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.4, high * 1.4)
        log_ticks(axes.yaxis, format_percent, low, high)
        return
    axes.set_ylim(0, max(1.05, 1.05 * high))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_percent(value)))
