"""What the timer's self-test times: calls of known length, and real ones, on a CPU or a GPU."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, ClassVar, Protocol

from mlabench.machine.fingerprint import DeviceKind
from mlabench.machine.memory import Clearing, free_memory_bytes, given_back_bytes
from mlabench.measure.timing.method import Call, Timer, nothing

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 50
"""Samples taken in one go, as sweeps do."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the self-test tolerates. Times are in microseconds, the rest fractions of one.

    A spin may be off by `truth` of its length or `truth_us`, whichever is more. `independent` says that neighbouring
    samples are expected not to depend on each other, so that too little coverage is bad.
    """

    truth: float = 0.01
    truth_us: float = 0.3
    offset_us: float = 0.5
    resolution_us: float = 0.3
    slope: float = 0.005
    pairs: float = 0.005
    coverage: tuple[float, float] = (0.93, 0.97)
    independent: bool = True


class Bench(Protocol):
    """A device with something to time on it."""

    @property
    def limits(self) -> Limits:
        """What a sound timer keeps on this device."""
        ...

    @property
    def level(self) -> str:
        """Which of a spin's samples stands for it: the `median`, or the `least`."""
        ...

    @property
    def copied_spin_ns(self) -> int:
        """Length of the spin that is copied up to 64 times."""
        ...

    @property
    def cache_bytes(self) -> int | None:
        """Size of the last-level cache; None where no timer claims to empty it."""
        ...

    def empty(self) -> Call:
        """The shortest call that there is."""
        ...

    def spin(self, duration_ns: int) -> Call:
        """A call that takes so long by the device's clock, beside what an empty one takes; see `spun`."""
        ...

    def spin_cycles(self, cycles: int) -> Call | None:
        """The same in cycles of the processor's clock; None where they cannot be counted."""
        ...

    def work(self) -> Call:
        """A short real kernel without any spin."""
        ...

    def read(self, nbytes: int) -> Call:
        """A call that reads so many bytes once."""
        ...

    def give_back(self, nbytes: int) -> Clearing | None:
        """Take and give back so much memory, or half of what is free: what follows its clearing from before that on.

        None where nothing clears it in the background.
        """
        ...


LEVELS: Mapping[str, Callable[[Sequence[float]], float]] = {"median": median, "least": min}


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is sampled: of a length, of copies, pairs for A/A, and windows for coverage.

    A spin is prepared anew so many times: on a GPU a cold launch takes 0.3 us more or less, as its parameters lie.
    """

    samples: int = 9
    preparations: int = 5
    copies_samples: int = 15
    pairs: int = 20
    windows: int = 500


EFFORTS: Mapping[tuple[DeviceKind, bool], Effort] = {
    ("cuda", False): Effort(),
    ("cuda", True): Effort(samples=5, preparations=3, copies_samples=5, pairs=10, windows=60),
    ("cpu", False): Effort(samples=25, preparations=1, copies_samples=25),
    ("cpu", True): Effort(samples=25, preparations=1, copies_samples=25, pairs=10, windows=60),
}
"""By device, and whether it should be quick. On a CPU more of the samples are disturbed, and each costs less."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tested, on what, how thoroughly. `warm_timer` is the same method with a warm cache, where it has one."""

    timer: Timer
    bench: Bench
    effort: Effort
    warm_timer: Timer | None = None

    def read_spin(self, length_ns: int, times_more: int = 1) -> "SpinReading":
        """Read spins of one length, each prepared anew."""
        lengths_us, rounds = [], []
        for _ in range(times_more * self.effort.preparations):
            spin = self.bench.spin(length_ns)
            rounds.append(self.times_us(spin, self.effort.samples))
            lengths_us.append(spun(spin, length_ns) / 1e3)
        level_us = fmean(map(self.level_us, rounds))
        return SpinReading(fmean(lengths_us), level_us, tuple(itertools.chain(*rounds)))

    def spin_overhead(self) -> "SpinReading":
        """Spins of no length: what the timer reads beside a spin's length is their excess."""
        return self.read_spin(0, 3)

    def times_us(self, launch: Call, count: int) -> tuple[float, ...]:
        """Sample a call as a sweep would: prepared, warmed up, in batches."""
        return take(self.timer, self.timer.prepare(launch), count)

    def level_us(self, times_us: Sequence[float]) -> float:
        """What stands for the samples of a spin, to the nanosecond's thousandth, so that it prints well."""
        return round(LEVELS[self.bench.level](times_us), 6)


