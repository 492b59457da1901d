"""Statistics that do not assume a distribution; plain Python, so that every layer may use them."""

import math
from collections.abc import Sequence
from statistics import median

Z_95 = 1.959963984540054


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95% interval from order statistics.

    The ranks are those of the binomial distribution's normal approximation (Conover, "Practical Nonparametric
    Statistics", section 3.2), clipped to the sample; under six samples the interval is the whole range.
    """
    ordered = sorted(samples)
    count = len(ordered)
    if count < 6:
        return median(ordered), ordered[0], ordered[-1]
    half_width = Z_95 * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - half_width))
    high = min(count - 1, math.ceil(count / 2 + half_width))
    return median(ordered), ordered[low], ordered[high]


def relative_half_width(samples: Sequence[float]) -> float:
    """Half the width of the median's interval over the median."""
    middle, low, high = median_interval(samples)
    return (high - low) / (2 * middle) if middle > 0 else math.inf


def log_standard_error(samples: Sequence[float]) -> float:
    """Standard error of the logarithm of the median, read off its interval."""
    _, low, high = median_interval(samples)
    return math.log(high / low) / (2 * Z_95) if low > 0 else math.inf


def benjamini_hochberg(p_values: Sequence[float], false_discovery_rate: float) -> tuple[bool, ...]:
    """Which hypotheses are rejected when the expected share of false ones among them is held at the rate.

    Benjamini and Hochberg, "Controlling the false discovery rate", J. R. Stat. Soc. B 57 (1995).
    """
    ordered = sorted(p_values)
    passing = [p for rank, p in enumerate(ordered, start=1) if p <= false_discovery_rate * rank / len(ordered)]
    return tuple(bool(passing) and p <= passing[-1] for p in p_values)
