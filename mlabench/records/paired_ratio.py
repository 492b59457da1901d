"""The ratio that the blocks of an interleaved comparison give, and what it is worth when they are looked at often."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mlabench.records.pairs import Block, Plan
from mlabench.stats import Level, below_effect, trimmed_level, within_effect

ERROR_RATE = 0.05
"""Chance on either side that the true ratio lies outside of the interval; an interval within bounds is equivalence."""

MIN_BLOCKS = 5
"""Fewer are no ground for a verdict."""


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """Time of the candidate over the base's: the trimmed mean over blocks of the logarithm of their ratio.

    `baseline_us` is the median of all the base's calls. Every chance is multiplied by `looks`, how often at most the
    blocks were to be judged, and the interval is as much wider (Bonferroni): they hold wherever sampling stopped.
    `min_effect` is the least change that counts, as a fraction.
    """

    baseline_us: float
    level: Level
    looks: int
    min_effect: float
    baseline_runs: int = 1

    @property
    def current_us(self) -> float:
        """The base's time by the ratio, in microseconds."""
        return self.baseline_us * self.value

    @property
    def value(self) -> float:
        """Above one is slower."""
        return math.exp(self.level.value)

    @property
    def interval(self) -> tuple[float, float]:
        """The 90% interval of the ratio."""
        low, high = self.level.interval(ERROR_RATE / self.looks)
        return math.exp(low), math.exp(high)

    @property
    def p_slower(self) -> float:
        """Chance of a ratio this high, or higher, if the true one were no more than `1 + min_effect`."""
        return min(1.0, self.looks * self.level.p_above(math.log1p(self.min_effect)))

    @property
    def p_faster(self) -> float:
        """Chance of a ratio this low, or lower, if the true one were no less than `1 / (1 + min_effect)`."""
        return min(1.0, self.looks * self.level.p_below(-math.log1p(self.min_effect)))

    @property
    def not_slower(self) -> bool:
        """Whether the whole interval lies below the least slow-down that counts."""
        return below_effect(self.interval, self.min_effect)

    @property
    def equivalent(self) -> bool:
        """Whether the whole interval lies within the least change that counts, both ways."""
        return within_effect(self.interval, self.min_effect)

    def is_decided(self, certain_p: float) -> bool:
        """Whether more blocks could not change the verdict: a change this certain, or none that counts."""
        return self.p_slower <= certain_p or self.p_faster <= certain_p or self.equivalent


def paired_ratio(blocks: Sequence[Block], plan: Plan) -> PairedRatio:
    """The ratio of times that at least `MIN_BLOCKS` blocks give."""
    return _ratio(blocks, [block.log_ratio for block in blocks], plan)


def paired_cycles(blocks: Sequence[Block], plan: Plan) -> PairedRatio | None:
    """The same of SM clock cycles, over the blocks that have clocks; None where those are under half of them.

    A chunk lacks its clocks where the counters of two multiprocessors were read, which no time depends on.
    """
    values = [value for block in blocks if (value := block.log_cycles_ratio) is not None]
    return _ratio(blocks, values, plan) if len(values) >= max(MIN_BLOCKS, len(blocks) / 2) else None


def _ratio(blocks: Sequence[Block], log_ratios: Sequence[float], plan: Plan) -> PairedRatio:
    base_us = median([time_us for block in blocks for time_us in block.base_us])
    min_effect = max(plan.min_effect, plan.min_effect_us / base_us)
    return PairedRatio(base_us, trimmed_level(log_ratios), len(plan.looks), min_effect)
