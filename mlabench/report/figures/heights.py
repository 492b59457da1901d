"""The y axes of panels of kernels side by side: what each must show, and what lies too far above."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from mlabench.report.style import CEILING_COLOUR, log_ticks
from mlabench.units import format_latency, format_ratio

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

FAR = 2.0
"""A time so many times as long as any that must be seen is not drawn to scale."""

UNLIKE = 0.5
"""Where a panel would fill less than this share of a common axis, each has its own."""

LEAST_RANGE = 1.5
"""The greatest over the least value of an axis, at least: a shorter one would make much of small differences."""

NARROW = 4.0
"""Range of an axis under which its ticks are those of a linear one."""

MARGIN = 0.08
"""Room for markers at both ends, as a share of what lies between."""


@dataclass(frozen=True, slots=True)
class Heights:
    """A y axis of times over the floor, or of times: the least, the greatest that must be seen, and the greatest.

    To be seen are, at each point, the first kernel and the fastest other.
    """

    least: float
    seen: float
    greatest: float
    has_floor: bool

    @property
    def range_to_see(self) -> float:
        """The greatest that must be seen over the least value."""
        return max(self.seen / self.least, LEAST_RANGE)

    @property
    def cut(self) -> float | None:
        """At what height times are drawn that lie too far above."""
        return self._top * self._margin if self._is_cut else None

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of the axis, with room for markers, and for the numbers over a cut."""
        return self.least / self._margin, self._top * self._margin ** (4 if self._is_cut else 1)

    @property
    def _is_cut(self) -> bool:
        return self.greatest > FAR * self.seen

    @property
    def _top(self) -> float:
        seen = self.least * self.range_to_see
        return seen if self._is_cut else max(seen, self.greatest)

    @property
    def _margin(self) -> float:
        return float((self._top / self.least) ** MARGIN)

    def text(self, height: float) -> str:
        """A value of the axis."""
        return format_ratio(height) if self.has_floor else format_latency(height)

    def lay_out(self, axes: "Axes") -> None:
        """Set the axis, and draw the floor and the cut."""
        from matplotlib.ticker import FixedLocator, MaxNLocator

        low, high = self.limits
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        axis = axes.yaxis
        log_ticks(axis, self._tick_text, low, high)
        if high / low < NARROW:
            axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
        if self.has_floor:
            axes.axhline(1, color=CEILING_COLOUR, linewidth=1.6)
        if self.cut:
            axis.set_major_locator(FixedLocator([tick for tick in axis.get_majorticklocs() if tick < self.cut]))
            axes.axhline(self.cut, color=CEILING_COLOUR, linewidth=1, linestyle=":", zorder=1)

    def _tick_text(self, height: float) -> str:
        return "floor" if self.has_floor and height == 1 else self.text(height)


def heights_of(drawn: "Sequence[pandas.DataFrame]", sides: list[str], *, has_floor: bool) -> list[Heights]:
    """The y axis of each panel's rows, by their `height`: the same, unless a panel would be pressed into a part of it.

    `sides` has the first kernel before the others.
    """
    own = [_own_heights(rows, sides, has_floor) for rows in drawn]
    common = Heights(
        min(one.least for one in own), max(one.seen for one in own), max(one.greatest for one in own), has_floor
    )
    is_pressed = min(log(one.range_to_see) for one in own) < UNLIKE * log(common.range_to_see)
    return own if is_pressed else [common] * len(own)


def _own_heights(rows: "pandas.DataFrame", sides: list[str], has_floor: bool) -> Heights:
    table = rows.pivot_table(index="case_id", columns="side", values="height").reindex(columns=sides)
    seen = table[sides[:1]].assign(best=table[sides[1:]].min(axis=1)).to_numpy(dtype=float)
    least, greatest = float(rows["height"].min()), float(rows["height"].max())
    return Heights(min(least, 1.0) if has_floor else least, float(seen[seen > 0].max()), greatest, has_floor)
