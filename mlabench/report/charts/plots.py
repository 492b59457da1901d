"""What the charts have in common: empty plots with labelled axes, whose sources the page's script fills."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlabench.report.charts.looks import CEILING, FONT, GRID, INK, TEXT_ON_CELLS, TIP_SOFT
from mlabench.report.style import log_steps, ratio_ticks, thinned
from mlabench.units import format_ratio

if TYPE_CHECKING:
    from bokeh.plotting import figure

HEIGHT_PIXELS = 340
MOST_TICKS = 8

TIPS: tuple[tuple[str, str], ...] = (
    ("", "@label"),
    ("batch", "@batch"),
    ("q_len, kv_len", "@q_len, @kv_len"),
    ("latency", "@latency_us [@latency_us_low – @latency_us_high]"),
    ("bandwidth", "@bandwidth_bytes_per_s"),
    ("FLOP rate", "@flops_per_s"),
    ("of roofline", "@fraction_of_floor"),
    ("kernel", "@kernel"),
)
"""What hovering over a measured point tells, in the table's own words."""

LINE_LOOK = {"line_color": "colour", "line_dash": "dash", "line_width": "width"}

Text = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot, and which rows fill it.

    `where` holds columns of the table at one text, `by` are those that the page's controls choose. `columns` are the
    numbers behind x, y and what else the plot draws, `texts` what its tooltips and cells say, `group` the column that
    tells its lines apart, `marks` another table of the chart, whose rows are marked at `x` and `y` with their `text`.
    """

    title: str
    plot: Any
    table: str
    by: tuple[str, ...]
    columns: Mapping[str, str]
    texts: tuple[str, ...]
    where: Mapping[str, str] = field(default_factory=dict)
    group: str = "series"
    marks: str = ""

    @property
    def spec(self) -> dict[str, Any]:
        """How the page's script fills the plot."""
        return {
            "table": self.table,
            "by": list(self.by),
            "columns": dict(self.columns),
            "texts": list(self.texts),
            "where": dict(self.where),
            "group": self.group,
            "marks": self.marks,
        }


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its label, its ends, its ticks and how a tick is written."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    text: Text
    scale: str = "log"


def log_axis(label: str, values: Sequence[float], text: Text, margin: float = 1.4) -> Axis:
    """A logarithmic axis around positive values, with ticks at 1, 2 and 5 where there is room."""
    low, high = min(values) / margin, max(values) * margin
    return Axis(label, low, high, log_tick_values(low, high), text)


def ratio_axis(label: str, values: Sequence[float], margin: float = 1.3) -> Axis:
    """A logarithmic axis of ratios, with ticks around 1."""
    axis = log_axis(label, [1.0, *values], format_ratio, margin)
    return replace(axis, ticks=tuple(ratio_ticks(axis.low, axis.high)))


def log_tick_values(low: float, high: float) -> tuple[float, ...]:
    """The round numbers between the ends of a logarithmic axis."""
    steps = log_steps(low, high)
    ticks = [float(f"{step}e{power}") for power in range(-18, 25) for step in steps]
    return tuple(tick for tick in ticks if low <= tick <= high)


def zero_axis(label: str, top: float, text: Text, steps: int = 6) -> Axis:
    """A linear axis from zero, with about so many steps between round ticks."""
    decade = 10.0 ** math.floor(math.log10(top / steps))
    step = next(decade * factor for factor in (1, 2, 5, 10) if top / (decade * factor) <= steps)
    count = int(1.08 * top / step)
    return Axis(label, 0, 1.08 * top, tuple(step * place for place in range(count + 1)), text, "linear")


def value_axis(label: str, values: Sequence[float], text: Text) -> Axis:
    """A logarithmic axis with ticks at the measured values themselves, thinned to what fits."""
    shown = sorted(set(values))
    margin = 2.0 if len(shown) == 1 else (shown[-1] / shown[0]) ** 0.04
    return Axis(label, shown[0] / margin, shown[-1] * margin, tuple(thinned(shown, MOST_TICKS)), text)


def new_plot(x: Axis, y: Axis, height_pixels: int = HEIGHT_PIXELS) -> "figure":
    """A plot as wide as its place, on a transparent ground, with fixed axes, so that choices stay comparable."""
    from bokeh.models import FixedTicker, NoOverlap, Range1d
    from bokeh.plotting import figure

    ends = {"x_range": Range1d(x.low, x.high), "y_range": Range1d(y.low, y.high)}
    plot = bare_plot(
        figure(**ends, x_axis_type=x.scale, y_axis_type=y.scale, height=height_pixels, toolbar_location=None, tools="")
    )
    plot.xaxis.major_label_policy = NoOverlap(min_distance=3)
    for side, axis in ((plot.xaxis, x), (plot.yaxis, y)):
        side.axis_label = axis.label
        side.ticker = FixedTicker(ticks=list(axis.ticks))
        side.major_label_overrides = {tick: axis.text(tick) for tick in axis.ticks}
    return plot


