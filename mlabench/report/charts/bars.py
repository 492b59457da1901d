"""Cache bytes of a token as bars."""

from mlabench.report.charts.chart import Chart
from mlabench.report.charts.looks import FONT, INK
from mlabench.report.charts.plots import Panel, add_data, add_glyph, add_hover, bare_plot, zero_axis
from mlabench.report.charts.tables import Places, byte_rows, byte_table
from mlabench.report.series import View
from mlabench.units import format_bytes

BAR_PIXELS = 46


def kv_bytes(view: View, _places: Places) -> Chart:
    """A bar for each variant and form, with its bytes and the factor against MHA."""
    from bokeh.models import FactorRange, FixedTicker, HBar, NoOverlap, Range1d, Text
    from bokeh.plotting import figure

    rows = byte_rows(view)
    order = [one.name for one in view.context.series]
    names = list(dict.fromkeys(row[1] for row in sorted(rows, key=lambda row: order.index(row[-1]))))
    axis = zero_axis("", max(value for _, _, value, *_ in rows), format_bytes, 4)
    ends = {"x_range": Range1d(0, 2 * axis.high), "y_range": FactorRange(*reversed(names))}
    plot = bare_plot(figure(**ends, height=80 + BAR_PIXELS * len(names), toolbar_location=None, tools=""))
    plot.xaxis.ticker = FixedTicker(ticks=list(axis.ticks))
    plot.xaxis.major_label_overrides = {tick: axis.text(tick) for tick in axis.ticks}
    plot.xaxis.major_label_policy = NoOverlap(min_distance=3)
    plot.ygrid.grid_line_color = None
    bars = HBar(y="name", right="y", height=0.62, fill_color={"field": "colour"}, line_color=None)
    drawn = add_glyph(plot, bars, "points", ("name", "y", "colour", "label", "held"))
    labels = Text(x="y", y="name", text={"field": "label"}, x_offset=6, text_baseline="middle", text_color=INK,
                  text_font={"value": FONT}, text_font_size="12px")  # fmt: skip
    add_data(plot, labels, drawn.data_source)
    add_hover(plot, [drawn], (("", "@name"), ("per token and layer", "@label"), ("a GB holds, one layer", "@held")))
    return Chart(
        (Panel("", plot, "kv_bytes", ("num_q_heads",), {"y": "bytes"}, ("name", "label", "held")),),
        "kv_bytes",
        byte_table(rows),
    )
