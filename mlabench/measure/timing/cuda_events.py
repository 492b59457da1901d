"""Eager calls between CUDA events: what a framework without graphs sees.

Where the host is slower than the flush before a call, its launch gaps are in the time.
"""

from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import ClassVar

from mlabench.measure.timing import cuda
from mlabench.measure.timing.method import Call, SampledTimer, Samples, nothing


@dataclass(frozen=True, slots=True)
class CudaEventsTimer(SampledTimer):
    """The call launched eagerly."""

    method: ClassVar[str] = "events"
    caches: ClassVar[tuple[str, ...]] = cuda.CACHES

    cache: str = "cold"

    def warm_up(self, call: Call, before_sample: Call) -> int:
        """Repeat the call as it is sampled."""
        return cuda.warm_up(call, before_sample, self.cache)

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        """Time calls with events around each."""
        return cuda.timed_batch(count, call, before_sample, self.cache)

    def overhead_us(self) -> float:
        """What is read for a kernel that stores one number."""
        return events_overhead_us()


@cache
def events_overhead_us() -> float:
    """What the events read for an eager kernel that stores one number, in microseconds."""
    return median(cuda.timed_batch(20, cuda.store_one(), nothing, "cold").times_us)
