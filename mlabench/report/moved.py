"""What moved between two runs: each point's ratio with its interval and verdict, as whoever judged them hands it on."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from mlabench.cases.case import Case
from mlabench.records.store import Run
from mlabench.report.series import Series
from mlabench.report.style import Style
from mlabench.units import format_latency, format_percent, format_ratio, format_ratio_interval, format_tokens

MOST_DRAWN = 20
"""Points of the chart, those that moved farthest."""

SERIES: tuple[Series, ...] = (
    Series("slower", Style("moved", None, "#D55E00", "^", "-")),
    Series("faster", Style("moved", None, "#0072B2", "v", "-")),
    Series("inconclusive", Style("moved", None, "#CC79A7", "X", "-")),
    Series("not slower", Style("moved", None, "#E69F00", "D", "-")),
    Series("same", Style("moved", None, "#555555", "o", "-")),
)
"""The verdicts of points with a ratio, and their looks."""

CAPTION = (
    "The time now over the time before, with its 90% interval, on a logarithmic axis: right of the line at 1x is "
    f"slower now, left of it faster. At most {MOST_DRAWN} points are drawn, those that moved farthest."
)


@dataclass(frozen=True, slots=True)
class MovedPoint:
    """A case on a kernel in both runs: its verdict, the ratio of the current time to the base's with its 90% interval.

    Times are in microseconds. `note` tells the reason of the verdict, and what makes the times doubtful.
    """

    case: Case
    kernel: str
    method: str
    verdict: str
    ratio: float
    interval: tuple[float, float]
    base_us: float
    current_us: float
    note: str = ""

    @property
    def distance(self) -> float:
        """How far it moved, up or down alike."""
        return abs(math.log(self.ratio))

    @property
    def ratio_text(self) -> str:
        """`1.031x [1.009, 1.052]`."""
        return format_ratio_interval(self.ratio, *self.interval)


@dataclass(frozen=True, slots=True)
class Other:
    """Points without a ratio, counted by what became of them; `reason` is the first one's."""

    verdict: str
    points: int
    reason: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A run held against an earlier one: the points that both timed, the farthest first, and what became of others.

    `least` says from which change on one counts, `warnings` what differs between the runs beside the times.
    """

    base: Run
    current: Run
    points: tuple[MovedPoint, ...]
    others: tuple[Other, ...]
    least: str
    warnings: tuple[str, ...]

    @property
    def title(self) -> str:
        """Which run is held against which."""
        return f"{self.current.name} against {self.base.name}"

    @property
    def summary(self) -> str:
        """How many points moved which way, and by how much all of them did together."""
        counts = Counter(point.verdict for point in self.points)
        tally = ", ".join(f"{counts[one.name]} {one.name}" for one in SERIES if counts[one.name])
        mean = format_ratio(mean_ratio(self.points))
        ratios = sorted(point.ratio for point in self.points)
        ends = f"from {format_ratio(ratios[0])} to {format_ratio(ratios[-1])}"
        points = f"{len(self.points)} point{'' if len(self.points) == 1 else 's'}"
        return f"{points} timed in both: {tally}. The ratio of the times is {mean} in geometric mean, {ends}."

    @property
    def drawn(self) -> tuple[MovedPoint, ...]:
        """The points of the chart."""
        return self.points[:MOST_DRAWN]

    @property
    def names(self) -> tuple[str, ...]:
        """What each point is called: no two are called alike, and of what is the same of all little is told."""
        several = [name for name in _FIELDS if len({getattr(point.case, name) for point in self.points}) > 1]
        names = [_name(point.case, several) for point in self.points]
        alike: dict[str, list[MovedPoint]] = {}
        for name, point in zip(names, self.points, strict=True):
            alike.setdefault(name, []).append(point)
        return tuple(_apart(name, point, alike[name]) for name, point in zip(names, self.points, strict=True))

    @property
    def facts(self) -> tuple[tuple[str, str, str], ...]:
        """What is known of the two runs: the name of the fact, the base's, and the current one's."""
        sides = zip(_facts(self.base), _facts(self.current), strict=True)
        return tuple((name, base, current) for (name, base), (_, current) in sides)

    @property
    def kernels(self) -> tuple[tuple[str, str, str, str], ...]:
        """Of each kernel its name, how many points, their ratios' geometric mean, and how many of each verdict."""
        ordered = sorted(self.points, key=lambda point: point.kernel)
        return tuple(_kernel(name, list(points)) for name, points in groupby(ordered, key=lambda point: point.kernel))


_FIELDS = ("q_len", "kv_len_dist", "page_size", "dtype", "phase", "scope")


def mean_ratio(points: Sequence[MovedPoint]) -> float:
    """The geometric mean of the ratios."""
    return math.exp(fmean(math.log(point.ratio) for point in points))


def cells(point: MovedPoint) -> tuple[str, ...]:
    """What a table tells of a point behind its name: verdict, times before and now, ratio, and note."""
    return point.verdict, format_latency(point.base_us), format_latency(point.current_us), point.ratio_text, point.note


def _name(case: Case, several: Sequence[str]) -> str:
    texts = {
        "q_len": f"q_len {format_tokens(case.q_len)}",
        "kv_len_dist": case.kv_len_dist,
        "page_size": f"pages of {case.page_size}",
        "dtype": case.dtype,
        "phase": case.phase,
        "scope": f"layer of {case.hidden_size}" if case.scope == "layer" else "core",
    }
    words = [case.variant.label, f"batch {case.batch}", f"kv_len {format_tokens(case.kv_len)}"]
    return ", ".join(words + [texts[name] for name in several])


def _apart(name: str, point: MovedPoint, alike: Sequence[MovedPoint]) -> str:
    """The name with what tells the point from others of this name: a size, the kernel, the timing method."""
    fields = [{**one.case.to_fields(), "kernel": one.kernel, "method": one.method} for one in alike]
    own = fields[alike.index(point)]
    return ", ".join([name, *(f"{key} {own[key]}" for key in own if len({other.get(key) for other in fields}) > 1)])


def _facts(run: Run) -> list[tuple[str, str]]:
    manifest, machine = run.manifest, run.manifest.fingerprint
    provenance = manifest.provenance
    changed = " with uncommitted changes" if provenance.get("dirty") else ""
    versions = f"torch {machine.torch}, Triton {machine.triton or 'none'}"
    return [
        ("run", str(run.path)),
        ("machine", f"{machine.device_name}, {versions}"),
        ("commit", f"{str(provenance.get('commit') or 'unknown')[:12]}{changed}"),
        ("started", manifest.created_at),
    ]


def _kernel(name: str, points: Sequence[MovedPoint]) -> tuple[str, str, str, str]:
    counts = Counter(point.verdict for point in points)
    tally = ", ".join(f"{counts[one.name]} {one.name}" for one in SERIES if counts[one.name])
    return name, str(len(points)), format_ratio(mean_ratio(points)), tally


def least_text(min_effect: float, min_effect_us: float) -> str:
    """From which change on one counts, the larger of a fraction and a time."""
    return f"{format_percent(min_effect)} and {format_latency(min_effect_us)}"
