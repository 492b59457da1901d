"""How many times as fast as MHA and GQA the others are."""

from typing import TYPE_CHECKING, Any

from mlabench.report.crossovers import over
from mlabench.report.figures.lines import draw_lines, in_order, one_head_count, set_x
from mlabench.report.series import Context, NothingToShowError
from mlabench.report.style import CEILING_COLOUR, bottom_legend, new_figure, ratio_axis

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """A row of panels for each of MHA and GQA, a column for each batch size."""
    rows = one_head_count(frame, context)
    rows = rows[rows[context.panel].isin(context.panels)]
    tables = {name: table for name in baselines(context) if len(table := over(rows, name))}
    if not tables:
        raise NothingToShowError(
            "it needs MHA or GQA measured at the same batch, kv_len and number of heads as another variant."
        )
    figure = new_figure(height_inches=2.1 + 1.9 * len(tables))
    grid = figure.subplots(len(tables), len(context.panels), sharex=True, sharey="row", squeeze=False)
    handles: dict[str, Any] = {}
    for (name, table), line in zip(tables.items(), grid, strict=True):
        for axes, value in zip(line, context.panels, strict=True):
            handles |= draw_lines(axes, table[table[context.panel] == value], context, "ratio")
            axes.axhline(1, color=CEILING_COLOUR, linewidth=1.2)
            set_x(axes, rows, context, len(line))
            axes.label_outer()
        _ratio_axis(line[0], table)
        line[0].set_ylabel(f"speed-up over {name}")
    for axes, value in zip(grid[0], context.panels, strict=True):
        axes.set_title(context.panel_title(value))
    bottom_legend(figure, in_order(handles, context.series))
    return figure


def baselines(context: Context) -> list[str]:
    """The series that others are held against: MHA, and GQA with the group size of most points."""
    return [one.name for one in context.series if one.style.variant in ("mha", "gqa") and one.style.place == 0]


def _ratio_axis(axes: "Axes", table: "pandas.DataFrame") -> None:
    low, high = min(1.0, float(table["ratio"].min())), max(1.0, float(table["ratio"].max()))
    axes.set_yscale("log")
    axes.set_ylim(low / 1.3, high * 1.3)
    ratio_axis(axes.yaxis, *axes.get_ylim())
