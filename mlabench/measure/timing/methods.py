"""The table of timing methods."""

from collections.abc import Mapping

from mlabench.errors import UsageError
from mlabench.measure.timing.cpu import CpuTimer
from mlabench.measure.timing.cuda_events import CudaEventsTimer
from mlabench.measure.timing.cuda_graph import CudaGraphTimer
from mlabench.measure.timing.method import Timer

METHODS: Mapping[str, Mapping[str, type[Timer]]] = {
    "cpu": {"cpu": CpuTimer},
    "cuda": {"graph": CudaGraphTimer, "events": CudaEventsTimer},
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


def make_timer(method: str, device: str) -> Timer:
    """The timer of a method that `choose_method` gave."""
    return METHODS[device][method]()
