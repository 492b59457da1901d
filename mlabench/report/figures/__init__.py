"""The figures of a report: one file each, and one row here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlabench.report.figures import crossover, floor, forms, kernels, kv_bytes, latency, rates, roofline, speedup
from mlabench.report.series import Context, View

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class FigureRow:
    """A figure: the stem of its file, its title, how to read it, and the function that draws it.

    Title and caption may name in braces what `Context.captions` holds. `draw` raises `NothingToShowError` where the
    data carries no such figure. Data that a figure does not fit is not said to lack it. A figure that is not `measured`
    follows from the cases alone: its title names no phase, and of several views that give the same it is drawn once.
    One of `every_point` draws those too that share no line with others.
    """

    name: str
    title: str
    caption: str
    draw: Callable[["pandas.DataFrame", Context], "Figure"]
    every_head_count: bool = False
    measured: bool = True
    every_point: bool = False
    fits: Callable[["pandas.DataFrame"], bool] = lambda _: True

    def rows(self, view: View) -> "pandas.DataFrame":
        """The rows of a view that `draw` and `fits` are given."""
        return view.every if self.every_point else view.frame

    def heading(self, context: Context) -> str:
        """The title over the picture: what is shown, and of what."""
        return f"{self.name_in(context)}, {context.setting(self.every_head_count, not self.measured)}"

    def name_in(self, context: Context) -> str:
        """The title with the context's values filled in."""
        return self.title.format_map(context.captions)

    def explanation(self, context: Context) -> str:
        """The caption with the context's values filled in."""
        return self.caption.format_map(context.captions)


FIGURES: tuple[FigureRow, ...] = (
    FigureRow(
        "latency",
        "{latency}",
        "Lower is faster; both axes are logarithmic. A line is the fastest kernel of each variant and form at "
        "{heads}; its band is the median's 95% interval. {panels}",
        latency.draw,
    ),
    FigureRow(
        "kv_bytes",
        "KV-cache bytes per token and layer",
        "What one cached token occupies in one layer, computed from the tensors of the cases, at one precision for "
        "all and with {heads}. Shorter bars fit more tokens into the same memory.",
        kv_bytes.draw,
        measured=False,
    ),
    FigureRow(
        "speedup",
        "Speed-up over MHA and GQA",
        "The baseline's latency over that of each other variant at the same batch, {length} and {heads}: above "
        "the line at 1x is faster than the baseline, below is slower. Logarithmic axes. {panels}",
        speedup.draw,
    ),
    FigureRow(
        "crossover",
        "Where MLA is faster",
        "The latency of each other variant over MLA's at the same batch and {length}: above 1x, in orange, MLA is "
        "faster; below, in blue, slower. In a frame the measured ceilings alone say the opposite: there launches, "
        "waiting and what a kernel does not reach decide.",
        crossover.draw,
        every_head_count=True,
    ),
    FigureRow(
        "energy",
        "Where MLA takes less energy",
        "The energy of a new token of each other variant over MLA's at the same batch and {length}, from the board's "
        "own counter under sustained load: above 1x, in orange, MLA takes less; below, in blue, more.",
        crossover.draw_energy,
        every_head_count=True,
        fits=crossover.has_energy,
    ),
    FigureRow(
        "forms",
        "Absorbed MLA beside its other forms",
        "The latency of each other form of MLA over that of the absorbed one, with {heads}: above 1x the absorbed form "
        "is faster, below it is slower, and the number is the {length} at which they are level. Dotted: the same of "
        "the least times that the measured ceilings allow. Logarithmic axes. {panels}",
        forms.draw,
        fits=forms.has_several,
    ),
    FigureRow(
        "roofline",
        "Roofline",
        "Numbers beside the points are query heads; each point is the largest batch at the longest {length} of its "
        "series. Under the slope, left of the ridge, memory traffic binds; under the flat roof, arithmetic binds. "
        "The nearer a point is to the line above it, the less is left to gain. Intensity counts the least possible "
        "traffic.",
        roofline.draw,
        every_head_count=True,
    ),
    FigureRow(
        "rates",
        "Achieved bandwidth and FLOP rate",
        "Least bytes of a call, and its FLOP, over its latency, at batch {batch} and {heads}. The grey lines are "
        "the most that this machine reached in a plain stream and in a matrix product; the right axis is "
        "logarithmic.",
        rates.draw,
    ),
    FigureRow(
        "floor",
        "Share of the roofline's speed",
        "The least time that the measured ceilings allow over the time taken: 100% cannot be beaten by a kernel "
        "that reads its inputs from memory. A point above it found them in a cache, or the ceiling is too low. At "
        "{heads}. {panels}",
        floor.draw,
    ),
    FigureRow(
        "kernels",
        "Kernels side by side",
        "Each kernel's median time over the roofline's least time under the measured ceilings, which is the floor; "
        "where no ceilings were measured, the time itself. Lower is faster; the axes are logarithmic, and beside a "
        "marker that would lie far above all others stands its value. Every point that several kernels measured, in "
        "order of batch and length, also those of settings that the other figures leave out.",
        kernels.draw,
        every_head_count=True,
        every_point=True,
        fits=kernels.has_several,
    ),
)
"""Every figure, in the report's order."""
