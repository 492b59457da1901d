"""The interface of a timing method, and the sampling that all methods share."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from mlabench.records.record import Timing
from mlabench.stats import relative_half_width

Call = Callable[[], None]


FURTHER_SHARE = 0.25
"""Share of samples taken after the interval was found narrow enough: the first look that finds it so is a lucky one,
and without more the final interval covers the median in up to a percent fewer cases."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop sampling a point.

    Sampling ends once half the 95% interval of the median is at most `precision` of the median, and a few samples more
    (`FURTHER_SHARE`), or after `max_s` seconds or `max_samples` samples; never before `min_samples`.
    """

    max_s: float = 1.0
    precision: float = 0.005
    min_samples: int = 20
    max_samples: int = 200


@dataclass(frozen=True, slots=True)
class Samples:
    """Times of single calls in microseconds, in the order taken, and the SM clock during each in MHz.

    The clocks are read from the device's own counters; None where there are none to read.
    """

    times_us: tuple[float, ...] = ()
    sm_clocks_mhz: tuple[float, ...] | None = None

    def __add__(self, later: "Samples") -> "Samples":
        clocks = None
        if later.sm_clocks_mhz is not None and (self.sm_clocks_mhz is not None or not self.times_us):
            clocks = (self.sm_clocks_mhz or ()) + later.sm_clocks_mhz
        return Samples(self.times_us + later.times_us, clocks)


class Timer(Protocol):
    """A timing method bound to a device. `cache` is the state of the last-level cache at the start of a call."""

    @property
    def method(self) -> str:
        """The name stored with every number."""
        ...

    @property
    def cache(self) -> str:
        """`cold` or `warm`."""
        ...

    def prepare(self, launch: Call) -> Call:
        """What is timed: the launch itself, or what the method makes of it."""
        ...

    def warm_up(self, call: Call, before_sample: Call) -> int:
        """Repeat a prepared call until its times are steady; returns how often it ran."""
        ...

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        """Time a prepared call `count` times, running `before_sample` before each outside the timed span."""
        ...

    def overhead_us(self) -> float | None:
        """What the method reads for an empty call, in microseconds."""
        ...

    def measure(self, launch: Call, before_sample: Call, budget: Budget, observe: Call = ...) -> Timing:
        """Prepare, warm up and sample until the budget says stop; `observe` runs between batches of samples."""
        ...


def nothing() -> None:
    """A call that does nothing."""


class SampledTimer:
    """The road of every method: prepare, warm up, sample until the budget says stop."""

    method: ClassVar[str]
    caches: ClassVar[tuple[str, ...]]
    """The cache states that the method can bring about; the first is its default."""

    cache: str

    def prepare(self, launch: Call) -> Call:
        """The launch itself."""
        return launch

    def warm_up(self, call: Call, before_sample: Call) -> int:
        """Repeat a prepared call until its times are steady; returns how often it ran."""
        raise NotImplementedError

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        """Time a prepared call `count` times."""
        raise NotImplementedError

    def overhead_us(self) -> float | None:
        """What the method reads for an empty call, in microseconds."""
        raise NotImplementedError

    def measure(self, launch: Call, before_sample: Call, budget: Budget, observe: Call = nothing) -> Timing:
        """Prepare, warm up and sample; `observe` runs before the first batch of samples and after each."""
        call = self.prepare(launch)
        warmup_calls = self.warm_up(call, before_sample)
        samples, stop = collect(lambda count: self.sample(call, before_sample, count), budget, observe)
        overhead_us = self.overhead_us()
        return Timing(samples.times_us, self.cache, warmup_calls, stop, overhead_us, samples.sm_clocks_mhz)


def collect(take: Callable[[int], Samples], budget: Budget, observe: Call = nothing) -> tuple[Samples, str]:
    """Take batches of samples until the budget says stop; every sample is kept.

    Returns the samples and what ended the sampling: `precise`, `time` or `samples`.
    """
    deadline = time.monotonic() + budget.max_s
    samples = Samples()
    observe()
    while True:
        done = len(samples.times_us)
        samples += take(max(1, min(done or budget.min_samples, 50, budget.max_samples - done)))
        observe()
        done = len(samples.times_us)
        if done < budget.min_samples:
            continue
        if relative_half_width(samples.times_us) <= budget.precision:
            return samples + take(math.ceil(FURTHER_SHARE * done)), "precise"
        if time.monotonic() >= deadline:
            return samples, "time"
        if done >= budget.max_samples:
            return samples, "samples"
