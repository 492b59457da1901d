"""Eager calls between CUDA events: what a framework without graphs sees.

Where the host is slower than the flush before a call, its launch gaps are in the time.
"""

from dataclasses import dataclass
from typing import ClassVar

from mlabench.measure.timing.cuda import timed_batch, warm_up
from mlabench.measure.timing.method import Budget, Call, collect
from mlabench.records.record import Timing


@dataclass(frozen=True, slots=True)
class CudaEventsTimer:
    """The call launched eagerly, with a cold L2 before each."""

    method: ClassVar[str] = "events"

    def measure(self, launch: Call, before_sample: Call, budget: Budget) -> Timing:
        """Warm up and time eager calls."""
        warmup_calls = warm_up(launch, before_sample)
        samples, stop = collect(lambda count: timed_batch(count, launch, before_sample), budget)
        return Timing(samples, "cold", warmup_calls, stop)
