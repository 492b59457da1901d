"""When alternating blocks end, and in which order the sides go."""

import itertools
import math
import random
from collections.abc import Callable

import pytest

from mlabench.measure import blocks
from mlabench.measure.blocks import chunk_calls, collect_blocks
from mlabench.records.pairs import Block, Plan

PLAN = Plan((12, 24, 48), math.inf, min_effect=0.01, min_effect_us=0.2, certain_p=0.001)


def take(factor: float, sd: float = 0.0) -> Callable[[bool], Block]:
    rng = random.Random(3)
    return lambda base_first: Block(base_first, (100.0,), (100 * factor * math.exp(rng.gauss(0, sd)),))


@pytest.mark.parametrize("factor", [1.0, 1.05, 0.95])
def test_a_clear_ratio_ends_at_the_first_look(factor: float) -> None:
    taken, stop = collect_blocks(take(factor, 0.001), PLAN, "seed")
    assert (len(taken), stop) == (12, "decided")


def test_noise_asks_for_more_blocks_up_to_the_last_look() -> None:
    taken, stop = collect_blocks(take(1.0, 0.012), PLAN, "seed")
    assert (len(taken), stop) == (24, "decided")
    taken, stop = collect_blocks(take(1.01, 0.03), PLAN, "seed")
    assert (len(taken), stop) == (48, "blocks")


def test_between_looks_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    judge = blocks.paired_ratio
    monkeypatch.setattr(blocks, "paired_ratio", lambda taken, plan: counts.append(len(taken)) or judge(taken, plan))
    collect_blocks(take(1.01, 0.03), PLAN, "seed")
    assert counts == [12, 24, 48]


def test_time_ends_it_with_the_least_that_can_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 1.0)
    monkeypatch.setattr(blocks.time, "monotonic", lambda: next(clock))
    plan = Plan((12, 24), 2.5, 0.01, 0.2, 0.001)
    taken, stop = collect_blocks(take(1.01, 0.05), plan, "seed")
    assert (len(taken), stop) == (5, "time")


def test_sides_take_turns_at_random_and_each_goes_first_as_often() -> None:
    taken, _ = collect_blocks(take(1.01, 0.03), PLAN, "seed")
    order = [block.base_first for block in taken]
    assert all(first != second for first, second in zip(order[::2], order[1::2], strict=True))
    assert len(set(order[::2])) == 2
    again, other = (collect_blocks(take(1.01, 0.03), PLAN, seed)[0] for seed in ("seed", "other"))
    assert [block.base_first for block in again] == order
    assert [block.base_first for block in other] != order


def test_sensors_are_read_after_each_block() -> None:
    reads: list[int] = []
    taken, _ = collect_blocks(take(1.0), PLAN, "seed", lambda: reads.append(1))
    assert len(reads) == len(taken)


@pytest.mark.parametrize(("call_us", "calls"), [(5, 5), (1000, 5), (1001, 3), (1700, 1), (1e6, 1)])
def test_long_calls_make_small_chunks(call_us: float, calls: int) -> None:
    assert chunk_calls(call_us) == calls
