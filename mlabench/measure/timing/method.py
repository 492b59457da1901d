"""The interface of a timing method, and the sampling that all methods share."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlabench.records.record import Timing
from mlabench.stats import relative_half_width

Call = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop sampling a point.

    Sampling ends once half the 95% interval of the median is at most `precision` of the median, or after `max_s`
    seconds or `max_samples` samples; never before `min_samples`.
    """

    max_s: float = 1.0
    precision: float = 0.005
    min_samples: int = 10
    max_samples: int = 200


class Timer(Protocol):
    """A timing method bound to a device."""

    @property
    def method(self) -> str:
        """The name stored with every number."""
        ...

    def measure(self, launch: Call, before_sample: Call, budget: Budget) -> Timing:
        """Time calls of `launch`, running `before_sample` before each outside the timed span."""
        ...


def collect(take: Callable[[int], Sequence[float]], budget: Budget) -> tuple[tuple[float, ...], str]:
    """Take batches of samples, in microseconds, until the budget says stop; every sample is kept.

    Returns the samples and what ended the sampling: `precise`, `time` or `samples`.
    """
    deadline = time.monotonic() + budget.max_s
    samples: list[float] = []
    while True:
        wanted = max(1, min(len(samples) or budget.min_samples, 50, budget.max_samples - len(samples)))
        samples += take(wanted)
        if len(samples) < budget.min_samples:
            continue
        if relative_half_width(samples) <= budget.precision:
            return tuple(samples), "precise"
        if time.monotonic() >= deadline:
            return tuple(samples), "time"
        if len(samples) >= budget.max_samples:
            return tuple(samples), "samples"
