"""Calls for a profiler to look at: each a named range, none of them a measurement."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from mlabench.measure.timing.method import Budget, Call, SampledTimer, nothing
from mlabench.records.record import Timing


@dataclass(frozen=True, slots=True)
class TracedCalls(SampledTimer):
    """As many calls as the budget has samples, one behind the other: a range `calls`, and within it each a `call`.

    With `counted` CUDA's profiler is on during those calls alone, for ncu. What a trace costs is in the times.
    """

    method: ClassVar[str] = "traced"
    caches: ClassVar[tuple[str, ...]] = ("warm",)

    device: str
    counted: bool = False
    cache: str = "warm"

    def measure(self, launch: Call, before_sample: Call, budget: Budget, observe: Call = nothing) -> Timing:
        """The mean time of a call as one sample."""
        from torch.profiler import record_function

        before_sample()
        observe()
        with record_function("calls"), _counting() if self.counted else _waiting(self.device):
            start = time.perf_counter_ns()
            for _ in range(budget.max_samples):
                with record_function("call"):
                    launch()
        observe()
        return Timing(((time.perf_counter_ns() - start) / 1e3 / budget.max_samples,), self.cache, 0, "samples")


@contextmanager
def _waiting(device: str) -> Iterator[None]:
    """Let a GPU finish what was launched within the range."""
    yield
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


@contextmanager
def _counting() -> Iterator[None]:
    import torch

    torch.cuda.synchronize()
    torch.cuda.profiler.start()  # type: ignore[no-untyped-call]
    with _waiting("cuda"):
        yield
    torch.cuda.profiler.stop()  # type: ignore[no-untyped-call]