@dataclass(frozen=True, slots=True)
class SpinReading:
    """Spins of one length in microseconds: by their own clock, as the timer read them, and all samples of it."""

    length_us: float
    level_us: float
    times_us: tuple[float, ...]

    @property
    def excess_us(self) -> float:
        """What was read beside the length."""
        return self.level_us - self.length_us


def spun(call: Call, asked: int) -> int:
    """How long a spin was by the clock it looked at: what it says itself, or else what was asked of it.

    A look at a GPU's clock takes some 0.5 us, and the last one comes late by a part of that.
    """
    measured = getattr(call, "spun", None)
    return measured() if measured else asked


def take(timer: Timer, call: Call, count: int) -> tuple[float, ...]:
    """Warm a prepared call up and time it `count` times."""
    timer.warm_up(call, nothing)
    times_us: list[float] = []
    while len(times_us) < count:
        times_us += timer.sample(call, nothing, min(BATCH, count - len(times_us))).times_us
    return tuple(times_us)


def resolution_us(times_us: Sequence[float]) -> float:
    """The smallest step between the values that a timer gives."""
    values = sorted(set(times_us))
    return min((b - a for a, b in itertools.pairwise(values)), default=0.0)


@dataclass(frozen=True, slots=True)
class CpuBench:
    """Busy loops on `time.perf_counter_ns`, the clock that the CPU's timer reads: what the timer adds is tested.

    The limits leave room for a machine that others use. There, calls come in quick and slow spells, however they are
    timed: intervals that cover too little are the machine's, and a warning. A spin that loses its processor at its end
    is longer than asked for, so the least sample stands for it.
    """

    limits: ClassVar[Limits] = Limits(truth_us=0.5, slope=0.02, pairs=0.03, independent=False)
    level: ClassVar[str] = "least"
    copied_spin_ns: ClassVar[int] = 50_000
    cache_bytes: ClassVar[None] = None

    def empty(self) -> Call:
        """A Python function that returns."""
        return nothing

    def spin(self, duration_ns: int) -> Call:
        """Look at the clock until the time is up."""

        def call() -> None:
            end = time.perf_counter_ns() + duration_ns
            while time.perf_counter_ns() < end:
                pass

        return call

    def spin_cycles(self, cycles: int) -> None:
        """No portable cycle counter."""
        del cycles

    def work(self) -> Call:
        """A sum of 64 kB, which one thread does."""
        return self.read(64 << 10)

    def read(self, nbytes: int) -> Call:
        """A sum of so many bytes."""
        import torch

        source, total = torch.rand(nbytes // 4), torch.empty(())

        def call() -> None:
            torch.sum(source, dim=0, out=total)

        return call

    def give_back(self, nbytes: int) -> None:
        """The system clears a page for whoever takes it next."""
        del nbytes


@dataclass(frozen=True, slots=True)
class CudaBench:
    """Kernels of one block that spin on the GPU's own clocks. Needs Triton."""

    limits: ClassVar[Limits] = Limits()
    level: ClassVar[str] = "median"
    copied_spin_ns: ClassVar[int] = 1_000_000

    @property
    def cache_bytes(self) -> int:
        """The L2."""
        import torch

        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)

    def empty(self) -> Call:
        """A kernel that stores one number."""
        from mlabench.measure.timing.cuda import store_one

        return store_one()

    def spin(self, duration_ns: int) -> Call:
        """A spin on %globaltimer."""
        from mlabench.measure.timing.device_clock import spin

        return spin(duration_ns)

    def spin_cycles(self, cycles: int) -> Call:
        """A spin on clock64."""
        from mlabench.measure.timing.device_clock import spin_cycles

        return spin_cycles(cycles)

    def work(self) -> Call:
        """A sum of 256 MB by rows."""
        return self.read(256 << 20)

    def read(self, nbytes: int) -> Call:
        """A sum of so many bytes by rows of 16 kB, enough of them for every multiprocessor."""
        import torch

        source = torch.rand(nbytes >> 14, 1 << 12, device="cuda")
        sums: Tensor = torch.empty(source.shape[0], device="cuda")

        def call() -> None:
            torch.sum(source, dim=1, out=sums)

        return call

    def give_back(self, nbytes: int) -> Clearing:
        """The driver clears it in the background."""
        import torch

        before = given_back_bytes()
        free = free_memory_bytes("cuda") or 0
        torch.empty(min(nbytes, free // 2), dtype=torch.uint8, device="cuda")
        torch.cuda.empty_cache()
        return Clearing(before)