def bare_plot(plot: "figure") -> "figure":
    """The plot with the page's colours and fonts, and neither frame nor ticks."""
    plot.sizing_mode = "stretch_width"
    plot.background_fill_color = plot.border_fill_color = plot.outline_line_color = None
    plot.min_border_right = 12
    plot.grid.grid_line_color = GRID
    for side in (plot.xaxis, plot.yaxis):
        side.axis_label_text_font_style = "normal"
        side.axis_label_text_font = side.major_label_text_font = FONT
        side.axis_label_text_font_size = side.major_label_text_font_size = "12px"
        side.axis_label_text_color = side.major_label_text_color = INK
        side.axis_line_color = side.major_tick_line_color = GRID
        side.minor_tick_line_color = None
    return plot


def add_glyph(plot: "figure", glyph: Any, source: str, names: Sequence[str]) -> Any:
    """Draw the named columns of an empty source, which the page's script finds by its name."""
    from bokeh.models import ColumnDataSource

    return add_data(plot, glyph, ColumnDataSource({name: [] for name in dict.fromkeys(names)}, name=source))


def add_data(plot: "figure", glyph: Any, source: Any) -> Any:
    """Draw a source without the looks of selected and muted points, which no tool here makes."""
    from bokeh.models import GlyphRenderer

    renderer = GlyphRenderer(data_source=source, glyph=glyph, nonselection_glyph=None, muted_glyph=None)
    plot.renderers.append(renderer)
    return renderer


def add_scatter(plot: "figure", source: str, texts: Sequence[str], alpha: float = 1.0) -> Any:
    """A marker for each row, in the looks of its series."""
    from bokeh.models import Scatter

    glyph = Scatter(x="x", y="y", marker={"field": "marker"}, size={"field": "size"}, fill_color={"field": "colour"},
                    line_color={"field": "colour"}, fill_alpha=alpha, line_alpha=alpha)  # fmt: skip
    return add_glyph(plot, glyph, source, ("x", "y", "colour", "marker", "size", *texts))


def add_lines(plot: "figure", source: str = "lines") -> Any:
    """A line for each series."""
    from bokeh.models import MultiLine

    look = {name: {"field": column} for name, column in LINE_LOOK.items()}
    return add_glyph(plot, MultiLine(xs="xs", ys="ys", **look), source, ("xs", "ys", *LINE_LOOK.values()))


def add_bands(plot: "figure") -> Any:
    """The interval around each series."""
    from bokeh.models import Patches

    glyph = Patches(xs="xs", ys="ys", fill_color={"field": "colour"}, fill_alpha=0.25, line_color=None)
    return add_glyph(plot, glyph, "bands", ("xs", "ys", "colour"))


def add_marks(plot: "figure") -> Any:
    """A ring at each place that is told, with its text beside it."""
    from bokeh.models import Scatter, Text

    ring = Scatter(x="x", y="y", marker="circle", size=11, fill_color=None, line_color=INK, line_width=1.6)
    drawn = add_glyph(plot, ring, "marks", ("x", "y", "text", "over"))
    text = Text(x="x", y="y", text={"field": "text"}, x_offset=8, y_offset=-5, text_color=INK,
                text_font={"value": FONT}, text_font_size="12px")  # fmt: skip
    add_data(plot, text, drawn.data_source)
    return drawn


def add_hover(plot: "figure", renderers: Sequence[Any], tips: Sequence[tuple[str, str]]) -> None:
    """Show what the texts of the row under the pointer say; the first tip is the heading. Bokeh escapes the texts."""
    from bokeh.models import HoverTool

    (_, heading), *rows = tips
    lines = "".join(f'<tr><td style="color: {TIP_SOFT}">{name}</td><td>{text}</td></tr>' for name, text in rows)
    style = f"font: 12px/1.4 {FONT}; color: {TEXT_ON_CELLS}; border-spacing: 8px 0"
    html = f'<table style="{style}"><tr><td colspan="2"><b>{heading}</b></td></tr>{lines}</table>'
    plot.add_tools(HoverTool(tooltips=html, renderers=list(renderers), point_policy="snap_to_data"))


def add_level(plot: "figure", value: float, text: str = "") -> None:
    """A line across the plot: a ceiling, or where two are level."""
    from bokeh.models import Label, Span

    plot.add_layout(Span(location=value, dimension="width", line_color=CEILING, line_width=1.4))
    if text:
        style = {"text_color": INK, "text_font": FONT, "text_font_size": "11px"}
        plot.add_layout(Label(x=8, y=value, x_units="screen", y_offset=3, text=text, **style))


def fields_of(tips: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The columns that the tips name; those of the record that a row is held against begin with `rival.`."""
    return tuple(dict.fromkeys(name for _, tip in tips for name in re.findall(r"@\{?([\w.]+)", tip)))
