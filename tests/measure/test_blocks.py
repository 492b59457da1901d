"""When alternating blocks end, and in which order the sides go."""

import itertools
import math
import random
from collections.abc import Callable, Sequence

import pytest

from mlabench.measure import blocks as blocks_module
from mlabench.measure.blocks import chunk_calls, collect_blocks
from mlabench.records.pairs import Block, Plan

PLAN = Plan((12, 24, 48), math.inf, min_effect=0.01, min_effect_us=0.2, certain_p=0.001)


def take(factor: float, sd: float = 0.0) -> Callable[[Sequence[int]], Sequence[Block]]:
    rng = random.Random(3)
    return lambda order: [Block(order[0] == 0, (100.0,), (100 * factor * math.exp(rng.gauss(0, sd)),))]


@pytest.mark.parametrize("factor", [1.0, 1.05, 0.95])
def test_a_clear_ratio_ends_at_the_first_look(factor: float) -> None:
    (taken,), stop = collect_blocks(take(factor, 0.001), 1, PLAN, "seed")
    assert (len(taken), stop) == (12, "decided")


def test_noise_asks_for_more_blocks_up_to_the_last_look() -> None:
    (taken,), stop = collect_blocks(take(1.0, 0.012), 1, PLAN, "seed")
    assert (len(taken), stop) == (24, "decided")
    (taken,), stop = collect_blocks(take(1.01, 0.03), 1, PLAN, "seed")
    assert (len(taken), stop) == (48, "blocks")


def test_between_looks_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    judge = blocks_module.paired_ratio
    monkeypatch.setattr(
        blocks_module, "paired_ratio", lambda taken, plan: counts.append(len(taken)) or judge(taken, plan)
    )
    collect_blocks(take(1.01, 0.03), 1, PLAN, "seed")
    assert counts == [12, 24, 48]


def test_time_ends_it_with_the_least_that_can_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 1.0)
    monkeypatch.setattr(blocks_module.time, "monotonic", lambda: next(clock))
    plan = Plan((12, 24), 2.5, 0.01, 0.2, 0.001)
    (taken,), stop = collect_blocks(take(1.01, 0.05), 1, plan, "seed")
    assert (len(taken), stop) == (5, "time")


def test_sides_take_turns_at_random_and_each_goes_first_as_often() -> None:
    (taken,), _ = collect_blocks(take(1.01, 0.03), 1, PLAN, "seed")
    order = [block.base_first for block in taken]
    assert all(first != second for first, second in zip(order[::2], order[1::2], strict=True))
    assert len(set(order[::2])) == 2
    again, other = (collect_blocks(take(1.01, 0.03), 1, PLAN, seed)[0][0] for seed in ("seed", "other"))
    assert [block.base_first for block in again] == order
    assert [block.base_first for block in other] != order


def test_of_several_sides_each_goes_before_each_other_as_often() -> None:
    orders: list[Sequence[int]] = []

    def take_three(order: Sequence[int]) -> Sequence[Block]:
        orders.append(order)
        return [Block(True, (100.0,), (100.0 * factor,)) for factor in (1.0, 1.1, 0.9)]

    blocks, stop = collect_blocks(take_three, 3, PLAN, "seed")
    assert (len(blocks), stop) == (3, "decided")
    assert [round(each[0].candidate_us[0]) for each in blocks] == [100, 110, 90]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert all(list(order) == list(back)[::-1] for order, back in zip(orders[::2], orders[1::2], strict=True))
    assert len({tuple(order) for order in orders}) > 4


def test_blocks_go_on_until_every_candidate_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    clear, noisy = take(1.05, 0.001), take(1.01, 0.03)
    blocks, stop = collect_blocks(lambda order: [*clear(order), *noisy(order)], 2, PLAN, "seed")
    assert ([len(each) for each in blocks], stop) == ([48, 48], "blocks")
    clock = itertools.count(0.0, 1.0)
    monkeypatch.setattr(blocks_module.time, "monotonic", lambda: next(clock))
    hurried = Plan((48,), 5.5, 0.01, 0.2, 0.001)
    assert len(collect_blocks(noisy, 1, hurried, "seed")[0][0]) == 6
    assert len(collect_blocks(lambda order: [*clear(order), *noisy(order)], 2, hurried, "seed")[0][0]) == 11


def test_sensors_are_read_after_each_block() -> None:
    reads: list[int] = []
    (taken,), _ = collect_blocks(take(1.0), 1, PLAN, "seed", lambda: reads.append(1))
    assert len(reads) == len(taken)


@pytest.mark.parametrize(("call_us", "calls"), [(5, 5), (1000, 5), (1001, 3), (1700, 1), (1e6, 1)])
def test_long_calls_make_small_chunks(call_us: float, calls: int) -> None:
    assert chunk_calls(call_us) == calls
