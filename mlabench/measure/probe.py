"""The machine's ceilings, measured: memory traffic, and matrix products on random data."""

from collections.abc import Callable, Sequence

from mlabench.machine.ceilings import Ceilings
from mlabench.machine.memory import free_memory_bytes
from mlabench.measure.timing.method import Budget, Call, Timer
from mlabench.measure.timing.methods import choose_method, make_timer

PROBE_BYTES = {"cpu": 256 << 20, "cuda": 8 << 30}
"""Size of the tensor that the traffic probes stream, where a quarter of the free memory holds it."""

ROW_BYTES = 1 << 20
"""Row of that tensor; each is summed by itself, so that no pass over partial sums follows."""

PROBE_SIDE = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices that the product probe multiplies."""

PROBE_BUDGET = Budget(max_s=0.5, min_samples=5, max_samples=50)


def probe_ceilings(device: str, dtypes: Sequence[str]) -> Ceilings:
    """Measure the device's ceilings, each as the fastest of its samples, by its default method: short and cold."""
    timer = make_timer(choose_method("auto", device), device)
    return Ceilings(
        *_traffic_rates(device, timer),
        matmul_flops_per_s={dtype: _matmul_rate(device, timer, dtype) for dtype in dtypes},
    )


def _traffic_rates(device: str, timer: Timer) -> tuple[float, float, float]:
    import torch

    free = free_memory_bytes(device)
    rows = min(PROBE_BYTES[device], PROBE_BYTES[device] if free is None else free // 4) // ROW_BYTES
    source = torch.rand(rows, ROW_BYTES // 4, device=device)
    target, sums = torch.empty_like(source), torch.empty(source.shape[0], device=device)
    read = _rate(source.nbytes, timer, lambda: torch.sum(source, dim=1, out=sums))
    # A negation and not copy_, which a captured graph would hand to the slower copy engine.
    write = _rate(source.nbytes, timer, lambda: target.fill_(1.0))
    copy = _rate(2 * source.nbytes, timer, lambda: torch.neg(source, out=target))
    return read, write, copy


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
