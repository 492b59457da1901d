"""Where MLA is faster than each other variant, or takes less energy, and where the roofline alone would say so."""

import math
from typing import TYPE_CHECKING, Any

from mlabench.report.crossovers import ENERGY, LATENCY, Cost, contradicts, ratios
from mlabench.report.series import Context, NothingToShowError, spread
from mlabench.report.style import CEILING_COLOUR, new_figure
from mlabench.units import format_number, format_ratio, format_tokens

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS = {"decode": "MLA absorbed", "prefill": "MLA expanded"}
"""Which form of MLA stands for it in a phase."""

MOST_RATIO = 8.0
"""Ratios beyond this, and its reciprocal, have the darkest colours."""

MOST_NUMBERS = 30
"""Cells side by side, over all maps of a row, up to which each has room for its number."""

MOST_HEADS = 4
"""Rows of maps; of more head counts the least, a middle one and the greatest are drawn."""

COLOURS = ("#0072B2", "#FFFFFF", "#D55E00")
"""Of the rival, of a tie, and of MLA."""


def has_energy(frame: "pandas.DataFrame") -> bool:
    """Whether any point has a measured energy."""
    return bool(frame["energy_j_per_token"].notna().any())


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """A grid of maps, a row for each head count and a column for each rival: length by batch."""
    return _maps(frame, context, LATENCY, "speed-up of")


def draw_energy(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """The same grid for the energy of a new token."""
    return _maps(frame, context, ENERGY, "energy over that of")


def _maps(frame: "pandas.DataFrame", context: Context, cost: Cost, says: str) -> "Figure":
    series = FORMS[context.phase]
    rivals = [one.name for one in context.series if one.style.variant != "mla"]
    table = ratios(frame, series, rivals, cost)
    rivals = [rival for rival in rivals if (table["rival"] == rival).any()]
    if not rivals:
        raise NothingToShowError(f"it needs {series} measured at the same points as another variant.")
    measured_heads = tuple(sorted(set(table["num_q_heads"])))
    heads = (measured_heads if len(measured_heads) <= MOST_HEADS else spread(measured_heads))[::-1]
    xs, ys = sorted(set(table[context.x])), sorted(set(table[context.panel]))
    figure = new_figure(height_inches=1.3 + (0.3 + 0.3 * max(2, len(ys))) * len(heads))
    grid = figure.subplots(len(heads), len(rivals), sharex=True, sharey=True, squeeze=False)
    for count, line in zip(heads, grid, strict=True):
        for rival, axes in zip(rivals, line, strict=True):
            rows = table[(table["num_q_heads"] == count) & (table["rival"] == rival)]
            image = _map(axes, rows, context, xs, ys, with_numbers=len(xs) * len(rivals) <= MOST_NUMBERS)
            axes.label_outer()
        line[0].set_ylabel(f"{count} heads\n{context.panel}", fontsize=9)
    for rival, axes in zip(rivals, grid[0], strict=True):
        axes.set_title(f"over {rival}")
    for axes in grid[-1]:
        axes.set_xlabel(context.x)
    if len(heads) < len(measured_heads):
        figure.supxlabel(f"{len(heads)} of {len(measured_heads)} head counts", fontsize=9)
    _colour_bar(figure, image, grid, f"{says}\n{series}")
    return figure


def _map(
    axes: "Axes", rows: "pandas.DataFrame", context: Context, xs: list[int], ys: list[int], *, with_numbers: bool
) -> Any:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    values = [[math.nan] * len(xs) for _ in ys]
    axes.grid(visible=False)
    # Beside a number of the next map a tick looks like its minus sign.
    axes.tick_params(length=0)
    for row in rows.to_dict("records"):
        x, y, ratio = xs.index(row[context.x]), ys.index(row[context.panel]), float(row["ratio"])
        values[y][x] = math.log2(ratio)
        if with_numbers:
            axes.text(x, y, format_number(ratio, digits=2), ha="center", va="center", fontsize=7)
        if contradicts(ratio, row["floor_ratio"]):
            axes.add_patch(Rectangle((x - 0.44, y - 0.42), 0.88, 0.84, fill=False, edgecolor=CEILING_COLOUR))
    limit = math.log2(MOST_RATIO)
    colours = LinearSegmentedColormap.from_list("rival to MLA", COLOURS)
    image = axes.imshow(values, cmap=colours, vmin=-limit, vmax=limit, aspect="auto", origin="lower", alpha=0.75)
    axes.set_xticks(range(len(xs)), [format_tokens(value) for value in xs], fontsize=8, rotation=90)
    axes.set_yticks(range(len(ys)), [format_tokens(value) for value in ys], fontsize=8)
    return image


def _colour_bar(figure: "Figure", image: Any, grid: Any, label: str) -> None:
    bar = figure.colorbar(image, ax=grid, aspect=40, pad=0.01)
    steps = [-3, -2, -1, 0, 1, 2, 3] if len(grid) > 1 else [-3, 0, 3]
    bar.set_ticks(steps, labels=[format_ratio(2.0**step) for step in steps], fontsize=8)
    bar.set_label(label, fontsize=9)
    bar.outline.set_visible(False)
