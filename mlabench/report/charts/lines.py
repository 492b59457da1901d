"""Charts with a line for each series over a length: latency, speed-up, rates, share of the roofline, energy, power."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlabench.report.charts.chart import Chart
from mlabench.report.charts.plots import (
    TIPS,
    Axis,
    Panel,
    Text,
    add_bands,
    add_hover,
    add_level,
    add_lines,
    add_marks,
    add_scatter,
    fields_of,
    log_axis,
    new_plot,
    ratio_axis,
    value_axis,
    zero_axis,
)
from mlabench.report.charts.tables import Places, crossing_table, rival_table, speed_table
from mlabench.report.crossovers import find_crossovers, over, ratios
from mlabench.report.figures.floor import LINEAR_UP_TO
from mlabench.report.figures.forms import ABSORBED
from mlabench.report.figures.lines import AXIS_NAMES
from mlabench.report.figures.speedup import baselines
from mlabench.report.series import View
from mlabench.units import (
    format_bandwidth,
    format_energy,
    format_flop_rate,
    format_latency,
    format_percent,
    format_power,
    format_tokens,
)

if TYPE_CHECKING:
    import pandas

Tips = tuple[tuple[str, str], ...]

SPEED_TIPS: Tips = (("", "@label"), ("speed-up", "@ratio over @{rival.label}"), *TIPS[1:4],
                    ("against", "@{rival.latency_us} on @{rival.kernel}"), TIPS[-1])  # fmt: skip
FORM_TIPS: Tips = (("", "@{rival.label}"), ("time", "@ratio that of @label"), *TIPS[1:3],
                   ("latency", "@{rival.latency_us} against @latency_us"), ("as the ceilings allow", "@floor_ratio"),
                   ("kernels", "@{rival.kernel}, @kernel"))  # fmt: skip


def latency(view: View, places: Places) -> Chart:
    """Latency with its interval."""
    values = [*_column(places.rows, "latency_us_low"), *_column(places.rows, "latency_us_high")]
    label = f"{view.context.phase} latency, one {'whole ' if view.context.scope == 'layer' else ''}layer"
    return Chart((_points(view, places, "latency_us", log_axis(label, values, format_latency), bands=True),))


def speedup(view: View, places: Places) -> Chart:
    """A panel for each baseline."""
    tables = {name: table for name in baselines(view.context) if len(table := over(places.rows, name))}
    panels = []
    for name, table in tables.items():
        y = ratio_axis(f"speed-up over {name}", _column(table, "ratio"))
        panels.append(_ratios(view, places, "speedup", y, SPEED_TIPS, title=f"over {name}", where={"over": name}))
    return Chart(tuple(panels), "speedup", speed_table(places, tables))


def forms(view: View, places: Places) -> Chart:
    """Every other form's latency over that of the absorbed one, and the same of their least times, dotted."""
    others = [one.name for one in view.context.series if one.style.variant == "mla" and one.name != ABSORBED]
    rows = ratios(places.rows, ABSORBED, others)
    y = ratio_axis(f"time over that of {ABSORBED}", [*_column(rows, "ratio"), *_column(rows, "floor_ratio")])
    panel = _ratios(view, places, "forms", y, FORM_TIPS, group="over")
    tips = (("", f"@over is level with {ABSORBED}"), (view.context.x, "about @text"))
    add_hover(panel.plot, [add_marks(panel.plot)], tips)
    level = crossing_table(find_crossovers(rows, view.context, ABSORBED), view.context)
    return Chart(
        (replace(panel, marks="crossings"),),
        "forms",
        rival_table(places, rows),
        {"crossings": level},
    )


