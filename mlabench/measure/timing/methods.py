"""The table of timing methods."""

from collections.abc import Mapping

from mlabench.errors import UsageError
from mlabench.measure.timing.cpu import CpuTimer
from mlabench.measure.timing.cuda_events import CudaEventsTimer
from mlabench.measure.timing.cuda_graph import CudaGraphTimer
from mlabench.measure.timing.cuda_sustained import CudaSustainedTimer
from mlabench.measure.timing.method import Timer

AnyTimer = type[CpuTimer] | type[CudaGraphTimer] | type[CudaEventsTimer] | type[CudaSustainedTimer]

METHODS: Mapping[str, Mapping[str, AnyTimer]] = {
    "cpu": {"cpu": CpuTimer},
    "cuda": {"graph": CudaGraphTimer, "events": CudaEventsTimer, "sustained": CudaSustainedTimer},
}
"""The methods of each device kind; the first is its default."""


def choose_method(method: str, device: str) -> str:
    """The method's name, with `auto` resolved. Raises `UsageError` for one that the device does not have."""
    known = METHODS[device]
    if method == "auto":
        return next(iter(known))
    if method not in known:
        raise UsageError(f"method {method!r} does not time a {device} device: choose {' or '.join(known)}, or auto")
    return method


def choose_cache(cache: str, method: str, device: str) -> str:
    """The cache's state, with `auto` resolved. Raises `UsageError` for one that the method does not bring about."""
    known = METHODS[device][method].caches
    if cache == "auto":
        return known[0]
    if cache not in known:
        raise UsageError(f"method {method!r} has no {cache!r} cache: choose {' or '.join(known)}, or auto")
    return cache


def make_timer(method: str, device: str, cache: str = "auto") -> Timer:
    """The timer of names that `choose_method` and `choose_cache` gave."""
    return METHODS[device][method](cache=choose_cache(cache, method, device))
