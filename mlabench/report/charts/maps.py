"""Maps of where MLA is faster, or takes less energy, than each rival."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlabench.report.cells import COLUMNS
from mlabench.report.charts.chart import Chart
from mlabench.report.charts.looks import FONT, TEXT_ON_CELLS
from mlabench.report.charts.plots import TIPS, Panel, add_data, add_glyph, add_hover, bare_plot, fields_of
from mlabench.report.charts.tables import Places, rival_table
from mlabench.report.crossovers import ENERGY, LATENCY, Cost, ratios
from mlabench.report.figures.crossover import FORMS
from mlabench.report.series import View

if TYPE_CHECKING:
    from bokeh.plotting import figure

CELL_PIXELS = 44
"""Of a row of a map."""

Tips = tuple[tuple[str, str], ...]

LATENCY_TIPS: Tips = (
    ("", "@series: @ratio as fast as @over"),
    *TIPS[1:3],
    ("latency", "@latency_us on @kernel"),
    ("against", "@{rival.latency_us} on @{rival.kernel}"),
    ("as the ceilings allow", "@floor_ratio"),
)
ENERGY_TIPS: Tips = (
    ("", "@over takes @ratio the energy of @series"),
    *TIPS[1:3],
    ("energy/token", "@energy_j_per_token on @kernel"),
    ("against", "@{rival.energy_j_per_token} on @{rival.kernel}"),
)


def crossover(view: View, places: Places) -> Chart:
    """The rivals' latency over MLA's."""
    return _maps(view, places, "crossover", LATENCY, LATENCY_TIPS)


def energy(view: View, places: Places) -> Chart:
    """The rivals' energy of a new token over MLA's."""
    return _maps(view, places, "energy", ENERGY, ENERGY_TIPS)


def _maps(view: View, places: Places, name: str, cost: Cost, tips: Tips) -> Chart:
    context = view.context
    series = FORMS[context.phase]
    rivals = [one.name for one in context.series if one.style.variant != "mla"]
    found = ratios(places.rows, series, rivals, cost)
    texts = {column.field: column.text for column in COLUMNS}
    xs, ys = ([texts[side](value) for value in sorted(set(found[side]))] for side in (context.x, context.panel))
    shown = [rival for rival in rivals if (found["rival"] == rival).any()]
    panels = tuple(_map(view, name, rival, (xs, ys), tips) for rival in shown)
    return Chart(panels, name, rival_table(places, found))


def _map(view: View, table: str, rival: str, factors: tuple[Sequence[str], Sequence[str]], tips: Tips) -> Panel:
    from bokeh.models import Rect, Text

    x, y = view.context.x, view.context.panel
    texts = tuple(dict.fromkeys((x, y, "digits", "colour", "frame", *fields_of(tips))))
    plot = _plot(*factors, view)
    cells = Rect(x=x, y=y, width=0.95, height=0.92, fill_color={"field": "colour"}, line_color=None)
    frames = Rect(x=x, y=y, width=0.85, height=0.8, fill_color=None, line_color={"field": "frame"}, line_width=1.5)
    numbers = Text(x=x, y=y, text={"field": "digits"}, text_align="center", text_baseline="middle",
                   text_color=TEXT_ON_CELLS, text_font={"value": FONT}, text_font_size="11px")  # fmt: skip
    drawn = add_glyph(plot, cells, "points", texts)
    for glyph in (frames, numbers):
        add_data(plot, glyph, drawn.data_source)
    add_hover(plot, [drawn], tips)
    return Panel(f"over {rival}", plot, table, ("num_q_heads",), {}, texts, {"over": rival}, "over")


def _plot(xs: Sequence[str], ys: Sequence[str], view: View) -> "figure":
    from bokeh.models import FactorRange
    from bokeh.plotting import figure

    ends = {"x_range": FactorRange(*xs), "y_range": FactorRange(*ys)}
    height_pixels = 90 + CELL_PIXELS * max(2, len(ys))
    plot = bare_plot(figure(**ends, height=height_pixels, toolbar_location=None, tools=""))
    plot.grid.grid_line_color = None
    plot.xaxis.axis_label, plot.yaxis.axis_label = view.context.x, view.context.panel
    return plot
