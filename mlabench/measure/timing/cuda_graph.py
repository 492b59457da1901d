"""CUDA graph replay: the device time of a call, without the host's launch gaps."""

from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import ClassVar

from mlabench.measure.timing import cuda
from mlabench.measure.timing.method import Call, SampledTimer, Samples, nothing

COPIES = 16
"""Graphs of one launch. Where a graph's parameters lie in memory shifts its cold replays by 0.1 us (standard deviation)
and stays the same over all samples, so that more of these cannot average it out."""


@dataclass(frozen=True, slots=True)
class CudaGraphTimer(SampledTimer):
    """The call captured once and replayed. The default on a GPU."""

    method: ClassVar[str] = "graph"
    caches: ClassVar[tuple[str, ...]] = cuda.CACHES

    cache: str = "cold"

    def prepare(self, launch: Call) -> Call:
        """Capture the launch into graphs; their replays, in turn, are what is timed."""
        return cuda.capture(launch, COPIES)

    def warm_up(self, call: Call, before_sample: Call) -> int:
        """Repeat the replay as it is sampled, after the calls that capturing took."""
        return cuda.WARMUP_CALLS + cuda.warm_up(call, before_sample, self.cache)

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        """Time replays with events around each."""
        return cuda.timed_batch(count, call, before_sample, self.cache)

    def overhead_us(self) -> float:
        """What is read for a graph that stores one number."""
        return graph_overhead_us()


@cache
def graph_overhead_us() -> float:
    """What the events read for the replay of a graph that stores one number, in microseconds."""
    return median(cuda.timed_batch(3 * COPIES, cuda.capture(cuda.store_one(), COPIES), nothing, "cold").times_us)
