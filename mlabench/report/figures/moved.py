"""The points of two runs that moved farthest: the ratio of the times with its interval, a line a point."""

from typing import TYPE_CHECKING

from mlabench.report.figures.lines import look
from mlabench.report.moved import SERIES, Moved
from mlabench.report.style import CEILING_COLOUR, bottom_legend, new_figure, ratio_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGE_INCHES, ROW_INCHES = 1.6, 0.22


def draw(moved: Moved) -> "Figure":
    """Ratios along a logarithmic axis, 1 marked; those right of it are slower now."""
    points, names = moved.drawn, moved.names
    figure = new_figure(EDGE_INCHES + ROW_INCHES * max(3, len(points)))
    axes = figure.subplots()
    handles = []
    for series in SERIES:
        places = [place for place, point in enumerate(points) if point.verdict == series.name]
        if not places:
            continue
        own = [points[place] for place in places]
        axes.hlines(places, *zip(*(point.interval for point in own), strict=True), color=series.style.colour)
        marks = look(series.style) | {"linestyle": "none", "markersize": 7, "zorder": 3}
        handles += axes.plot([point.ratio for point in own], places, label=series.name, **marks)
    axes.axvline(1, color=CEILING_COLOUR, linewidth=1.2, zorder=1)
    axes.set_xscale("log")
    ratio_axis(axes.xaxis, *axes.get_xlim())
    axes.set_yticks(range(len(points)), names[: len(points)], fontsize=9)
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.set_xlabel("time now over time before, 90% interval")
    bottom_legend(figure, handles, len(SERIES), handle_length=1.2)
    return figure
