"""CUDA graph replay: the device time of a call, without the host's launch gaps."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from mlabench.measure.timing.cuda import WARMUP_CALLS, timed_batch, warm_up
from mlabench.measure.timing.method import Budget, Call, collect
from mlabench.records.record import Timing


@dataclass(frozen=True, slots=True)
class CudaGraphTimer:
    """The call captured once and replayed, with a cold L2 before each replay. The default on a GPU."""

    method: ClassVar[str] = "graph"

    def measure(self, launch: Call, before_sample: Call, budget: Budget) -> Timing:
        """Capture, warm up, and time replays with events."""
        replay = capture(launch)
        warmup_calls = WARMUP_CALLS + warm_up(replay, before_sample)
        samples, stop = collect(lambda count: timed_batch(count, replay, before_sample), budget)
        return Timing(samples, "cold", warmup_calls, stop, _overhead_us())


def capture(launch: Call) -> Call:
    """Capture the call into a graph and return its replay; warms the call up on a side stream first."""
    import torch

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP_CALLS):
            launch()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()

    def replay() -> None:
        graph.replay()

    return replay


@cache
def _overhead_us() -> float:
    import torch

    scalar = torch.zeros((), device="cuda")

    def fill() -> None:
        scalar.fill_(1.0)

    replay = capture(fill)
    return min(timed_batch(20, replay, lambda: None))
