"""How near a kernel comes to the roofline: six numbers, fitted to measured times.

A call takes a fixed time, one for each query row that is merged at the end, one for expanding cached latents, and then
as long as the roofline says under a share of the measured ceilings. Where memory and arithmetic are level both hold a
kernel up: the two times are joined by a power mean, whose exponent says how sharply the roofline bends (1 adds them,
infinity takes the larger).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlabench.predict.demand import Demand

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

START = (2.0, -6.5, 1.5, 0.5, 0.5, 0.0)
"""Where the fit begins: 7 us, 1.5 ns a row, four fifths of the bandwidth, two thirds of the FLOP rate, exponent two."""

PRIOR_WEIGHT = 0.02
"""What holds a parameter that the points do not tell near its start: little beside the misfit of one point."""

ROUNDS = 200
FAR = 50.0
SHARPEST = 5.0
"""Ends of the parameters: a time of e to the power of 50 us, and an exponent of 150, which takes the larger time."""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What a kernel reaches: fixed times, shares of bandwidth and FLOP rate, the bend of the roofline.

    `merge_us_per_row` counts the rows of `Demand.merged_rows`; `expansion_share` is that of the FLOP rate while cached
    latents are expanded, `flops_share` that of all other products.
    """

    overhead_us: float
    merge_us_per_row: float
    bandwidth_share: float
    flops_share: float
    expansion_share: float
    sharpness: float

    def fixed_us(self, demand: Demand) -> float:
        """What of a call's time its bytes and FLOP do not tell: launching, and merging."""
        return self.overhead_us + self.merge_us_per_row * demand.merged_rows

    def latency_us(self, demand: Demand) -> float:
        """The time of a call."""
        times = demand.memory_us / self.bandwidth_share, demand.compute_us / self.flops_share
        longer = max(times)
        # Divided by the longer, so that no power overflows.
        bent = math.pow(sum(math.pow(time / longer, self.sharpness) for time in times), 1 / self.sharpness)
        return self.fixed_us(demand) + demand.expand_us / self.expansion_share + longer * bent


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured case: what it asks of the GPU, the median of its samples, and the kernel that ran.

    `half` splits cases in two.
    """

    demand: Demand
    latency_us: float
    kernel: str
    half: int


def fit_efficiency(points: Sequence[Measured]) -> Efficiency:
    """The efficiency under which the logarithms of the times are nearest the measured ones, in least squares."""
    import numpy as np

    demands = [point.demand for point in points]
    memory_us, compute_us = (np.array([getattr(d, name) for d in demands]) for name in ("memory_us", "compute_us"))
    expand_us, merged = (np.array([getattr(d, name) for d in demands]) for name in ("expand_us", "merged_rows"))
    measured, start = np.log([point.latency_us for point in points]), np.array(START)

    def misfit(parameters: "Vector") -> "Vector":
        fitted = _efficiency(parameters)
        times = np.stack([memory_us / fitted.bandwidth_share, compute_us / fitted.flops_share])
        longer = times.max(axis=0)
        bent = ((times / longer) ** fitted.sharpness).sum(axis=0) ** (1 / fitted.sharpness)
        others = fitted.overhead_us + fitted.merge_us_per_row * merged + expand_us / fitted.expansion_share
        return np.concatenate([np.log(others + longer * bent) - measured, PRIOR_WEIGHT * (parameters - start)])

    return _efficiency(_least_squares(misfit, start))


def _efficiency(parameters: "Vector") -> Efficiency:
    """Parameters without bounds as an efficiency: times above zero, shares under one, exponent above one."""
    # A step too far is tried and taken back; it must not overflow.
    overhead, merge, *shares, sharpness = (min(max(float(parameter), -FAR), FAR) for parameter in parameters)
    bandwidth, flops, expansion = (1 / (1 + math.exp(-share)) for share in shares)
    exponent = 1 + math.exp(min(sharpness, SHARPEST))
    return Efficiency(math.exp(overhead), math.exp(merge), bandwidth, flops, expansion, exponent)


def _least_squares(misfit: Callable[["Vector"], "Vector"], start: "Vector") -> "Vector":
    """Levenberg and Marquardt's method with difference quotients."""
    import numpy as np

    step_size, damping = 1e-6, 1e-2
    at, residuals = start, misfit(start)
    for _ in range(ROUNDS):
        steps = step_size * np.eye(len(at))
        slopes = np.stack([(misfit(at + step) - residuals) / step_size for step in steps], axis=1)
        normal = slopes.T @ slopes
        move = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slopes.T @ residuals)
        tried = misfit(at + move)
        if tried @ tried < residuals @ residuals:
            at, residuals, damping = at + move, tried, damping / 3
            if np.abs(move).max() < step_size:
                break
        else:
            damping *= 3
    return at