def rates(view: View, places: Places) -> Chart:
    """Bandwidth and FLOP rate, each under its measured ceiling."""
    ceilings, rows = view.context.ceilings, places.rows
    most = ceilings.bandwidth_bytes_per_s if ceilings else None
    peak = ceilings.matmul_flops_per_s.get(view.context.dtype) if ceilings else None
    moved, done = _column(rows, "bandwidth_bytes_per_s"), _column(rows, "flops_per_s")
    bandwidth = zero_axis("achieved bandwidth", max([*moved, most or 0.0]), format_bandwidth)
    flop_rate = log_axis("achieved FLOP rate", [*done, *([peak] if peak else [])], format_flop_rate, 1.6)
    left = _points(view, places, "bandwidth_bytes_per_s", bandwidth, title="bandwidth")
    right = _points(view, places, "flops_per_s", flop_rate, title="FLOP rate")
    for panel, ceiling, text in ((left, most, format_bandwidth), (right, peak, format_flop_rate)):
        if ceiling:
            add_level(panel.plot, ceiling, f"measured ceiling {text(ceiling)}")
    return Chart((left, right))


def floor(view: View, places: Places) -> Chart:
    """The roofline's least time over the time taken."""
    shares = _column(places.rows, "fraction_of_floor")
    label, top = "share of the roofline's speed", max(1.0, *shares)
    if top > LINEAR_UP_TO:
        panel = _points(view, places, "fraction_of_floor", log_axis(label, [1.0, *shares], format_percent))
    else:
        panel = _points(view, places, "fraction_of_floor", zero_axis(label, top, format_percent))
    add_level(panel.plot, 1.0)
    return Chart((panel,))


def load(view: View, places: Places) -> Chart:
    """Energy of a new token, and the power while it was measured."""
    joules, watts = _column(places.rows, "energy_j_per_token"), _column(places.rows, "power_w")
    energy = log_axis("energy of a new token, one layer", joules, format_energy)
    power = zero_axis("power of the board", max(watts), format_power)
    tips = (*TIPS[:4], ("energy/token", "@energy_j_per_token"), ("power", "@power_w"), TIPS[-1])
    joules_panel = _points(view, places, "energy_j_per_token", energy, title="energy per token", tips=tips)
    return Chart((joules_panel, _points(view, places, "power_w", power, title="power", tips=tips)))


def has_load(frame: "pandas.DataFrame") -> bool:
    """Whether any point has a measured energy, which is its power over a time."""
    return bool(frame[["energy_j_per_token", "power_w"]].notna().all(axis=1).any())


def _points(
    view: View, places: Places, column: str, y: Axis, *, title: str = "", tips: Tips = TIPS, bands: bool = False
) -> Panel:
    x, texts = view.context.x, fields_of(tips)
    plot = new_plot(_x_axis(view, places), y)
    if bands:
        add_bands(plot)
    add_lines(plot)
    add_hover(plot, [add_scatter(plot, "points", texts)], tips)
    columns = {"x": x, "y": column} | ({"low": "latency_us_low", "high": "latency_us_high"} if bands else {})
    return Panel(title, plot, "points", ("num_q_heads", view.context.panel), columns, texts)


def _ratios(
    view: View, places: Places, table: str, y: Axis, tips: Tips, *, title: str = "", group: str = "series",
    where: dict[str, str] | None = None,
) -> Panel:  # fmt: skip
    texts = fields_of(tips)
    plot = new_plot(_x_axis(view, places), y)
    add_level(plot, 1.0)
    columns = {"x": view.context.x, "y": "ratio"}
    if group == "over":
        add_lines(plot, "floors")
        columns["floor"] = "floor_ratio"
    add_lines(plot)
    add_hover(plot, [add_scatter(plot, "points", texts)], tips)
    return Panel(title, plot, table, ("num_q_heads", view.context.panel), columns, texts, where or {}, group)


def _x_axis(view: View, places: Places) -> Axis:
    context = view.context
    text: Text = format_tokens
    return value_axis(AXIS_NAMES[context.phase][context.x], _column(places.rows, context.x), text)


def _column(rows: "pandas.DataFrame", name: str) -> Sequence[float]:
    return [float(value) for value in rows[name].dropna()]
