"""When blocks of interleaved calls have told enough; nothing here knows a device."""

import random
import time
from collections.abc import Callable, Iterator

from mlabench.measure.timing.method import Call, nothing
from mlabench.records.paired_ratio import MIN_BLOCKS, paired_ratio
from mlabench.records.pairs import Block, Plan

CHUNK_CALLS = (5, 3, 1)
"""How many calls a chunk may have: odd, so that its median is a time that was measured."""

CHUNK_US = 5000.0
"""A chunk has as many calls as take no longer than this: a stray one then counts little, and the machine does not
drift between the two chunks of a block."""


def collect_blocks(
    take: Callable[[bool], Block], plan: Plan, seed: str, observe: Call = nothing
) -> tuple[tuple[Block, ...], str]:
    """Take blocks until the plan says stop; `take` is told whether the base goes first, and every block is kept.

    Of two blocks in a row the base goes first in one, in random order. Returns the blocks, and what ended them:
    `decided`, `time` or `blocks`.
    """
    deadline = time.monotonic() + plan.max_s
    orders = _orders(seed)
    blocks: list[Block] = []
    while True:
        blocks.append(take(next(orders)))
        observe()
        late = time.monotonic() >= deadline and len(blocks) >= MIN_BLOCKS
        if not late and len(blocks) not in plan.looks:
            continue
        if paired_ratio(blocks, plan).is_decided(plan.certain_p):
            return tuple(blocks), "decided"
        if late or len(blocks) >= plan.looks[-1]:
            return tuple(blocks), "time" if late else "blocks"


def chunk_calls(call_us: float) -> int:
    """Calls of one chunk, for calls that take so many microseconds."""
    return next((count for count in CHUNK_CALLS if count * call_us <= CHUNK_US), CHUNK_CALLS[-1])


def _orders(seed: str) -> Iterator[bool]:
    generator = random.Random(seed)
    while True:
        first = generator.random() < 0.5
        yield from (first, not first)
