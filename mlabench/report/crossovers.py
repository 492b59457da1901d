"""Where one line of a view overtakes another as the calls grow, measured and by the roofline alone."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mlabench.report.series import SHAPE, Context, measured

if TYPE_CHECKING:
    import pandas

Cost = tuple[str, str | None]
"""The column of what a call costs, and that of the least it could; None where no bound on it is known."""

LATENCY: Cost = ("latency_us", "floor_us")
ENERGY: Cost = ("energy_j_per_token", None)

_KEY = ["num_q_heads", *SHAPE]


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


def contradicts(ratio: float, floor_ratio: float) -> bool:
    """Whether the roofline's ratio is known and on the other side of 1 than the measured one."""
    return (ratio < 1) != (floor_ratio < 1) and not math.isnan(floor_ratio)


def over(rows: "pandas.DataFrame", rival: str, cost: Cost = LATENCY) -> "pandas.DataFrame":
    """The fastest kernels' rows of the other series where the rival has a point of the same heads and `SHAPE`.

    `ratio` is the rival's cost over theirs, `floor_ratio` that of the least costs, NaN where those are not known.
    """
    spent, least = cost
    base = rows[rows["series"] == rival][[*_KEY, *filter(None, cost)]]
    table = rows[rows["series"] != rival].merge(base, on=_KEY, suffixes=("", "_rival"))
    return table.assign(
        rival=rival,
        ratio=table[f"{spent}_rival"] / table[spent],
        floor_ratio=table[f"{least}_rival"].astype(float) / table[least].astype(float) if least else math.nan,
    )


def ratios(frame: "pandas.DataFrame", series: str, rivals: Iterable[str], cost: Cost = LATENCY) -> "pandas.DataFrame":
    """Points that a series and one of the rivals both measured, with the columns of `over`."""
    import pandas

    rows = measured(frame).dropna(subset=[cost[0]])
    # over the series itself there is no point, and the columns of one
    tables = [over(rows, rival, cost) for rival in (series, *rivals)]
    return pandas.concat([table[table["series"] == series] for table in tables])


def find_crossovers(table: "pandas.DataFrame", context: Context, series: str) -> tuple[Crossover, ...]:
    """A crossover for each rival, head count and panel of a table of `ratios`, along the context's length."""
    keys = ["rival", "num_q_heads", context.panel]
    lines: dict[tuple[str, int, int], list[tuple[int, float, float]]] = {}
    # Of many lines most of the time would go into making a table of each.
    columns = (table[name].tolist() for name in (*keys, context.x, "ratio", "floor_ratio"))
    for rival, heads, panel, *point in zip(*columns, strict=True):
        lines.setdefault((str(rival), int(heads), int(panel)), []).append((int(point[0]), point[1], point[2]))
    return tuple(
        Crossover(series, *key, _known((x, ratio) for x, ratio, _ in points), _known((x, y) for x, _, y in points))
        for key, points in sorted(lines.items())
    )


def _known(points: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """The points whose ratio is known, from the shortest on."""
    return tuple(sorted((x, float(ratio)) for x, ratio in points if not math.isnan(ratio)))
