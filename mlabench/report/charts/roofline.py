"""The roofline with every point; those that the controls choose stand out."""

from typing import Any

from mlabench.report.charts.chart import Chart
from mlabench.report.charts.looks import CEILING, FONT, INK
from mlabench.report.charts.plots import (
    TIPS,
    Axis,
    Panel,
    add_data,
    add_hover,
    add_scatter,
    fields_of,
    log_tick_values,
    new_plot,
)
from mlabench.report.charts.tables import Places
from mlabench.report.figures.roofline import INTENSITY, Frame, make_frame
from mlabench.report.series import View
from mlabench.units import format_bandwidth, format_flop_rate, format_number

HEIGHT_PIXELS = 460
ROOFLINE_TIPS = (*TIPS[:-2], ("intensity", f"@{INTENSITY} FLOP per byte"), ("bound", "@bound"), *TIPS[-2:])


def roofline(view: View, places: Places) -> Chart:
    """All points faint, the chosen ones strong, under the measured ceilings."""
    context = view.context
    assert context.ceilings is not None
    frame = make_frame(places.rows, context.ceilings, context.dtype)
    x = Axis("FLOP per byte moved", frame.left, frame.right,
             log_tick_values(frame.left, frame.right), format_number)  # fmt: skip
    y = Axis("achieved FLOP rate", frame.bottom, frame.top, log_tick_values(frame.bottom, frame.roof), format_flop_rate)
    plot = new_plot(x, y, HEIGHT_PIXELS)
    _add_ceilings(plot, frame, context.dtype)
    texts = fields_of(ROOFLINE_TIPS)
    add_hover(plot, [add_scatter(plot, "every", texts, 0.3)], ROOFLINE_TIPS)
    add_scatter(plot, "points", texts)
    columns = {"x": INTENSITY, "y": "flops_per_s"}
    return Chart((Panel("", plot, "points", ("num_q_heads", context.panel), columns, texts),))


def _add_ceilings(plot: Any, frame: Frame, dtype: str) -> None:
    from bokeh.models import ColumnDataSource, Label, MultiLine

    left, ridge, right = frame.left, frame.ridge, frame.right
    lines = {
        "xs": [[left, ridge, right], [ridge, ridge]],
        "ys": [[left * frame.bandwidth, frame.roof, frame.roof], [frame.bottom, frame.roof]],
        "dash": [[], [2, 3]],
    }
    add_data(plot, MultiLine(line_color=CEILING, line_width=1.8, line_dash={"field": "dash"}), ColumnDataSource(lines))
    at = left**0.25 * ridge**0.75
    style: dict[str, Any] = {"text_color": INK, "text_font": FONT, "text_font_size": "12px"}
    roof = f"{format_flop_rate(frame.roof)}, {dtype}"
    plot.add_layout(Label(x=right, y=frame.roof, x_offset=-6, y_offset=4, text=roof, text_align="right", **style))
    memory = format_bandwidth(frame.bandwidth)
    plot.add_layout(
        Label(x=at, y=at * frame.bandwidth, x_offset=-8, y_offset=8, text=memory, text_align="right", **style)
    )
    meeting = f"ridge {format_number(ridge)}"
    plot.add_layout(Label(x=ridge, y=frame.bottom, x_offset=6, y_offset=6, text=meeting, **style))
