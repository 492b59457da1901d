"""Replays back to back for seconds: clocks, power and temperature as they settle under load."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mlabench.measure.timing import cuda
from mlabench.measure.timing.cuda_graph import graph_overhead_us
from mlabench.measure.timing.method import Budget, Call, SampledTimer, Samples, nothing
from mlabench.records.record import Timing

if TYPE_CHECKING:
    from torch.cuda import Event

SETTLE_S = 1.0
"""Back-to-back calls before the window, in which power and clocks settle."""

WINDOW_S = 3.0
"""Least length of the window; the energy counter moves in steps of some 0.1 s."""

CHUNK_S = 0.02
"""Aimed length of the run of calls that makes one sample."""

CHUNKS_AHEAD = 2
"""Chunks that the device still has to do while the host waits for one."""


@dataclass(frozen=True, slots=True)
class CudaSustainedTimer(SampledTimer):
    """Graph replays without a pause; a sample is the mean of a chunk of them.

    Nothing is flushed, so that the power is the call's own: inputs beyond the L2 stream from memory all the same,
    smaller ones stay in it.
    """

    method: ClassVar[str] = "sustained"
    caches: ClassVar[tuple[str, ...]] = ("warm",)

    cache: str = "warm"

    def prepare(self, launch: Call) -> Call:
        """Capture the launch into a graph."""
        return cuda.capture(launch)

    def warm_up(self, call: Call, before_sample: Call) -> int:
        """Run for `SETTLE_S`."""
        calls = _calls_a_chunk(call)
        chunks = _run_chunks(call, before_sample, calls, _for_seconds(SETTLE_S), nothing)
        return cuda.WARMUP_CALLS + calls * len(chunks.times_us)

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        """Run `count` chunks."""
        return _run_chunks(call, before_sample, _calls_a_chunk(call), lambda chunk: chunk >= count, nothing)

    def overhead_us(self) -> float:
        """What a single replay of next to nothing takes; back to back, calls pay less of it."""
        return graph_overhead_us()

    def measure(self, launch: Call, before_sample: Call, budget: Budget, observe: Call = nothing) -> Timing:
        """Settle, then run for the budget's `max_s` or `WINDOW_S`, whichever is longer."""
        call = self.prepare(launch)
        warmup_calls = self.warm_up(call, before_sample)
        ended = _for_seconds(max(budget.max_s, WINDOW_S))
        samples = _run_chunks(call, before_sample, _calls_a_chunk(call), ended, observe)
        return Timing(samples.times_us, self.cache, warmup_calls, "time", self.overhead_us(), samples.sm_clocks_mhz)


def _run_chunks(call: Call, before_chunk: Call, calls: int, ended: Callable[[int], bool], observe: Call) -> Samples:
    """Run chunks of calls without letting the device idle until `ended(chunks so far)`; at least one."""
    import torch

    around = cuda.surroundings(torch.cuda.current_device())
    if around.stamps:
        around.stamps.clear()
    waiting: deque[tuple[Event, Event]] = deque()
    times_us: list[float] = []
    queued = 0
    while waiting or not queued:
        while len(waiting) <= CHUNKS_AHEAD and (not queued or not ended(queued)):
            waiting.append(_enqueue_chunk(call, before_chunk, calls, around.mark))
            queued += 1
        start, end = waiting.popleft()
        end.synchronize()
        times_us.append(round(start.elapsed_time(end) * 1e3 / calls, 3))
        observe()
    return Samples(tuple(times_us), around.stamps.clocks_mhz(queued) if around.stamps else None)


def _enqueue_chunk(call: Call, before_chunk: Call, calls: int, mark: Call) -> "tuple[Event, Event]":
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    before_chunk()
    mark()
    start.record()
    for _ in range(calls):
        call()
    end.record()
    mark()
    return start, end


def _calls_a_chunk(call: Call) -> int:
    once_us = min(cuda.timed_batch(cuda.WARMUP_CALLS, call, nothing, "warm").times_us)
    return max(1, math.ceil(CHUNK_S * 1e6 / once_us))


def _for_seconds(seconds: float) -> Callable[[int], bool]:
    deadline = time.monotonic() + seconds
    return lambda _chunks: time.monotonic() >= deadline
