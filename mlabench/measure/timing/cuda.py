"""What the CUDA methods share: a flushed L2 before each sample, and events around it."""

import time
from functools import cache
from typing import TYPE_CHECKING

from mlabench.measure.timing.method import Call

if TYPE_CHECKING:
    from torch import Tensor

FLUSH_FACTOR = 5
"""Bytes read between two samples, in multiples of the L2."""

LEAD_FLUSHES = 4
"""Flushes queued ahead of a batch, so that the host is ahead of the device when it starts."""


WARMUP_CALLS = 3
"""Calls of one warm-up batch; there are several where they are short."""

WARMUP_S = 0.05
"""How long a call is repeated before sampling: some run 15% slower in their first 25 ms on an idle GPU."""


def warm_up(launch: Call, before_sample: Call) -> int:
    """Repeat the call for `WARMUP_S` under the conditions of a sample; returns how often it ran."""
    deadline = time.monotonic() + WARMUP_S
    calls = 0
    while True:
        timed_batch(WARMUP_CALLS, launch, before_sample)
        calls += WARMUP_CALLS
        if time.monotonic() >= deadline:
            return calls


def timed_batch(count: int, launch: Call, before_sample: Call) -> list[float]:
    """Time `count` calls in microseconds with CUDA events, the L2 flushed before each."""
    import torch

    events = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(count)]  # type: ignore[no-untyped-call]
    for _ in range(LEAD_FLUSHES):
        flush_l2()
    for start, end in events:
        before_sample()
        flush_l2()
        start.record()
        launch()
        end.record()
    torch.cuda.synchronize()
    # Events resolve half a microsecond; the nanosecond is more than they know.
    return [round(start.elapsed_time(end) * 1e3, 3) for start, end in events]


def flush_l2() -> None:
    """Read a buffer several times the L2, so that no line of the inputs stays and none of the flush's is dirty."""
    import torch

    buffer, sink = _flush_buffers(torch.cuda.current_device())
    torch.sum(buffer, dim=0, out=sink)


@cache
def _flush_buffers(device: int) -> "tuple[Tensor, Tensor]":
    import torch

    l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    elements = FLUSH_FACTOR * max(l2_bytes, 32 << 20) // 4
    return torch.ones(elements, device=f"cuda:{device}"), torch.empty((), device=f"cuda:{device}")
