"""How far two runs of unchanged code lie apart, and what a ratio of their times is worth under that noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, variance
from typing import Protocol

from mlabench.stats import below_effect, log_standard_error, within_effect

CONFIDENCE = 0.90
"""Of a ratio's interval: a one-sided test at 5% on either side, so an interval within bounds is equivalence."""

MIN_BASELINES_FOR_SPREAD = 3
"""From as many baselines on, their own spread counts towards the noise."""

PRIOR_RUNS = 6
"""How many runs' worth of evidence a device's constant is when the baselines' spread is pooled with it."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Noise:
    """What a kind of device does to the time of unchanged code, and the least change that counts.

    `between_run_sd` is the standard deviation of the logarithm of a run's median from one process to the next.
    `min_effect` is a fraction of the baseline's time and `min_effect_us` a time: the larger of the two counts.
    """

    between_run_sd: float
    min_effect: float
    min_effect_us: float


NOISE: Mapping[str, Noise] = {
    "cuda": Noise(between_run_sd=0.006, min_effect=0.05, min_effect_us=1.0),
    "cpu": Noise(between_run_sd=0.05, min_effect=0.40, min_effect_us=2.0),
}
"""By device kind. Graph replays on one GPU repeat to 0.6% from run to run, those of under 20 us to 0.7 us; two cards of
one kind were 2.7% apart where memory binds, and a rare point (3 of 451) came out 10% slower, so keep baselines of the
card itself, and several.
Single-threaded kernels on a shared CPU repeated to 4.6% (median of twelve points, five runs each): where pages lie and
who shares the caches changes from process to process, which no number of samples within one averages out. Under these
`min_effect`s unchanged runs mostly pass, and a point that takes 10% longer on a GPU, or twice as long on a CPU, is
found."""


class AnyRatio(Protocol):
    """What is asked of a ratio of times, be it of two stored runs or of interleaved calls."""

    @property
    def current_us(self) -> float:
        """Time of a call now."""
        ...

    @property
    def baseline_us(self) -> float:
        """Time of a call before."""
        ...

    @property
    def min_effect(self) -> float:
        """Least change that counts, as a fraction."""
        ...

    @property
    def baseline_runs(self) -> int:
        """How many baselines it rests on."""
        ...

    @property
    def value(self) -> float:
        """Above one is slower."""
        ...

    @property
    def interval(self) -> tuple[float, float]:
        """The 90% interval of the ratio."""
        ...

    @property
    def p_slower(self) -> float:
        """Chance of a ratio this high or higher, were there no slow-down that counts."""
        ...

    @property
    def p_faster(self) -> float:
        """Chance of a ratio this low or lower, were there no speed-up that counts."""
        ...

    @property
    def not_slower(self) -> bool:
        """Whether the whole interval lies below the least slow-down that counts."""
        ...

    @property
    def equivalent(self) -> bool:
        """Whether the whole interval lies within the least change that counts, both ways."""
        ...


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median time now over the baselines' (the geometric mean of their medians), with its noise.

    Times are in microseconds. `log_standard_error` is that of the ratio's logarithm and covers the noise within the
    runs and between them. `min_effect` is the least change that counts for this point, as a fraction.
    `baselines_spread` is by how much the slowest baseline exceeds the fastest, as a fraction; 0 of a single one.
    """

    current_us: float
    baseline_us: float
    log_standard_error: float
    min_effect: float
    baseline_runs: int
    baselines_spread: float = 0.0

    @property
    def value(self) -> float:
        """Above one is slower."""
        return self.current_us / self.baseline_us

    @property
    def interval(self) -> tuple[float, float]:
        """The 90% interval of the ratio."""
        reach = math.exp(_NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * self.log_standard_error)
        return self.value / reach, self.value * reach

    @property
    def p_slower(self) -> float:
        """Chance of a ratio this high, or higher, if the true one were no more than `1 + min_effect`."""
        return _NORMAL.cdf((math.log1p(self.min_effect) - math.log(self.value)) / self.log_standard_error)

    @property
    def p_faster(self) -> float:
        """Chance of a ratio this low, or lower, if the true one were no less than `1 / (1 + min_effect)`."""
        return _NORMAL.cdf((math.log1p(self.min_effect) + math.log(self.value)) / self.log_standard_error)

    @property
    def not_slower(self) -> bool:
        """Whether the whole interval lies below the least slow-down that counts."""
        return below_effect(self.interval, self.min_effect)

    @property
    def equivalent(self) -> bool:
        """Whether the whole interval lies within the least change that counts, both ways."""
        return within_effect(self.interval, self.min_effect)


def estimate_ratio(current_us: Sequence[float], baselines_us: Sequence[Sequence[float]], noise: Noise) -> Ratio:
    """The ratio of the runs' medians from their raw positive samples, in microseconds; one sequence a baseline run."""
    levels = [math.log(median(samples)) for samples in baselines_us]
    runs = len(levels)
    between = _between_run_variance(levels, noise) * (1 + 1 / runs)
    within = log_standard_error(current_us) ** 2 + fmean(log_standard_error(s) ** 2 for s in baselines_us) / runs
    baseline_us = math.exp(fmean(levels))
    return Ratio(
        current_us=median(current_us),
        baseline_us=baseline_us,
        log_standard_error=math.sqrt(between + within),
        min_effect=max(noise.min_effect, noise.min_effect_us / baseline_us),
        baseline_runs=runs,
        baselines_spread=math.exp(max(levels) - min(levels)) - 1,
    )


def _between_run_variance(levels: Sequence[float], noise: Noise) -> float:
    constant = noise.between_run_sd**2
    if len(levels) < MIN_BASELINES_FOR_SPREAD:
        return constant
    seen = len(levels) - 1
    return (PRIOR_RUNS * constant + seen * variance(levels)) / (PRIOR_RUNS + seen)
