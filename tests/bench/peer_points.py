"""The points of a study: one kernel beside its peers in a run of `mlabench ab`, the floor, and what binds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

from mlabench.cases.case import Case
from mlabench.machine.ceilings import Ceilings
from mlabench.records.conditions import throttled
from mlabench.records.paired_ratio import MIN_BLOCKS, paired_ratio
from mlabench.records.pairs import Pair, load_pairs
from mlabench.records.store import Run
from mlabench.report.interleaved import load_measured
from mlabench.units import format_percent, format_tokens

BAR = 0.93
"""Time of the best peer over ours under which a point is named, unless the command says another."""

EXPLAINED = 0.5
"""Share of a time from which on one ceiling, or what an empty call takes, is said to bind it."""

BEST = "best"
"""What stands for the fastest peer at each point."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A peer's time over ours, with its 90% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """A point. `ours` is the kernel that ran, `ratios` are by peer, `why` says of sides without a time what they lack.

    `overhead_us` is what the timing method reads for an empty call, which `ours_us` contains.
    """

    case: Case
    ours: str
    ours_us: float | None
    ratios: Mapping[str, Ratio]
    ceilings: Ceilings | None
    overhead_us: float | None
    is_throttled: bool
    why: tuple[str, ...]

    @property
    def attention(self) -> str:
        """The variant and its heads: `GQA-8 (64 heads)`."""
        return self.case.variant.label

    @property
    def place(self) -> tuple[str, int, int, int]:
        """What the points are sorted by: variant and form, heads, batch and kv_len."""
        case = self.case
        return self.attention.partition(" (")[0], case.variant.num_q_heads, case.batch, case.kv_len

    @property
    def label(self) -> str:
        """The point in words."""
        return f"{self.attention}, batch {self.case.batch}, {format_tokens(self.case.kv_len)}"

    @property
    def best(self) -> str | None:
        """The fastest peer."""
        return min(self.ratios, key=lambda name: self.ratios[name].value, default=None)

    @property
    def floor_us(self) -> float | None:
        """The roofline's least time."""
        case = self.case
        return self.ceilings.floor_us(case.bytes_moved, case.flops, case.dtype) if self.ceilings else None

    @property
    def shares(self) -> dict[str, float]:
        """What part of our time each ceiling, and an empty call, would take alone."""
        case, ceilings = self.case, self.ceilings
        if ceilings is None or self.ours_us is None:
            return {}
        compute_us = ceilings.compute_us(case.flops, case.dtype)
        alone = {"DRAM": ceilings.memory_us(case.bytes_moved), "tensor cores": compute_us, "launch": self.overhead_us}
        return {name: alone_us / self.ours_us for name, alone_us in alone.items() if alone_us is not None}

    @property
    def binds(self) -> str | None:
        """The largest share; where it is under half, what binds is latency, which no ceiling explains."""
        if not self.shares:
            return None
        share, name = max((share, name) for name, share in self.shares.items())
        text = f"{name} {format_percent(share)}"
        text = text if share >= EXPLAINED else f"latency ({text})"
        return f"{text}, clocks held down" if self.is_throttled else text

    def ratio_to(self, peer: str) -> Ratio | None:
        """The time of a peer, or of `BEST`, over ours."""
        return self.ratios.get((self.best or "") if peer == BEST else peer)

    def rate(self, count: int) -> float | None:
        """So many bytes or FLOP over our time, per second."""
        return count / self.ours_us * 1e6 if self.ours_us else None


@dataclass(frozen=True, slots=True)
class Total:
    """The ratios of one peer over the points of one attention, or of all; `asked` counts those without a time too."""

    peer: str
    attention: str | None
    asked: int
    ratios: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Their geometric mean."""
        return geometric_mean(self.ratios.values())

    @property
    def least_at(self) -> str:
        """The point of the least ratio."""
        return min(self.ratios, key=lambda label: self.ratios[label])

    @property
    def greatest_at(self) -> str:
        """The point of the greatest ratio."""
        return max(self.ratios, key=lambda label: self.ratios[label])

    @property
    def ends(self) -> tuple[float, float]:
        """The least ratio and the greatest."""
        return self.ratios[self.least_at], self.ratios[self.greatest_at]

    def under(self, bar: float) -> list[str]:
        """The points whose ratio is under a bar."""
        return [label for label, value in self.ratios.items() if value < bar]


def study(path: Path, ceilings_path: Path | None = None) -> tuple[Row, ...]:
    """The points of a run in order; it takes the ceilings of a sweep on the same card where it has none."""
    run = load_measured([path] if ceilings_path is None else [ceilings_path, path])[-1]
    by_case: dict[Case, list[Pair]] = {}
    for pair in load_pairs(path):
        by_case.setdefault(pair.case, []).append(pair)
    return tuple(sorted((_row(pairs, run) for pairs in by_case.values()), key=lambda row: row.place))


def totals(rows: Sequence[Row]) -> list[Total]:
    """Of the best peer and of each: by attention, and over all points."""
    found = []
    for peer in (BEST, *peers_of(rows)):
        for attention in (*dict.fromkeys(row.attention for row in rows), None):
            own = [row for row in rows if attention in (row.attention, None)]
            ratios = {row.label: ratio.value for row in own if (ratio := row.ratio_to(peer))}
            found += [Total(peer, attention, len(own), ratios)] if ratios else []
    return found


def _row(pairs: Sequence[Pair], run: Run) -> Row:
    fullest = max(pairs, key=lambda pair: len(pair.blocks))
    case, base = fullest.case, fullest.base
    timed = [pair for pair in pairs if len(pair.blocks) >= MIN_BLOCKS]
    ratios = {_short(pair.candidate.label): paired_ratio(pair.blocks, pair.plan) for pair in timed}
    lacking = {side.label: side for pair in pairs for side in (pair.base, pair.candidate) if side.status != "ok"}
    records = [record for record in run.records if (record.case, record.kernel) == (case, base.label)]
    return Row(
        case,
        _short(str(base.kernel_config.get("kernel", base.label))),
        paired_ratio(fullest.blocks, fullest.plan).baseline_us if timed else None,
        {name: Ratio(ratio.value, *ratio.interval) for name, ratio in ratios.items()},
        run.manifest.ceilings,
        fullest.overhead_us,
        any(throttled(record, run.manifest) for record in records),
        tuple(f"{_short(label)} {side.status or 'not tried'}: {side.reason}" for label, side in lacking.items()),
    )


def peers_of(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row.ratios))


def _short(kernel: str) -> str:
    return re.sub("^(mla|grouped)_(decode|prefill)_", "", kernel)
