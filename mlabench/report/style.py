"""How figures look: one colour, marker and line for each variant and form, the same in every figure.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart with every kind of colour vision;
their yellow is darkened, for white would swallow it. Markers and lines tell the series apart in grey.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.units import format_ratio

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LineStyle = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Style:
    """The look of one variant and form, and of which size of its groups where a run has several."""

    variant: str
    form: str | None
    colour: str
    marker: str
    line: LineStyle
    width: float = 1.8
    place: int = 0


STYLES: tuple[Style, ...] = (
    Style("mha", None, "#000000", "s", "--"),
    Style("gqa", None, "#0072B2", "o", "-."),
    Style("gqa", None, "#56B4E9", "h", (0, (4, 1, 1, 1, 1, 1)), place=1),
    Style("mqa", None, "#CC79A7", "v", (0, (1, 1))),
    Style("mla", "absorbed", "#D55E00", "D", "-", width=2.8),
    Style("mla", "recompute", "#E69F00", "^", (0, (5, 2, 1, 2, 1, 2))),
    Style("mla", "expanded", "#009E73", "X", (0, (7, 2))),
    Style("mla", "premultiplied", "#8A7A00", "P", (0, (3, 2, 1, 2))),
)
"""One row a series, in the order of legends."""

CEILING_COLOUR = "#555555"

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.titlesize": 13,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "svg.hashsalt": "mlabench",
}
"""Settings of matplotlib under which every figure is drawn and saved."""

SIZE_INCHES = (8.0, 4.5)
DPI = 150


def new_figure(height_inches: float = SIZE_INCHES[1], width_inches: float = SIZE_INCHES[0]) -> "Figure":
    """An empty figure, by default 1200 pixels wide as PNG, that keeps its parts from overlapping."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), dpi=DPI, layout="constrained")


def bottom_legend(
    figure: "Figure", handles: Sequence[Any], columns: int = 3, handle_length: float | None = None
) -> None:
    """One legend for the whole figure, under the panels; markers without a line need a shorter handle than `RC` has."""
    columns = min(columns, len(handles))
    # matplotlib fills a legend column by column; people read it row by row.
    by_row = [handle for column in range(columns) for handle in handles[column::columns]]
    spacing = {"columnspacing": 1.6, "handlelength": handle_length}
    figure.legend(handles=by_row, loc="outside lower center", ncols=columns, **spacing)


def thinned(values: Sequence[float], most: int) -> list[float]:
    """At most about `most` of the sorted positive values, apart on a logarithmic axis; both ends stay."""
    if len(values) < 3 or most < 2:
        return list(values)
    apart = (values[-1] / values[0]) ** (0.999 / (most - 1))
    kept = [values[0]]
    for value in values[1:-1]:
        if value >= kept[-1] * apart and values[-1] >= value * apart:
            kept.append(value)
    return [*kept, values[-1]]


def log_steps(low: float, high: float) -> tuple[float, ...]:
    """Which multiples of the powers of ten are labelled on a logarithmic axis whose data spans `low` to `high`."""
    return (1, 2, 5) if high / low < 30 else (1, 3) if high / low < 1000 else (1,)


def log_ticks(axis: "Axis", text: Any, low: float, high: float) -> None:
    """Labelled ticks on a logarithmic axis whose data spans `low` to `high`: 1, 2, 5, 10 where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(base=10, subs=log_steps(low, high), numticks=6 if high / low >= 1000 else 12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def ratio_axis(axis: "Axis", low: float, high: float) -> None:
    """Labelled ticks on a logarithmic axis of ratios that ends at `low` and `high`."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    ticks = ratio_ticks(low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter([format_ratio(tick) for tick in ticks]))


def value_ticks(axis: "Axis", values: Sequence[float], text: Any, most: int) -> None:
    """Ticks at the measured values themselves, thinned to what fits."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    shown = thinned(sorted(set(values)), most)
    axis.set_major_locator(FixedLocator(shown))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter([text(value) for value in shown]))


RATIO_STEPS = ((1.2, 0.02), (1.6, 0.1), (2.6, 0.2))
"""How far apart the ticks around 1 are on an axis of ratios that spans up to so much."""

ROUND_RATIOS = ((12.0, (1, 1.5, 2, 3, 5, 7)), (30.0, (1, 2, 5)), (3000.0, (1, 3)))
"""Which multiples of the powers of ten they are on one that spans more."""


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round ratios between the ends of a logarithmic axis around 1: the finer, the less it spans."""
    step = next((step for most, step in RATIO_STEPS if high / low <= most), None)
    if step:
        ticks = [round(step * place, 6) for place in range(1, round(high / step) + 1)]
    else:
        factors = next((factors for most, factors in ROUND_RATIOS if high / low <= most), (1,))
        ticks = [float(f"{factor}e{power}") for power in range(-6, 7) for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]
