"""One case on a base and its candidates, in blocks: a chunk of calls of each, in random order, until it is decided."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from mlabench.cases.case import Case
from mlabench.machine.telemetry import Telemetry
from mlabench.measure.blocks import chunk_calls, collect_blocks
from mlabench.measure.bound import NotMeasured, Prepared
from mlabench.measure.inputs import negate
from mlabench.measure.kernels import workspace_bytes
from mlabench.measure.runner import Runner
from mlabench.measure.sides import AskedSide, LiveSide, SideFailed, describe, step_name
from mlabench.measure.timing.method import Timer, nothing
from mlabench.records.pairs import Block, Pair, Plan

if TYPE_CHECKING:
    from torch import Tensor


def interleave(
    runner: Runner,
    case: Case,
    base: AskedSide,
    candidates: Sequence[AskedSide],
    plan: Plan,
    announce: Callable[[str], None] = lambda _: None,
) -> tuple[Pair, ...]:
    """Measure one case on a base and its candidates, which read the same inputs: a pair for each candidate.

    What goes wrong is in the sides of the pairs, and a candidate that fails is left out of what the others are timed
    with. All are checked before and after the timed calls, as `Runner.run` does. `announce` is told before each step
    whose it is: a `step_name`, or `both` where all are timed.
    """
    started_at, start = datetime.now(UTC).isoformat(timespec="milliseconds"), time.perf_counter()
    runner.phases_s = {}
    sides = dict(enumerate((base, *candidates)))
    facts: dict[int, dict[str, Any]] = {place: {} for place in sides}
    left, timed = dict(sides), _Timed()
    while _is_worth_while(left, facts) and not runner.spoiled:
        try:
            timed = _attempt(runner, case, left, facts, plan, announce)
            break
        except SideFailed as failed:
            facts[failed.place] |= runner.outcome(failed.error)
            del left[failed.place]
    wall_s = time.perf_counter() - start
    return tuple(
        Pair(
            case,
            describe(base, **facts[0]),
            describe(candidate, **facts[place]),
            runner.timer.method,
            runner.timer.cache,
            runner.seed,
            plan,
            *timed.of(place),
            started_at,
            wall_s,
            runner.phases_s,
        )
        for place, candidate in enumerate(candidates, start=1)
    )


@dataclass(frozen=True, slots=True)
class _Timed:
    """What the timed calls gave: blocks by the candidate's place, and what all have in common."""

    blocks: Mapping[int, tuple[Block, ...]] = field(default_factory=dict)
    stop: str = ""
    overhead_us: float | None = None
    telemetry: Mapping[str, Any] | None = None

    def of(self, place: int) -> tuple[tuple[Block, ...], str, float | None, Mapping[str, Any] | None]:
        """A candidate's part, as the fields of a pair; nothing for one that was not timed."""
        if place not in self.blocks:
            return (), "", None, None
        return self.blocks[place], self.stop, self.overhead_us, self.telemetry


def _is_worth_while(left: Mapping[int, AskedSide], facts: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether there is still a ratio to be had, or a side of which nothing is known."""
    return (0 in left and len(left) > 1) or any(not facts[place] for place in left)


def _attempt(
    runner: Runner,
    case: Case,
    sides: Mapping[int, AskedSide],
    facts: Mapping[int, dict[str, Any]],
    plan: Plan,
    announce: Callable[[str], None],
) -> _Timed:
    """Bind all, and time those that take the case. Raises `SideFailed` for one whose failure the others may feel."""
    live: list[LiveSide] = []
    prepared: Prepared | None = None
    for place, asked in sides.items():
        announce(step_name(place))
        try:
            runner.require(asked.kernel)
            prepared = prepared or runner.prepare(case)
            live.append(_bind(runner, prepared, place, asked, facts[place], live[0].bound.outputs if live else None))
        except Exception as error:
            if not _is_refusal(error):
                raise SideFailed(place, error) from error
            facts[place] |= runner.outcome(error)
    if prepared is None or len(live) < 2 or live[0].place != 0:
        return _Timed()
    return _measure(runner, prepared, live, plan, announce)


def _is_refusal(error: Exception) -> bool:
    """Whether a side only said that it does not do this: the inputs are then as they were."""
    if isinstance(error, NotMeasured):
        return error.status in ("unavailable", "unsupported")
    return isinstance(error, NotImplementedError)


def _bind(
    runner: Runner,
    prepared: Prepared,
    place: int,
    asked: AskedSide,
    facts: dict[str, Any],
    outputs: "Mapping[str, Tensor] | None",
) -> LiveSide:
    # All write the same outputs: where a tensor lies in memory moves short calls by a percent or more.
    with asked.imports():
        facts["source"] = asked.source_file()
        bound = runner.bind(asked.kernel, prepared, outputs)
    facts["workspace_bytes"] = workspace_bytes(bound.launch)
    facts["kernel_config"] = bound.config
    facts["status"] = "ok"
    return LiveSide(place, asked, bound, facts)


def _measure(
    runner: Runner, prepared: Prepared, live: Sequence[LiveSide], plan: Plan, announce: Callable[[str], None]
) -> _Timed:
    timer, case = runner.timer, prepared.case
    telemetry = Telemetry(runner.sensors) if runner.sensors else None
    observe = telemetry.read if telemetry else nothing
    negate(case, prepared.inputs)
    # All are timed on the same inputs; each is checked on those it can take.
    runner.fill_unused_slots(prepared, finite=any(side.asked.kernel.reads_unused_slots for side in live))
    with runner.phase("measure"):
        for side in live:
            announce(step_name(side.place))
            with side.working():
                side.call = timer.prepare(side.bound.launch)
                timer.warm_up(side.call, side.bound.poison)
        announce("both")
        count = chunk_calls(max(median(side.sample(timer, 3).times_us) for side in live))
        observe()
        blocks, stop = collect_blocks(
            lambda order: _take_blocks(timer, live, order, count),
            len(live) - 1,
            plan,
            f"{runner.seed} {case.case_id}",
            observe,
        )
    with runner.phase("check"):
        # The candidates first: where all are wrong it is the base that may hide. Each is called once more, since the
        # outputs hold what the last of them wrote.
        for side in reversed(live):
            announce(step_name(side.place))
            runner.fill_unused_slots(prepared, finite=side.asked.kernel.reads_unused_slots)
            side.sample(timer, 1)
            _check_timed(runner, side, prepared)
    negate(case, prepared.inputs)
    by_place = {side.place: each for side, each in zip(live[1:], blocks, strict=True)}
    return _Timed(by_place, stop, timer.overhead_us(), telemetry.to_json() if telemetry else None)


def _take_blocks(timer: Timer, live: Sequence[LiveSide], order: Sequence[int], count: int) -> list[Block]:
    """A chunk of each side in this order, as the block of each candidate with the base."""
    taken = {number: live[number].sample(timer, count) for number in order}
    base, when = taken[0], list(taken).index
    return [
        Block(when(0) < when(number), base.times_us, each.times_us, base.sm_clocks_mhz, each.sm_clocks_mhz)
        for number, each in sorted(taken.items())
        if number
    ]


def _check_timed(runner: Runner, side: LiveSide, prepared: Prepared) -> None:
    with side.working():
        result = runner.check_timed(side.bound, prepared)
    side.facts |= {"relative_error": result.relative_error, "lse_error": result.lse_error}
