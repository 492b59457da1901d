"""The machine's ceilings, measured: memory traffic, and matrix products on random data."""

from collections.abc import Callable, Sequence

from mlabench.machine.ceilings import Ceilings
from mlabench.measure.timing.method import Budget, Call, Timer

PROBE_BYTES = {"cpu": 256 << 20, "cuda": 8 << 30}
"""Size of the tensor that the traffic probes stream."""

PROBE_SIDE = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices that the product probe multiplies."""

PROBE_BUDGET = Budget(max_s=0.5, min_samples=5, max_samples=50)


def probe_ceilings(device: str, timer: Timer, dtypes: Sequence[str]) -> Ceilings:
    """Measure the device's ceilings, each as the fastest of its samples."""
    import torch

    source = torch.rand(PROBE_BYTES[device] // 4, device=device)
    target = torch.empty_like(source)
    sink = torch.empty((), device=device)
    read = _rate(source.nbytes, timer, lambda: torch.sum(source, dim=0, out=sink))
    copy = _rate(2 * source.nbytes, timer, lambda: target.copy_(source))
    del source, target
    return Ceilings(read, copy, {dtype: _matmul_rate(device, timer, dtype) for dtype in dtypes})


def _matmul_rate(device: str, timer: Timer, dtype: str) -> float:
    import torch

    side = PROBE_SIDE[device]
    left, right = (torch.randn(side, side, device=device).to(getattr(torch, dtype)) for _ in range(2))
    product = torch.empty_like(left)
    return _rate(2 * side**3, timer, lambda: torch.mm(left, right, out=product))


def _rate(count: int, timer: Timer, call: Callable[[], object]) -> float:
    def launch() -> None:
        call()

    def nothing() -> None:
        return None

    before: Call = nothing
    return count / min(timer.measure(launch, before, PROBE_BUDGET).samples_us) * 1e6
