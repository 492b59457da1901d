"""How near kernels come to the roofline: four numbers for each set of tensors, fitted to measured times.

A call takes a fixed time, and then as long as the roofline says under a share of the measured ceilings. Where memory
and arithmetic are level both hold a kernel up: the two times are joined by a power mean, whose exponent says how
sharply the roofline bends (1 adds them, infinity takes the larger).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

START = (2.0, 1.5, 0.5, 0.0)
"""Where the fit begins: 7 us, four fifths of the bandwidth, two thirds of the FLOP rate, an exponent of two."""

PRIOR_WEIGHT = 0.02
"""What holds a parameter that the points do not tell near its start: little beside the misfit of one point."""

ROUNDS = 200
FAR = 50.0
SHARPEST = 5.0
"""Ends of the parameters: a time of e to the power of 50 us, and an exponent of 150, which takes the larger time."""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What kernels of one contract reach: a fixed time, shares of bandwidth and FLOP rate, the bend of the roofline."""

    overhead_us: float
    bandwidth_share: float
    flops_share: float
    sharpness: float

    def latency_us(self, memory_us: float, compute_us: float) -> float:
        """The time of a call from the two times of its roofline."""
        times = memory_us / self.bandwidth_share, compute_us / self.flops_share
        longer = max(times)
        # Divided by the longer, so that no power overflows.
        bent = math.pow(sum(math.pow(time / longer, self.sharpness) for time in times), 1 / self.sharpness)
        return self.overhead_us + longer * bent


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured case: the two times of its roofline, and the median of its samples; `half` splits cases in two."""

    memory_us: float
    compute_us: float
    latency_us: float
    half: int


def fit_efficiency(points: Sequence[Measured]) -> Efficiency:
    """The efficiency under which the logarithms of the times are nearest the measured ones, in least squares."""
    import numpy as np

    memory_us = np.array([point.memory_us for point in points])
    compute_us = np.array([point.compute_us for point in points])
    measured = np.log([point.latency_us for point in points])
    start = np.array(START)

    def misfit(parameters: "Vector") -> "Vector":
        fitted = _efficiency(parameters)
        times = np.stack([memory_us / fitted.bandwidth_share, compute_us / fitted.flops_share])
        longer = times.max(axis=0)
        bent = ((times / longer) ** fitted.sharpness).sum(axis=0) ** (1 / fitted.sharpness)
        return np.concatenate(
            [np.log(fitted.overhead_us + longer * bent) - measured, PRIOR_WEIGHT * (parameters - start)]
        )

    return _efficiency(_least_squares(misfit, start))


def _efficiency(parameters: "Vector") -> Efficiency:
    """Parameters without bounds as an efficiency: time above zero, shares under one, exponent above one."""
    # A step too far is tried and taken back; it must not overflow.
    overhead, bandwidth, flops, sharpness = (min(max(float(parameter), -FAR), FAR) for parameter in parameters)
    return Efficiency(math.exp(overhead), _share(bandwidth), _share(flops), 1 + math.exp(min(sharpness, SHARPEST)))


def _share(parameter: float) -> float:
    return 1 / (1 + math.exp(-parameter))


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
