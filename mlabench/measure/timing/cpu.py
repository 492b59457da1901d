"""Wall-clock timing on the CPU, one call a sample, caches as the previous call left them."""

import time
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from mlabench.measure.timing.method import Budget, Call, SampledTimer, Samples, nothing
from mlabench.records.record import Timing

WARMUP_CALLS = 2

LEAST_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class CpuTimer(SampledTimer):
    """`time.perf_counter_ns` around each call."""

    method: ClassVar[str] = "cpu"
    caches: ClassVar[tuple[str, ...]] = ("warm",)

    cache: str = "warm"

    def warm_up(self, call: Call, before_sample: Call) -> int:
        """Call it a few times as it is sampled."""
        self.sample(call, before_sample, WARMUP_CALLS)
        return WARMUP_CALLS

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        """Time calls one by one."""
        return Samples(tuple(_time_us(call, before_sample) for _ in range(count)))

    def overhead_us(self) -> float:
        """What is read for an empty call."""
        return median(self.sample(nothing, nothing, 50).times_us)

    def measure(self, launch: Call, before_sample: Call, budget: Budget, observe: Call = nothing) -> Timing:
        """Sample as every method does; slow calls end the sampling early, but never under `LEAST_SAMPLES`."""
        launch()
        first_us = _time_us(launch, before_sample)
        fitting = max(LEAST_SAMPLES, min(budget.min_samples, int(budget.max_s * 1e6 / max(first_us, 1.0))))
        fitted = Budget(budget.max_s, budget.precision, fitting, max(fitting, budget.max_samples))
        return SampledTimer.measure(self, launch, before_sample, fitted, observe)


def _time_us(call: Call, before_sample: Call) -> float:
    before_sample()
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e3
