"""The roofline: arithmetic intensity against achieved FLOP rate, under the measured ceilings."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.machine.ceilings import Ceilings, ridge_flops_per_byte
from mlabench.report.figures.labels import Label, free_offsets
from mlabench.report.figures.lines import in_order, look
from mlabench.report.series import SHAPE, Context, NothingToShowError, measured
from mlabench.report.style import CEILING_COLOUR, bottom_legend, log_ticks, new_figure
from mlabench.units import format_bandwidth, format_count, format_flop_rate, format_number

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTENSITY = "arithmetic_intensity_flops_per_byte"
SAME_PLACE = 1.15
"""Points of a series within this factor on both axes carry one label."""

Point = tuple[float, float, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """The ceilings in FLOP/s and bytes/s, the intensity where they meet, and the least and most that the axes show."""

    roof: float
    bandwidth: float
    ridge: float
    left: float
    right: float
    bottom: float

    @property
    def top(self) -> float:
        """Where the axis of rates ends: above the roof, with room for its label."""
        return self.roof * 3


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """One point a series and head count: its largest call."""
    if context.ceilings is None or context.dtype not in context.ceilings.matmul_flops_per_s:
        raise NothingToShowError(f"the run holds no measured ceilings for {context.dtype}.")
    rows = measured(frame)
    if rows.empty:
        raise NothingToShowError("no point was measured.")
    rows = rows.sort_values(SHAPE).groupby(["series", "num_q_heads"]).tail(1)
    figure = new_figure(height_inches=5.0)
    axes = figure.subplots()
    _ceilings(axes, rows, context.ceilings, context.dtype)
    handles, labels = {}, []
    for series in sorted(context.series, key=lambda one: -one.style.width):
        points: list[Point] = sorted(_points(rows[rows["series"] == series.name]))
        if not points:
            continue
        x, y, _ = zip(*points, strict=True)
        style = look(series.style) | {"linestyle": "none", "markersize": 9}
        (handles[series.name],) = axes.plot(x, y, label=series.name, **style | {"zorder": 3})
        labels += [Label(*point, series.style.colour) for point in _merged(points)]
    if len(context.all_num_q_heads) > 1:
        _annotate(axes, labels)
    bottom_legend(figure, in_order(handles, context.series))
    return figure


def make_frame(rows: "pandas.DataFrame", ceilings: Ceilings, dtype: str) -> Frame:
    """The ceilings for a dtype that has one, and axes that hold them and all points of the rows."""
    roof, bandwidth = ceilings.matmul_flops_per_s[dtype], ceilings.bandwidth_bytes_per_s
    ridge = ridge_flops_per_byte(ceilings, dtype)
    assert ridge is not None
    left = min(float(rows[INTENSITY].min()), ridge / 10) / 3
    right = max(float(rows[INTENSITY].max()) * 2, ridge * 30)
    bottom = min(float(rows["flops_per_s"].min()), left * bandwidth) / 1.5
    return Frame(roof, bandwidth, ridge, left, right, bottom)


def _points(rows: "pandas.DataFrame") -> list[Point]:
    return [
        (float(x), float(y), int(heads))
        for x, y, heads in zip(rows[INTENSITY], rows["flops_per_s"], rows["num_q_heads"], strict=True)
    ]


def _merged(points: list[Point]) -> list[tuple[float, float, str]]:
    """Points with their head counts as text; neighbours too close for two labels share one."""
    groups: list[list[Point]] = []
    for point in points:
        if groups and all(abs(math.log(point[i] / groups[-1][-1][i])) < math.log(SAME_PLACE) for i in (0, 1)):
            groups[-1].append(point)
        else:
            groups.append([point])
    return [
        (group[0][0], group[0][1], ", ".join(str(heads) for heads in sorted(p[2] for p in group))) for group in groups
    ]


def _annotate(axes: "Axes", labels: list[Label]) -> None:
    for label, offset in zip(labels, free_offsets(labels, axes.get_xlim(), axes.get_ylim()), strict=True):
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=offset,
            textcoords="offset points",
            va="center",
            color=label.dark_colour,
        )


def _ceilings(axes: "Axes", rows: "pandas.DataFrame", ceilings: Ceilings, dtype: str) -> None:
    """The slope, the roof and the ridge point, and axes that hold them and the points."""
    frame = make_frame(rows, ceilings, dtype)
    roof, bandwidth, ridge = frame.roof, frame.bandwidth, frame.ridge
    left, right, bottom = frame.left, frame.right, frame.bottom
    axes.plot([left, ridge, right], [left * bandwidth, roof, roof], color=CEILING_COLOUR, linewidth=1.8)
    axes.plot([ridge, ridge], [bottom, roof], color=CEILING_COLOUR, linewidth=1.2, linestyle=":")
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, frame.top))
    axes.set_xlabel("arithmetic intensity (FLOP per byte moved)")
    axes.set_ylabel("achieved FLOP rate")
    log_ticks(axes.xaxis, format_number, left, right)
    log_ticks(axes.yaxis, format_flop_rate, bottom, roof)
    style: dict[str, Any] = {"textcoords": "offset points", "color": CEILING_COLOUR}
    axes.annotate(f"{dtype} matmul {format_flop_rate(roof)}", (right, roof), xytext=(-4, 6), ha="right", **style)
    x = left**0.25 * ridge**0.75
    axes.annotate(f"memory {format_bandwidth(bandwidth)}", (x, x * bandwidth), xytext=(-12, 6), ha="right", **style)
    axes.annotate(f"ridge {format_count(ridge, 'FLOP/byte')}", (ridge, bottom), xytext=(6, 8), **style)
