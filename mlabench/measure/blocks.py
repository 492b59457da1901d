"""When blocks of interleaved calls have told enough; nothing here knows a device."""

import random
import time
from collections.abc import Callable, Iterator, Sequence

from mlabench.measure.timing.method import Call, nothing
from mlabench.records.paired_ratio import MIN_BLOCKS, paired_ratio
from mlabench.records.pairs import Block, Plan

CHUNK_CALLS = (5, 3, 1)
"""How many calls a chunk may have: odd, so that its median is a time that was measured."""

CHUNK_US = 5000.0
"""A chunk has as many calls as take no longer than this: a stray one then counts little, and the machine does not
drift between the chunks of a block."""


def collect_blocks(
    take: Callable[[Sequence[int]], Sequence[Block]], candidates: int, plan: Plan, seed: str, observe: Call = nothing
) -> tuple[tuple[tuple[Block, ...], ...], str]:
    """Take blocks of the base and its candidates until the plan says stop for every candidate; all are kept.

    `take` is told the order of the sides, of which the base is 0, and gives a block for each candidate. The order is
    random, and that of every second round the one before backwards: each goes before each other as often as after it.
    The plan's time is for each candidate. Returns the blocks by candidate, and what ended them: `decided`, `time` or
    `blocks`.
    """
    deadline = time.monotonic() + candidates * plan.max_s
    orders = _orders(seed, candidates + 1)
    rounds: list[Sequence[Block]] = []
    while True:
        rounds.append(take(next(orders)))
        observe()
        late = time.monotonic() >= deadline and len(rounds) >= MIN_BLOCKS
        if not late and len(rounds) not in plan.looks:
            continue
        blocks = tuple(zip(*rounds, strict=True))
        if all(paired_ratio(each, plan).is_decided(plan.certain_p) for each in blocks):
            return blocks, "decided"
        if late or len(rounds) >= plan.looks[-1]:
            return blocks, "time" if late else "blocks"


def chunk_calls(call_us: float) -> int:
    """Calls of one chunk, for calls that take so many microseconds."""
    return next((count for count in CHUNK_CALLS if count * call_us <= CHUNK_US), CHUNK_CALLS[-1])


def _orders(seed: str, sides: int) -> Iterator[Sequence[int]]:
    generator = random.Random(seed)
    while True:
        order = generator.sample(range(sides), sides)
        yield from (order, order[::-1])
