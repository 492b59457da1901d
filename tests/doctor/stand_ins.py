"""A device and timers that exist in arithmetic alone: sound ones, and one for each fault to find."""

import math
import random
from dataclasses import dataclass, field

from mlabench.doctor.spinning import Effort, Limits, Subject
from mlabench.measure.timing.method import Call, SampledTimer, Samples, nothing

OVERHEAD_US = 3.0

SM_CLOCK_MHZ = 1980.0

STEP_US = 0.032

RAMP_US = 2.0

MEMORY_BYTES_PER_US, CACHE_BYTES_PER_US = 4.2e6, 9e6

CLEARING_FACTOR = 1.14

EFFORT = Effort(samples=5, copies_samples=3, pairs=20, windows=500)


@dataclass
class StandInClearing:
    """Cleared by a wait, unless the bench's driver is slow."""

    bench: "StandInBench"

    @property
    def uncleared_bytes(self) -> int:
        return self.bench.uncleared_bytes

    def wait(self) -> None:
        self.bench.clearing &= self.bench.clears_slowly
        self.bench.uncleared_bytes = 0


@dataclass
class StandInBench:
    """Its calls write down how long each of their kernels takes. `cold` is the state that the timer left."""

    limits: Limits = field(default_factory=Limits)
    level: str = "median"
    copied_spin_ns: int = 1_000_000
    cache_bytes: int | None = 60_000_000
    noise: float = 0.005
    cold: bool = False
    clearing: bool = False
    clears_slowly: bool = False
    uncleared_bytes: int = 0
    kernels_us: list[float] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(5))

    def empty(self) -> Call:
        return nothing

    def spin(self, duration_ns: int) -> Call:
        return lambda: self.kernels_us.append(duration_ns / 1e3)

    def spin_cycles(self, cycles: int) -> Call:
        return lambda: self.kernels_us.append(cycles / SM_CLOCK_MHZ)

    def work(self) -> Call:
        return lambda: self.kernels_us.append(70.0 * math.exp(self.rng.gauss(0, self.noise)))

    def read(self, nbytes: int) -> Call:
        def call() -> None:
            cached = not self.cold and nbytes <= (self.cache_bytes or 0)
            read_us = nbytes / (CACHE_BYTES_PER_US if cached else MEMORY_BYTES_PER_US)
            self.kernels_us.append(RAMP_US + (CLEARING_FACTOR if self.clearing else 1.0) * read_us)

        return call

    def give_back(self, nbytes: int) -> StandInClearing:
        self.clearing = nbytes > 0
        self.uncleared_bytes += nbytes
        return StandInClearing(self)


@dataclass
class StandInTimer(SampledTimer):
    """Sound: true to a jitter of 0.02 us, in steps of 0.032 us, with the overhead that it declares."""

    bench: StandInBench
    cache: str = "cold"
    method = "graph"
    caches = ("cold", "warm")
    rng: random.Random = field(default_factory=lambda: random.Random(2))

    def warm_up(self, call: Call, before_sample: Call) -> int:
        self.sample(call, before_sample, 3)
        return 3

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        return Samples(tuple(self._sample(call, before_sample) for _ in range(count)), (SM_CLOCK_MHZ,) * count)

    def overhead_us(self) -> float:
        return OVERHEAD_US

    def _sample(self, call: Call, before_sample: Call) -> float:
        before_sample()
        self.bench.cold = self.empties_cache()
        self.bench.kernels_us.clear()
        call()
        read_us = self.read_us(list(self.bench.kernels_us)) + OVERHEAD_US + self.rng.gauss(0, 0.02)
        return round(max(0.0, read_us) / self.step_us()) * self.step_us()

    def empties_cache(self) -> bool:
        return self.cache == "cold"

    def step_us(self) -> float:
        return STEP_US

    def read_us(self, kernels_us: list[float]) -> float:
        return sum(kernels_us)


class LongTimer(StandInTimer):
    def read_us(self, kernels_us: list[float]) -> float:
        return 1.02 * sum(kernels_us)


class OffsetTimer(StandInTimer):
    def read_us(self, kernels_us: list[float]) -> float:
        return sum(kernels_us) + 1.0


class CoarseTimer(StandInTimer):
    def step_us(self) -> float:
        return 1.0


class WarmTimer(StandInTimer):
    def empties_cache(self) -> bool:
        return False


class DroppingTimer(StandInTimer):
    """Loses every sixteenth kernel of a call."""

    def read_us(self, kernels_us: list[float]) -> float:
        return sum(us for number, us in enumerate(kernels_us, start=1) if number % 16)


@dataclass
class CorrelatedTimer(StandInTimer):
    """Comes in long spells of quick and slow samples."""

    spell: float = 0.0

    def read_us(self, kernels_us: list[float]) -> float:
        self.spell = 0.97 * self.spell + self.rng.gauss(0, 0.002)
        return sum(kernels_us) * math.exp(self.spell)


@dataclass
class MoodyTimer(StandInTimer):
    """Whatever was prepared second reads longer."""

    prepared: int = 0
    slow: bool = False

    def prepare(self, launch: Call) -> Call:
        self.prepared += 1
        slow = self.prepared % 2 == 0

        def call() -> None:
            self.slow = slow
            launch()

        return call

    def read_us(self, kernels_us: list[float]) -> float:
        return sum(kernels_us) * (1.02 if self.slow else 1.0)


def make_subject(kind: type[StandInTimer] = StandInTimer, effort: Effort = EFFORT) -> Subject:
    bench = StandInBench()
    return Subject(kind(bench), bench, effort, StandInTimer(bench, "warm"))
