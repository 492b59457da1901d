"""What the CUDA methods share: the state of the L2 before a sample, events around it, and the SM clock during it."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mlabench.measure.timing.method import Call, Samples, nothing

if TYPE_CHECKING:
    from torch import Tensor
    from torch.cuda import CUDAGraph

    from mlabench.measure.timing.device_clock import Stamps

CACHES = ("cold", "warm")

FLUSH_FACTOR = 5
"""Bytes read between two samples, in multiples of the L2."""

LEAD_FLUSHES = 4
"""Flushes queued ahead of a batch, so that the host is ahead of the device when it starts."""

WARMUP_CALLS = 3
"""Calls of one warm-up batch; there are several where they are short."""

WARMUP_S = 0.05
"""How long a call is repeated before sampling: some run 15% slower in their first 25 ms on an idle GPU."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is enqueued around a timed call: `flush` reads several times the L2, `mark` stamps the clocks.

    `stamps` is None without Triton.
    """

    flush: Call
    mark: Call
    stamps: "Stamps | None"


@dataclass(frozen=True, slots=True)
class Replay:
    """A captured launch: graphs of it that take turns. It keeps the launch, and so whatever tensors that holds."""

    graphs: "Iterator[CUDAGraph]"
    launch: Call

    def __call__(self) -> None:
        """Enqueue the next graph on the current stream."""
        next(self.graphs).replay()


def warm_up(call: Call, before_sample: Call, cache: str) -> int:
    """Repeat the call for `WARMUP_S` under the conditions of a sample; returns how often it ran."""
    deadline = time.monotonic() + WARMUP_S
    calls = 0
    while True:
        timed_batch(WARMUP_CALLS, call, before_sample, cache)
        calls += WARMUP_CALLS
        if time.monotonic() >= deadline:
            return calls


def timed_batch(count: int, call: Call, before_sample: Call, cache: str) -> Samples:
    """Time `count` calls with CUDA events, the L2 flushed before each.

    With a warm cache an untimed call goes between the flush and the timed one.
    """
    import torch

    around = surroundings(torch.cuda.current_device())
    events = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(count)]  # type: ignore[no-untyped-call]
    if around.stamps:
        around.stamps.clear()
    for _ in range(LEAD_FLUSHES):
        around.flush()
    for start, end in events:
        before_sample()
        around.flush()
        if cache == "warm":
            call()
        around.mark()
        start.record()
        call()
        end.record()
        around.mark()
    torch.cuda.synchronize()
    # Events resolve half a microsecond; the nanosecond is more than they know.
    times_us = tuple(round(start.elapsed_time(end) * 1e3, 3) for start, end in events)
    return Samples(times_us, around.stamps.clocks_mhz(count) if around.stamps else None)


def capture(launch: Call, copies: int = 1) -> Replay:
    """Capture the call into so many CUDA graphs; warms it up on a side stream first.

    They share the memory that is allocated while they are captured, unless the call says by its `outputs` that it
    allocates what it returns: what one graph lets go of would then be another's output, and replays would overwrite it.
    """
    import torch

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP_CALLS):
            launch()
    torch.cuda.current_stream().wait_stream(stream)
    graphs = [torch.cuda.CUDAGraph() for _ in range(copies)]
    shared = None if hasattr(launch, "outputs") else torch.cuda.graph_pool_handle()
    for graph in graphs:
        with torch.cuda.graph(graph, pool=shared):
            launch()
    return Replay(itertools.cycle(graphs), launch)


def store_one() -> Call:
    """A kernel that stores one number: the least that can be timed."""
    import torch

    scalar = torch.zeros((), device="cuda")

    def fill() -> None:
        scalar.fill_(1.0)

    return fill


@cache
def surroundings(device: int) -> Surroundings:
    """The flush and the stamps of a device, each captured in a graph."""
    stamps = _stamps(device)
    buffer, sink = _flush_buffers(device)

    def flush() -> None:
        import torch

        # A read, so that no line of the inputs stays in the L2 and none of the flush's own is dirty.
        torch.sum(buffer, dim=0, out=sink)

    if stamps is None:
        return Surroundings(capture(flush), nothing, None)
    return Surroundings(capture(flush), capture(stamps.mark), stamps)


def _stamps(device: int) -> "Stamps | None":
    try:
        from mlabench.measure.timing.device_clock import Stamps
    except ImportError:
        return None
    return Stamps(device)


def _flush_buffers(device: int) -> "tuple[Tensor, Tensor]":
    import torch

    l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    elements = FLUSH_FACTOR * max(l2_bytes, 32 << 20) // 4
    return torch.ones(elements, device=f"cuda:{device}"), torch.empty((), device=f"cuda:{device}")
