"""A timing method for tests: it makes the calls and gives the samples it was told to give."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlabench.measure.timing.method import Budget, Call
from mlabench.records.record import Timing


@dataclass(frozen=True, slots=True)
class FakeTimer:
    """Returns `samples_us` whatever the call takes."""

    samples_us: Sequence[float]
    method: str = "fake"

    def measure(self, launch: Call, before_sample: Call, budget: Budget) -> Timing:
        """Make one call, prepared like a timed one."""
        del budget
        before_sample()
        launch()
        return Timing(tuple(self.samples_us), "warm", 0, "samples")
