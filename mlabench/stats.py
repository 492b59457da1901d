"""Statistics of samples, in plain Python, so that every layer may use them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, median

Z_95 = 1.959963984540054


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95% interval, whatever the distribution.

    Between the two pairs of order statistics whose coverage lies next to 95% the ends are interpolated (Hettmansperger
    and Sheather, "Confidence intervals based on interpolated order statistics", Stat. Probab. Lett. 4, 1986). Under six
    samples no pair covers as much, and the interval is the whole range.
    """
    ordered = sorted(samples)
    count = len(ordered)
    if count < 6:
        return median(ordered), ordered[0], ordered[-1]
    rank, weight = _interval_rank(count)
    low = (1 - weight) * ordered[rank - 1] + weight * ordered[rank]
    high = (1 - weight) * ordered[count - rank] + weight * ordered[count - rank - 1]
    return median(ordered), low, high


@lru_cache(maxsize=4096)
def _interval_rank(count: int) -> tuple[int, float]:
    """The rank of the lower end, from 1, and the weight of the next one inwards."""
    if count > 1000:
        # 0.5**count leaves the floating-point range; so many ranks lie close together.
        return math.floor(count / 2 - Z_95 * math.sqrt(count) / 2), 0.0
    tail, rank = 0.5**count, 1
    while (next_tail := tail + math.comb(count, rank) * 0.5**count) <= 0.025:
        tail, rank = next_tail, rank + 1
    share = (0.025 - tail) / (next_tail - tail)
    return rank, (count - rank) * share / (rank + (count - 2 * rank) * share)


def relative_half_width(samples: Sequence[float]) -> float:
    """Half the width of the median's interval over the median."""
    middle, low, high = median_interval(samples)
    return (high - low) / (2 * middle) if middle > 0 else math.inf


def log_standard_error(samples: Sequence[float]) -> float:
    """Standard error of the logarithm of the median, read off its interval."""
    _, low, high = median_interval(samples)
    return math.log(high / low) / (2 * Z_95) if low > 0 else math.inf


def below_effect(interval: tuple[float, float], min_effect: float) -> bool:
    """Whether a ratio's whole interval lies below the least increase that counts, a fraction."""
    return interval[1] < 1 + min_effect


def within_effect(interval: tuple[float, float], min_effect: float) -> bool:
    """Whether a ratio's whole interval lies within the least change that counts, both ways."""
    return interval[0] > 1 / (1 + min_effect) and below_effect(interval, min_effect)


def benjamini_hochberg(p_values: Sequence[float], false_discovery_rate: float) -> tuple[bool, ...]:
    """Which hypotheses are rejected when the expected share of false ones among them is held at the rate.

    Benjamini and Hochberg, "Controlling the false discovery rate", J. R. Stat. Soc. B 57 (1995).
    """
    ordered = sorted(p_values)
    passing = [p for rank, p in enumerate(ordered, start=1) if p <= false_discovery_rate * rank / len(ordered)]
    return tuple(bool(passing) and p <= passing[-1] for p in p_values)


@dataclass(frozen=True, slots=True)
class Level:
    """Where the middle of independent values lies: its estimate, the standard error, and the degrees of freedom."""

    value: float
    standard_error: float
    freedom: int

    def p_above(self, bound: float) -> float:
        """Chance of an estimate this high, or higher, if the middle were no more than `bound`."""
        return student_t_tail((self.value - bound) / self.standard_error, self.freedom)

    def p_below(self, bound: float) -> float:
        """Chance of an estimate this low, or lower, if the middle were no less than `bound`."""
        return student_t_tail((bound - self.value) / self.standard_error, self.freedom)

    def interval(self, tail: float) -> tuple[float, float]:
        """What holds the middle but for a chance of `tail` on either side."""
        reach = student_t_quantile(tail, self.freedom) * self.standard_error
        return self.value - reach, self.value + reach


TRIMMED_SHARE = 0.1
"""Of the values, at either end, that a trimmed mean leaves out."""

LEAST_STANDARD_ERROR = 1e-9
"""Of a level whose values are all alike: nothing that was measured is known better."""


def trimmed_level(values: Sequence[float]) -> Level:
    """The trimmed mean of at least three values, with the standard error that their winsorized variance gives.

    A stray value moves neither far, and heavy tails keep the test's level (Tukey and McLaughlin, "Less vulnerable
    confidence and significance procedures for location based on a single sample", Sankhya A 25 (1963)).
    """
    ordered = sorted(values)
    count = len(ordered)
    cut = int(TRIMMED_SHARE * count)
    kept = ordered[cut : count - cut]
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    centre = fmean(winsorized)
    deviation = math.sqrt(sum((value - centre) ** 2 for value in winsorized) / (count - 1))
    error = deviation / math.sqrt(count) * count / len(kept)
    return Level(fmean(kept), max(error, LEAST_STANDARD_ERROR), len(kept) - 1)


def student_t_tail(t: float, freedom: int) -> float:
    """Chance that Student's t with so many degrees of freedom exceeds `t`."""
    outer = _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return outer if t > 0 else 1 - outer


@lru_cache(maxsize=256)
def student_t_quantile(tail: float, freedom: int) -> float:
    """What Student's t exceeds with the chance `tail`, of under a half."""
    low, high = 0.0, 1.0
    while student_t_tail(high, freedom) > tail:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_tail(middle, freedom) > tail else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function (Abramowitz and Stegun, 26.5)."""
    if x in (0.0, 1.0):
        return x
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of 26.5.8 there, by Lentz's method as Thompson and Barnett keep it from dividing by 0."""
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    value = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1 / ((1 + numerator * d) or tiny)
            c = (1 + numerator / c) or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return value
