"""One case on two kernels, in blocks: a chunk of calls of either, in random order, until the ratio is decided."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from mlabench.cases.case import Case
from mlabench.machine.telemetry import Telemetry
from mlabench.measure.blocks import chunk_calls, collect_blocks
from mlabench.measure.copies import load_copy
from mlabench.measure.inputs import negate
from mlabench.measure.kernels import Kernel, find_kernel, launch_config, workspace_bytes
from mlabench.measure.runner import Bound, NotMeasured, Prepared, Runner
from mlabench.measure.sources import package_of
from mlabench.measure.timing.method import Call, Samples, Timer, nothing
from mlabench.records.pairs import Block, Pair, Plan, Side

if TYPE_CHECKING:
    from torch import Tensor


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

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "AskedSide":
        """The side that `to_json` made these values from. Raises `UsageError` for an unknown kernel."""
        return cls(find_kernel(plain["kernel"]), plain["commit"], plain["folder"])


class SideFailed(Exception):  # noqa: N818
    """One side could not be measured; the cause says why."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(str(error))
        self.name = name
        self.error = error


@dataclass(slots=True)
class LiveSide:
    """A side that is bound: `facts` are what is known of it, `call` is what is timed."""

    name: str
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
            raise SideFailed(self.name, error) from error

    def sample(self, timer: Timer, count: int) -> Samples:
        """Time calls."""
        with self.working():
            samples = timer.sample(self.call, self.bound.poison, count)
            if not all(math.isfinite(time_us) and time_us > 0 for time_us in samples.times_us):
                raise NotMeasured("error", "a sample is no positive number")
        return samples


def interleave(
    runner: Runner,
    case: Case,
    base: AskedSide,
    candidate: AskedSide,
    plan: Plan,
    announce: Callable[[str], None] = lambda _: None,
) -> Pair:
    """Measure one case on two sides, which read the same inputs. What goes wrong is in the sides of the pair.

    Both are checked before and after the timed calls, as `Runner.run` does. `announce` is told before each step whose
    it is: `base`, `candidate`, or `both`.
    """
    started_at, start = datetime.now(UTC).isoformat(timespec="milliseconds"), time.perf_counter()
    runner.phases_s = {}
    facts: dict[str, dict[str, Any]] = {"base": {}, "candidate": {}}
    live: list[LiveSide] = []
    measured: Mapping[str, Any] = {}
    for name, asked in (("base", base), ("candidate", candidate)):
        announce(name)
        try:
            live.append(_bind(runner, case, name, asked, facts[name], live[0].bound.outputs if live else None))
        except Exception as error:
            facts[name] |= runner.outcome(error)
        if runner.spoiled:
            break
    if len(live) == 2:
        announce("both")
        try:
            measured = _measure(runner, case, live, plan)
        except SideFailed as failed:
            facts[failed.name] |= runner.outcome(failed.error)
    return Pair(
        case,
        describe(base, **facts["base"]),
        describe(candidate, **facts["candidate"]),
        runner.timer.method,
        runner.timer.cache,
        runner.seed,
        plan,
        **measured,
        started_at=started_at,
        wall_s=time.perf_counter() - start,
        phases_s=runner.phases_s,
    )


def describe(asked: AskedSide, **values: Any) -> Side:
    """The side as it is stored."""
    return Side(asked.kernel.name, asked.kernel.backend, asked.commit, **values)


def _bind(
    runner: Runner,
    case: Case,
    name: str,
    asked: AskedSide,
    facts: dict[str, Any],
    outputs: "Mapping[str, Tensor] | None",
) -> LiveSide:
    # Both write the same outputs: where a tensor lies in memory moves short calls by a percent or more.
    runner.require(asked.kernel)
    with asked.imports():
        facts["source"] = _source_file(asked)
        bound = runner.bind(asked.kernel, runner.prepare(case), outputs)
    facts["workspace_bytes"] = workspace_bytes(bound.launch)
    facts["kernel_config"] = launch_config(bound.launch)
    facts["status"] = "ok"
    return LiveSide(name, asked, bound, facts)


def _source_file(asked: AskedSide) -> str | None:
    """The file that the side's bind is in. Raises `NotMeasured` for a commit that does not have it."""
    module = asked.kernel.target.partition(":")[0]
    try:
        code = getattr(asked.kernel.load(), "__code__", None)
    except (ModuleNotFoundError, AttributeError) as error:
        owner = getattr(getattr(error, "obj", None), "__name__", error.name)
        if asked.commit is None or not owner or not f"{module}.".startswith(f"{owner}."):
            raise
        raise NotMeasured("unavailable", f"{asked.kernel.target} is not in commit {asked.commit[:7]}") from None
    return code.co_filename if code else None


def _measure(runner: Runner, case: Case, live: Sequence[LiveSide], plan: Plan) -> Mapping[str, Any]:
    timer, prepared = runner.timer, runner.prepare(case)
    telemetry = Telemetry(runner.nvml) if runner.nvml else None
    observe = telemetry.read if telemetry else nothing
    negate(case, prepared.inputs)
    with runner.phase("measure"):
        for side in live:
            with side.working():
                side.call = timer.prepare(side.bound.launch)
                timer.warm_up(side.call, side.bound.poison)
        count = chunk_calls(max(median(side.sample(timer, 3).times_us) for side in live))
        observe()
        blocks, stop = collect_blocks(
            lambda base_first: _take_block(timer, live, base_first, count),
            plan,
            f"{runner.seed} {case.case_id}",
            observe,
        )
    with runner.phase("check"):
        # The candidate first: where both are wrong it is the one that must not hide. Each is called once more, since
        # the outputs hold what the last of the two wrote.
        for side in reversed(live):
            side.sample(timer, 1)
            _check_timed(runner, side, prepared)
    negate(case, prepared.inputs)
    return {
        "blocks": blocks,
        "stop": stop,
        "overhead_us": timer.overhead_us(),
        "telemetry": telemetry.to_json() if telemetry else None,
    }


def _take_block(timer: Timer, live: Sequence[LiveSide], base_first: bool, count: int) -> Block:
    taken = {side.name: side.sample(timer, count) for side in (live if base_first else live[::-1])}
    base, candidate = taken["base"], taken["candidate"]
    return Block(base_first, base.times_us, candidate.times_us, base.sm_clocks_mhz, candidate.sm_clocks_mhz)


def _check_timed(runner: Runner, side: LiveSide, prepared: Prepared) -> None:
    with side.working():
        result = runner.check_timed(side.bound, prepared)
    side.facts |= {"relative_error": result.relative_error, "lse_error": result.lse_error}
