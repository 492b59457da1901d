"""The page's interactive charts: one row each, drawn beside the figure of the same name.

They need Bokeh; without it the page shows the figures themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mlabench.report.charts import bars, lines, maps, roofline
from mlabench.report.charts.chart import Chart
from mlabench.report.charts.tables import Places
from mlabench.report.series import Context, View

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class ChartRow:
    """A chart: its name, title and how to read it, which may name what `Context.captions` holds, and what makes it.

    It stands in for the figure of the same name, and is drawn where that one is; a chart without a figure, where the
    data `fits`. `listed` are the columns of the table behind it. A `wide` one takes the whole width.
    """

    name: str
    title: str
    caption: str
    make: Callable[[View, Places], Chart]
    listed: tuple[str, ...]
    fits: Callable[["pandas.DataFrame"], bool] = lambda _: False
    wide: bool = False

    def heading(self, context: Context) -> str:
        """The title with the context's values filled in."""
        return self.title.format_map(context.captions)

    def explanation(self, context: Context) -> str:
        """The caption with the context's values filled in."""
        return self.caption.format_map(context.captions)


POINT = ("series", "num_q_heads", "batch", "q_len", "kv_len")
TIME = ("latency_us", "latency_us_low", "latency_us_high")

CHARTS: tuple[ChartRow, ...] = (
    ChartRow(
        "latency",
        "{latency}",
        "Lower is faster; both axes are logarithmic. A line is the fastest kernel of each variant and form; its band "
        "is the median's 95% interval.",
        lines.latency,
        (*POINT, *TIME, "kernel"),
    ),
    ChartRow(
        "kv_bytes",
        "KV-cache bytes per token and layer",
        "What one cached token occupies in one layer, computed from the tensors of the cases, at one precision for "
        "all. Shorter bars fit more tokens into the same memory; mlabench plan says what fits beside weights.",
        bars.kv_bytes,
        ("name", "num_q_heads", "bytes", "held", "label"),
    ),
    ChartRow(
        "speedup",
        "Speed-up over MHA and GQA",
        "The baseline's latency over that of each other variant at the same batch, {length} and heads: above the line "
        "at 1x is faster than the baseline, below is slower. Logarithmic axes.",
        lines.speedup,
        ("over", *POINT, "ratio", "latency_us", "rival.latency_us", "kernel", "rival.kernel"),
    ),
    ChartRow(
        "crossover",
        "Where MLA is faster",
        "The latency of each other variant over MLA's at the same batch and {length}: above 1, in orange, MLA is "
        "faster; below, in blue, slower. In a frame the measured ceilings alone say the opposite: there launches, "
        "waiting and what a kernel does not reach decide.",
        maps.crossover,
        ("over", *POINT, "ratio", "floor_ratio", "latency_us", "rival.latency_us", "kernel", "rival.kernel"),
    ),
    ChartRow(
        "energy",
        "Where MLA takes less energy",
        "The energy of a new token of each other variant over MLA's at the same batch and {length}, from the board's "
        "own counter under sustained load: above 1, in orange, MLA takes less; below, in blue, more.",
        maps.energy,
        ("over", *POINT, "ratio", "energy_j_per_token", "rival.energy_j_per_token"),
    ),
    ChartRow(
        "load",
        "Energy of a token, and power",
        "Under sustained load, where power settles the clock: what a new token costs in one layer (logarithmic axes), "
        "and the board's power while it was measured.",
        lines.load,
        (*POINT, "energy_j_per_token", "power_w", "latency_us"),
        fits=lines.has_load,
    ),
    ChartRow(
        "forms",
        "Absorbed MLA beside its other forms",
        "The latency of each other form of MLA over that of the absorbed one: above 1x the absorbed form is faster, "
        "below it is slower, and a ring with its {length} says where they are level. Dotted: the same of the least "
        "times that the measured ceilings allow. Logarithmic axes.",
        lines.forms,
        ("over", *POINT, "ratio", "floor_ratio", "latency_us", "rival.latency_us"),
    ),
    ChartRow(
        "roofline",
        "Roofline",
        "Every point is faint, those of the chosen heads and batch are strong. Under the slope of the measured "
        "bandwidth, left of the ridge, memory traffic binds; under the flat roof of matrix products, arithmetic. The "
        "nearer a point is to the line above it, the less is left to gain. Intensity counts the least possible "
        "traffic.",
        roofline.roofline,
        (*POINT, "arithmetic_intensity_flops_per_byte", "flops_per_s", "bound", "kernel"),
        wide=True,
    ),
    ChartRow(
        "rates",
        "Achieved bandwidth and FLOP rate",
        "Least bytes of a call, and its FLOP, over its latency. The grey lines are the most that this machine reached "
        "in a plain stream and in a matrix product; the axis of FLOP rates is logarithmic.",
        lines.rates,
        (*POINT, "bandwidth_bytes_per_s", "flops_per_s", "kernel"),
    ),
    ChartRow(
        "floor",
        "Share of the roofline's speed",
        "The least time that the measured ceilings allow over the time taken: 100% cannot be beaten by a kernel that "
        "reads its inputs from memory. A point above it found them in a cache, or the ceiling is too low.",
        lines.floor,
        (*POINT, "fraction_of_floor", "bound", "kernel"),
    ),
)
"""Every chart, in the page's order."""


def can_draw() -> bool:
    """Whether Bokeh is installed."""
    return find_spec("bokeh") is not None
