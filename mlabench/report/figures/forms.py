"""Absorbed MLA beside its other forms, and beside what the measured ceilings say of them."""

from typing import TYPE_CHECKING, Any

from mlabench.report.crossovers import Crossover, find_crossovers, ratios
from mlabench.report.figures.labels import Label
from mlabench.report.figures.lines import look, set_x
from mlabench.report.series import Context, NothingToShowError
from mlabench.report.style import CEILING_COLOUR, bottom_legend, new_figure, ratio_axis
from mlabench.units import format_tokens

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ABSORBED = "MLA absorbed"

_RING: Any = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "markeredgecolor": CEILING_COLOUR}
_FLOOR: Any = {"linestyle": ":", "linewidth": 1.4}


def has_several(frame: "pandas.DataFrame") -> bool:
    """Whether there is another form of MLA beside the absorbed one."""
    forms = set(frame[frame["variant"] == "mla"]["form"])
    return "absorbed" in forms and len(forms) > 1


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """A panel for each batch size: every other form's latency over that of the absorbed one, and of their floors."""
    others = [one for one in context.series if one.style.variant == "mla" and one.name != ABSORBED]
    table = ratios(frame, ABSORBED, [one.name for one in others])
    table = table[(table["num_q_heads"] == context.num_q_heads) & table[context.panel].isin(context.panels)]
    if table.empty:
        raise NothingToShowError("it needs the absorbed form of MLA measured at the same points as another form.")
    found = {(one.rival, one.panel): one for one in find_crossovers(table, context, ABSORBED)}
    figure = new_figure()
    panels = figure.subplots(1, len(context.panels), sharey=True, squeeze=False)[0]
    for axes, value in zip(panels, context.panels, strict=True):
        axes.axhline(1, color=CEILING_COLOUR, linewidth=1.2)
        for one in others:
            if (one.name, value) in found:
                _line(axes, found[one.name, value], look(one.style) | {"label": one.name})
        axes.set_title(context.panel_title(value))
        set_x(axes, table, context, len(panels))
    _ratio_axis(panels[0], list(found.values()))
    panels[0].set_ylabel(f"time over that of {ABSORBED}")
    names = {one.name for one in others}
    handles = {line.get_label(): line for axes in panels for line in axes.lines if line.get_label() in names}
    if any(one.floor_points for one in found.values()):
        handles["_floor"] = panels[0].plot([], [], color=CEILING_COLOUR, **_FLOOR, label="as the ceilings alone allow")[
            0
        ]
    bottom_legend(figure, list(handles.values()))
    return figure


def _line(axes: "Axes", crossover: Crossover, style: dict[str, Any]) -> None:
    axes.plot(*zip(*crossover.points, strict=True), **style)
    if crossover.floor_points:
        axes.plot(*zip(*crossover.floor_points, strict=True), color=style["color"], **_FLOOR, label="_floor")
    for length in crossover.lengths:
        axes.plot(length, 1, **_RING)
        text = Label(length, 1, format_tokens(round(length)), style["color"])
        axes.annotate(text.text, (length, 1), xytext=(5, 6), textcoords="offset points", color=text.dark_colour)


def _ratio_axis(axes: "Axes", found: list[Crossover]) -> None:
    values = [ratio for one in found for _, ratio in (*one.points, *one.floor_points)]
    low, high = min(1.0, *values), max(1.0, *values)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.3, high * 1.3)
    ratio_axis(axes.yaxis, *axes.get_ylim())
