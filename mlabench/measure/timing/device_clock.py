"""Kernels that read a GPU's own clocks: stamps around a call, and spins of a known length."""

import torch
import triton
import triton.language as tl

STAMPS = 1 << 15
"""Room for so many stamps between two readings."""


@triton.jit
def _read_u64(register: tl.constexpr):
    return tl.inline_asm_elementwise("mov.u64 $0, %" + register + ";", "=l", [], dtype=tl.int64, is_pure=False, pack=1)


@triton.jit
def _stamp_kernel(stamps, count, room):
    """Append nanoseconds, SM cycles and the SM's number; a single program, ordered by the stream."""
    index = tl.load(count)
    sm = tl.inline_asm_elementwise("mov.u32 $0, %smid;", "=r", [], dtype=tl.int32, is_pure=False, pack=1)
    stamp = stamps + 3 * tl.minimum(index, room - 1)
    tl.store(stamp, _read_u64("globaltimer"))
    tl.store(stamp + 1, _read_u64("clock64"))
    tl.store(stamp + 2, sm.to(tl.int64))
    tl.store(count, index + 1)


@triton.jit(do_not_specialize=["length"])
def _spin_kernel(spun, length, REGISTER: tl.constexpr):
    """Read the register, at least twice, until it has gone on by `length`; a single program."""
    start = _read_u64(REGISTER)
    now = _read_u64(REGISTER)
    while now - start < length:
        now = _read_u64(REGISTER)
    tl.store(spun, now - start)


class Stamps:
    """A log on the device of when, and at which cycle count of which SM, each `mark` ran."""

    def __init__(self, device: int) -> None:
        self._log = torch.zeros(STAMPS, 3, dtype=torch.int64, device=f"cuda:{device}")
        self._count = torch.zeros((), dtype=torch.int32, device=self._log.device)

    def mark(self) -> None:
        """Enqueue a stamp on the current stream; may be captured in a graph."""
        _stamp_kernel[(1,)](self._log, self._count, STAMPS, num_warps=1)

    def clear(self) -> None:
        """Forget all stamps."""
        self._count.zero_()

    def clocks_mhz(self, spans: int) -> tuple[float, ...] | None:
        """The mean SM clock between stamps 0 and 1, 2 and 3, and so on; None unless each pair ran on one SM.

        None, too, for more spans than there was room for.
        """
        if 2 * spans > STAMPS:
            return None
        log = self._log[: 2 * spans].cpu().view(spans, 2, 3)
        elapsed = (log[:, 1] - log[:, 0]).tolist()
        if any(ns <= 0 or sm_change for ns, _, sm_change in elapsed):
            return None
        return tuple(round(1e3 * cycles / ns, 1) for ns, cycles, _ in elapsed)


class Spin:
    """A launch of one block that waits until a register of its SM has gone on by `length`."""

    def __init__(self, length: int, register: str) -> None:
        self._length, self._register = length, register
        self._spun = torch.zeros((), dtype=torch.int64, device="cuda")

    def __call__(self) -> None:
        """Enqueue it on the current stream."""
        _spin_kernel[(1,)](self._spun, self._length, REGISTER=self._register, num_warps=1)

    def spun(self) -> int:
        """How far the register went on between the first and the last reading of the latest call; waits for it.

        It is at least the length, and at most one reading more: a few tenths of a microsecond.
        """
        return int(self._spun.item())


def spin(duration_ns: int) -> Spin:
    """Wait for so many nanoseconds of %globaltimer."""
    return Spin(duration_ns, "globaltimer")


def spin_cycles(cycles: int) -> Spin:
    """Wait for so many cycles of the SM's clock64."""
    return Spin(cycles, "clock64")
