"""Wall-clock timing on the CPU, one call a sample, caches as the previous call left them."""

import time
from dataclasses import dataclass
from typing import ClassVar

from mlabench.measure.timing.method import Budget, Call, collect
from mlabench.records.record import Timing

WARMUP_CALLS = 2

LEAST_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class CpuTimer:
    """`time.perf_counter_ns` around each call."""

    method: ClassVar[str] = "cpu"

    def measure(self, launch: Call, before_sample: Call, budget: Budget) -> Timing:
        """Time calls one by one; slow calls end the sampling early, but never under `LEAST_SAMPLES`."""
        for _ in range(WARMUP_CALLS):
            launch()
        first_us = _sample(launch, before_sample)
        fitting = max(LEAST_SAMPLES, min(budget.min_samples, int(budget.max_s * 1e6 / max(first_us, 1.0))))
        fitted = Budget(budget.max_s, budget.precision, fitting, max(fitting, budget.max_samples))
        samples, stop = collect(lambda count: [_sample(launch, before_sample) for _ in range(count)], fitted)
        return Timing(samples, "warm", WARMUP_CALLS + 1, stop, _overhead_us())


def _sample(launch: Call, before_sample: Call) -> float:
    before_sample()
    start = time.perf_counter_ns()
    launch()
    return (time.perf_counter_ns() - start) / 1e3


def _overhead_us() -> float:
    return min(_sample(_nothing, _nothing) for _ in range(20))


def _nothing() -> None:
    return None
