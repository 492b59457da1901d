"""Kernels side by side: the time of each over the roofline's least time, where cases were measured on several."""

from itertools import pairwise
from statistics import geometric_mean
from typing import TYPE_CHECKING

from mlabench.report.figures.heights import Heights, heights_of
from mlabench.report.figures.looks import Look, looks_of, with_sides
from mlabench.report.series import Context
from mlabench.report.side_by_side import SharedPoints, on_several, shared_points
from mlabench.report.style import DPI, bottom_legend, new_figure
from mlabench.units import format_ratio

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PIXELS = 1600
FIRST_ROW_INCHES, ROW_INCHES = 5.4, 3.2
MOST_COLUMNS, MOST_LEGEND_COLUMNS, MOST_TICKS = 3, 5, 16
LEAST_GAP_PIXELS = 12

SPREAD = 0.7
"""Most room for the markers of a place, in places, so that none seems to lie at another."""

MARKER_SHARE = 0.018
"""Most distance between the markers of a place, as a share of the figure's width: a little more than one is wide."""


def has_several(frame: "pandas.DataFrame") -> bool:
    """Whether any case was measured on more than one kernel."""
    return not on_several(frame).empty


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """A panel for each attention, a place on the x axis for each batch and length, a marker for each kernel."""
    points = shared_points(frame, context)
    rows = with_sides(points.rows)
    looks = looks_of(rows)
    has_floor = bool(rows["floor_us"].notna().all())
    rows = rows.assign(height=rows["latency_us"] / (rows["floor_us"] if has_floor else 1.0))
    drawn = [rows[rows["panel"] == panel] for panel in range(len(points.panels))]
    every_heights = heights_of(drawn, list(looks), has_floor=has_floor)
    share_y = len(set(every_heights)) == 1
    columns = 2 if len(drawn) == 4 else min(len(drawn), MOST_COLUMNS)
    figure, panels = _new_panels(len(drawn), columns, share_y=share_y)
    step = min(SPREAD / (len(looks) - 1), MARKER_SHARE * columns * len(points.places))
    for axes, own, heights, title in zip(panels, drawn, every_heights, points.panels, strict=True):
        heights.lay_out(axes)
        _draw_panel(axes, own, looks, heights, step)
        axes.set_title(title)
    for axes in panels[::columns]:
        axes.set_ylabel("time over the roofline's least time" if has_floor else "time of a call")
    bottom_legend(figure, panels[0].get_legend_handles_labels()[0], MOST_LEGEND_COLUMNS, handle_length=1.5)
    scales = "" if share_y else "; each panel has a scale of its own"
    figure.suptitle(f"{finding(rows, looks)}\n{points.common}{scales}", fontsize=12)
    _set_x(figure, panels, columns, points)
    return figure


def finding(rows: "pandas.DataFrame", looks: dict[str, Look]) -> str:
    """At how many points the first kernel is the fastest, and how long the best of its peers, or the others, takes."""
    first, *others = looks
    peers = [side for side in others if looks[side].peer]
    table = rows.pivot_table(index="case_id", columns="side", values="latency_us")
    ratios = (table[peers or others].min(axis=1) / table[first]).dropna()
    if ratios.empty:
        return f"{looks[first].label} beside others"
    whom = "peer" if peers else "other"
    return (
        f"{looks[first].label} is faster than every {whom} at {(ratios > 1).sum()} of {len(ratios)} points; the best "
        f"{whom} takes {format_ratio(geometric_mean(ratios))} its time in geometric mean"
    )


def _new_panels(count: int, columns: int, *, share_y: bool) -> "tuple[Figure, list[Axes]]":
    """Axes in rows, of which the last may be short of some."""
    lines = -(-count // columns)
    figure = new_figure(FIRST_ROW_INCHES + (lines - 1) * ROW_INCHES, WIDTH_PIXELS / DPI)
    grid = figure.subplots(lines, columns, sharex=True, sharey=share_y, squeeze=False).flatten().tolist()
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def _draw_panel(axes: "Axes", rows: "pandas.DataFrame", looks: dict[str, Look], heights: Heights, step: float) -> None:
    first = next(iter(looks))
    # Side by side, in front of the first, so that equal times do not hide one another.
    asides = {side: step * (number - len(looks) / 2) if number else 0.0 for number, side in enumerate(looks)}
    rows = rows.assign(x=rows["place"] + rows["side"].map(asides))
    for side, look in looks.items():
        own = rows[rows["side"] == side]
        x, y = own["x"].to_numpy(dtype=float), own["height"].to_numpy(dtype=float)
        axes.plot(x, y.clip(max=heights.cut or float("inf")), **look.marks(is_first=side == first))
    if heights.cut:
        above = rows[rows["height"] > heights.cut].sort_values("x")
        for _, own in above.groupby("place"):
            _write_over(axes, (own["x"].mean(), heights.cut), "\n".join(map(heights.text, own["height"])))


def _write_over(axes: "Axes", point: tuple[float, float], text: str) -> None:
    """A line for each marker there, upright."""
    axes.annotate(
        text,
        point,
        xytext=(0, 6),
        textcoords="offset points",
        horizontalalignment="center",
        verticalalignment="bottom",
        rotation=90,
        fontsize=9,
    )


def _set_x(figure: "Figure", panels: "list[Axes]", columns: int, points: SharedPoints) -> None:
    """The places' texts under the panels that have none below, upright where they do not fit side by side."""
    from matplotlib.ticker import FixedFormatter, FixedLocator

    every = -(-len(points.places) // MOST_TICKS)
    axis, lowest = panels[0].xaxis, panels[-columns:]
    axis.set_major_locator(FixedLocator(range(0, len(points.places), every)))
    axis.set_major_formatter(FixedFormatter(points.places[::every]))
    panels[0].set_xlim(-0.7, len(points.places) - 0.3)
    for axes in lowest:
        axes.set_xlabel(points.axis)
        axes.tick_params(axis="x", labelbottom=True, labelsize=10)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in lowest[0].get_xticklabels()]
    if any(right.x0 - left.x1 < LEAST_GAP_PIXELS for left, right in pairwise(boxes)):
        for axes in lowest:
            axes.tick_params(axis="x", rotation=90)
