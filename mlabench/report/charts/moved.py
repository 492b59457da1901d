"""The points of two runs that moved farthest: the ratio of the times with its interval, a line a point."""

from typing import Any

from mlabench.report.charts.embed import plot_item
from mlabench.report.charts.looks import CEILING, FONT, INK, series_looks
from mlabench.report.charts.plots import (
    Panel,
    add_data,
    add_glyph,
    add_hover,
    add_scatter,
    bare_plot,
    fields_of,
    ratio_axis,
)
from mlabench.report.dataset import coded
from mlabench.report.moved import SERIES, Moved, cells

ROW_PIXELS, EDGE_PIXELS = 34, 70

TIPS = (
    ("", "@name"),
    ("kernel", "@kernel"),
    ("verdict", "@series"),
    ("ratio", "@ratio"),
    ("before, now", "@before, @now"),
    ("note", "@note"),
)

LISTED = (
    *(("series", "verdict"), ("name", "case"), ("kernel", "kernel"), ("before", "before"), ("now", "now")),
    *(("ratio", "ratio [90%]"), ("note", "note")),
)


def moved_data(moved: Moved, name: str) -> dict[str, Any]:
    """What the page's script needs for the chart and the table behind it; `name` is the id of its section."""
    panel = _panel(moved)
    place = f"{name}-chart-0"
    chart = {
        "id": f"{name}-chart",
        "title": f"What moved: {moved.title}",
        "table": "moved",
        "panels": [{"id": place, "item": plot_item(panel.plot, place), "spec": panel.spec}],
        "listed": [list(pair) for pair in LISTED],
    }
    return {
        "id": name,
        "controls": [],
        "series": series_looks(SERIES),
        "setting": "",
        "tables": {"moved": _table(moved)},
        "charts": [chart],
    }


def _table(moved: Moved) -> dict[str, Any]:
    """Every point, the farthest first; `is_drawn` tells those of the chart."""
    points = moved.points
    verdicts, before, now, ratios, notes = zip(*map(cells, points), strict=True)
    drawn = len(moved.drawn)
    return {
        "rows": len(points),
        "series": coded(verdicts),
        "name": coded(moved.names),
        "kernel": coded([point.kernel for point in points]),
        "before": coded(before),
        "now": coded(now),
        "ratio": coded(ratios),
        "note": coded(notes),
        "is_drawn": coded(["yes" if place < drawn else "no" for place in range(len(points))]),
        "x": coded([point.ratio for point in points], str, numeric=True),
        "low": coded([point.interval[0] for point in points], str, numeric=True),
        "high": coded([point.interval[1] for point in points], str, numeric=True),
    }


def _panel(moved: Moved) -> Panel:
    from bokeh.models import FactorRange, FixedTicker, NoOverlap, Range1d, Segment, Span, Text
    from bokeh.plotting import figure

    ends = [end for point in moved.drawn for end in point.interval]
    x = ratio_axis("time now over time before", ends, 1.05)
    names = moved.names[: len(moved.drawn)]
    ranges = {"x_range": Range1d(x.low, x.high), "y_range": FactorRange(*reversed(names))}
    height = EDGE_PIXELS + ROW_PIXELS * max(3, len(names))
    plot = bare_plot(figure(**ranges, x_axis_type="log", height=height, toolbar_location=None, tools=""))
    plot.xaxis.axis_label = x.label
    plot.xaxis.ticker = FixedTicker(ticks=list(x.ticks))
    plot.xaxis.major_label_overrides = {tick: x.text(tick) for tick in x.ticks}
    plot.xaxis.major_label_policy = NoOverlap(min_distance=3)
    plot.yaxis.visible = False
    plot.add_layout(Span(location=1, dimension="height", line_color=CEILING, line_width=1.4))
    texts = tuple(dict.fromkeys(("name", *fields_of(TIPS))))
    bars = Segment(x0="low", x1="high", y0="name", y1="name", line_color={"field": "colour"}, line_width=2)
    lines = add_glyph(plot, bars, "bars", ("low", "high", "name", "colour"))
    # Over its line and not beside it, so that a narrow screen keeps the width for the ratios.
    told = Text(x={"value": x.low}, y="name", text={"field": "name"}, x_offset=4, y_offset=-5, text_color=INK,
                text_font={"value": FONT}, text_font_size="12px")  # fmt: skip
    add_data(plot, told, lines.data_source)
    drawn = add_scatter(plot, "points", texts)
    drawn.glyph.y = "name"
    add_hover(plot, [drawn], TIPS)
    columns = {"x": "x", "y": "x", "low": "low", "high": "high"}
    return Panel("", plot, "moved", (), columns, texts, {"is_drawn": "yes"})
