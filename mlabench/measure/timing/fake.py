"""A timing method for tests: it makes the calls and gives the samples it was told to give."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlabench.measure.timing.method import Budget, Call, SampledTimer, Samples, nothing
from mlabench.records.record import Timing


@dataclass(frozen=True, slots=True)
class FakeTimer(SampledTimer):
    """Gives `samples_us`, over and over, whatever the call takes."""

    samples_us: Sequence[float]
    method: str = "fake"  # type: ignore[misc]
    cache: str = "warm"

    def warm_up(self, call: Call, before_sample: Call) -> int:
        """No calls."""
        del call, before_sample
        return 0

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        """Make the calls, prepared like timed ones."""
        for _ in range(count):
            before_sample()
            call()
        return Samples(tuple(self.samples_us[i % len(self.samples_us)] for i in range(count)))

    def overhead_us(self) -> None:
        """Not known."""

    def measure(self, launch: Call, before_sample: Call, budget: Budget, observe: Call = nothing) -> Timing:
        """Make one call and give the samples as they are."""
        del budget
        observe()
        self.sample(launch, before_sample, 1)
        return Timing(tuple(self.samples_us), self.cache, 0, "samples")
