"""The sides of an interleaved comparison: what is asked for, and what is bound."""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlabench.measure.bound import Bound, NotMeasured
from mlabench.measure.copies import load_copy
from mlabench.measure.kernels import Kernel, find_kernel
from mlabench.measure.sources import package_of
from mlabench.measure.timing.method import Call, Samples, Timer, nothing
from mlabench.records.pairs import Side


@dataclass(frozen=True, slots=True)
class AskedSide:
    """A kernel, and the folder that its package is loaded from beside others; None where there is but one."""

    kernel: Kernel
    commit: str | None = None
    folder: str | None = None

    def imports(self) -> AbstractContextManager[None]:
        """Under it the kernel's package is the one of its folder."""
        if self.folder is None:
            return nullcontext()
        return load_copy(package_of(self.kernel.target), self.folder).imports()

    def to_json(self) -> dict[str, Any]:
        """Plain values for a request."""
        return asdict(self) | {"kernel": self.kernel.name}

    def source_file(self) -> str | None:
        """The file that the side's bind is in, as seen from the working directory if it lies there.

        Raises `NotMeasured` for a commit that does not have it.
        """
        module = self.kernel.target.partition(":")[0]
        try:
            code = getattr(self.kernel.load(), "__code__", None)
        except (ModuleNotFoundError, AttributeError) as error:
            owner = getattr(getattr(error, "obj", None), "__name__", error.name)
            if self.commit is None or not owner or not f"{module}.".startswith(f"{owner}."):
                raise
            raise self._absent(self.commit) from None
        # By the module: the code of a decorated bind may lie with its decorator.
        file = getattr(sys.modules.get(module), "__file__", None)
        if self.commit and not _lies_in(file, self.folder):
            raise self._absent(self.commit)
        return _from_here(Path(code.co_filename)) if code else None

    def _absent(self, commit: str) -> NotMeasured:
        return NotMeasured("unavailable", f"{self.kernel.target} is not in commit {commit[:7]}")

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "AskedSide":
        """The side that `to_json` made these values from. Raises `UsageError` for an unknown kernel."""
        return cls(find_kernel(plain["kernel"]), plain["commit"], plain["folder"])


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


class SideFailed(Exception):  # noqa: N818
    """One side could not be measured; the cause says why."""

    def __init__(self, place: int, error: Exception) -> None:
        super().__init__(str(error))
        self.place = place
        self.error = error


@dataclass(slots=True)
class LiveSide:
    """A side that is bound: `facts` are what is known of it, `call` is what is timed. The base's place is 0."""

    place: int
    asked: AskedSide
    bound: Bound
    facts: dict[str, Any]
    call: Call = nothing

    @contextmanager
    def working(self) -> Iterator[None]:
        """Its code runs under this: imports are those of its commit, and what goes wrong is its own."""
        try:
            with self.asked.imports():
                yield
        except Exception as error:
            raise SideFailed(self.place, error) from error

    def sample(self, timer: Timer, count: int) -> Samples:
        """Time calls."""
        with self.working():
            samples = timer.sample(self.call, self.bound.poison, count)
            if not all(math.isfinite(time_us) and time_us > 0 for time_us in samples.times_us):
                raise NotMeasured("error", "a sample is no positive number")
        return samples


def _lies_in(file: str | None, folder: str | None) -> bool:
    return not file or not folder or Path(file).resolve().is_relative_to(Path(folder).resolve())


def describe(asked: AskedSide, **values: Any) -> Side:
    """The side as it is stored."""
    return Side(asked.kernel.name, asked.kernel.backend, asked.commit, **values)


def step_name(place: int) -> str:
    """What is announced before a side's own step."""
    return ("base", "candidate")[place] if place < 2 else f"candidate {place}"
