"""Where one line of a view overtakes another as the calls grow, measured and by the roofline alone."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mlabench.report.series import SHAPE, Context, measured

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Crossover:
    """At which length a series becomes as fast as its rival, for one head count and one value of the panel's field.

    `points` are the lengths with the rival's latency over the series'; `floor_points` the same of the roofline's least
    times, empty without ceilings.
    """

    series: str
    rival: str
    num_q_heads: int
    panel: int
    points: tuple[tuple[int, float], ...]
    floor_points: tuple[tuple[int, float], ...]

    @property
    def lengths(self) -> tuple[float, ...]:
        """Where the measured ratio passes 1, interpolated between neighbours on logarithmic scales."""
        return crossings(self.points)

    @property
    def floor_lengths(self) -> tuple[float, ...]:
        """Where the roofline's ratio passes 1."""
        return crossings(self.floor_points)


def crossings(points: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """Every place where a ratio passes 1 between neighbouring points, on logarithmic scales."""
    found = []
    for (x0, y0), (x1, y1) in pairwise(points):
        if (y0 < 1) != (y1 < 1):
            share = math.log(y0) / (math.log(y0) - math.log(y1))
            found.append(math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0))))
    return tuple(found)


def ratios(frame: "pandas.DataFrame", series: str, rivals: Iterable[str]) -> "pandas.DataFrame":
    """Points that a series and a rival both measured: `rival`, `ratio` of the rival's latency to the series', and
    `floor_ratio` of their least times, NaN without ceilings."""
    import pandas

    key = ["num_q_heads", *SHAPE]
    rows = measured(frame)
    own = rows[rows["series"] == series][[*key, "latency_us", "floor_us"]]
    tables = []
    for rival in rivals:
        other = rows[rows["series"] == rival][[*key, "latency_us", "floor_us"]]
        pairs = own.merge(other, on=key, suffixes=("", "_rival")).sort_values(key)
        tables.append(
            pairs.assign(
                rival=rival,
                ratio=pairs["latency_us_rival"] / pairs["latency_us"],
                floor_ratio=pairs["floor_us_rival"].astype(float) / pairs["floor_us"].astype(float),
            )
        )
    return pandas.concat(tables) if tables else own.assign(rival="", ratio=0.0, floor_ratio=0.0).iloc[:0]


def find_crossovers(table: "pandas.DataFrame", context: Context, series: str) -> tuple[Crossover, ...]:
    """A crossover for each rival, head count and panel of a table of `ratios`, along the context's length."""
    groups: Any = table.groupby(["rival", "num_q_heads", context.panel], sort=True)
    return tuple(
        Crossover(series, str(rival), int(heads), int(panel), _points(rows, context.x, "ratio"),
                  _points(rows, context.x, "floor_ratio"))
        for (rival, heads, panel), rows in groups
    )  # fmt: skip


def _points(rows: "pandas.DataFrame", x: str, column: str) -> tuple[tuple[int, float], ...]:
    known: Any = rows.dropna(subset=[column]).sort_values(x)
    return tuple((int(length), float(ratio)) for length, ratio in zip(known[x], known[column], strict=True))
