"""What the ratio of alternating blocks is worth."""

import math
import random

import pytest

from mlabench.records.paired_ratio import paired_cycles, paired_ratio
from mlabench.records.pairs import Block, Plan
from mlabench.stats import student_t_tail

ONE_LOOK, FOUR_LOOKS = (Plan(looks, 5.0, 0.01, 0.2, 0.001) for looks in ((24,), (12, 24, 48, 96)))


def blocks(factor: float, sd: float = 0.005, count: int = 24, base_us: float = 100.0) -> list[Block]:
    rng = random.Random(4)
    return [Block(True, (base_us,), (base_us * factor * math.exp(rng.gauss(0, sd)),)) for _ in range(count)]


def test_the_ratio_and_its_times() -> None:
    ratio = paired_ratio(blocks(1.05, sd=0.0), ONE_LOOK)
    assert ratio.value == pytest.approx(1.05)
    assert (ratio.baseline_us, ratio.current_us) == (100.0, pytest.approx(105.0))
    assert ratio.baseline_runs == 1
    low, high = paired_ratio(blocks(1.05), ONE_LOOK).interval
    assert 1.045 < low < 1.05 < high < 1.055


def test_it_is_held_against_the_least_effect_and_not_against_none() -> None:
    at_the_edge = paired_ratio(blocks(1.01, sd=0.0), ONE_LOOK)
    assert at_the_edge.p_slower == pytest.approx(0.5)
    assert paired_ratio(blocks(1.005), ONE_LOOK).p_slower > 0.9
    assert paired_ratio(blocks(1.03), ONE_LOOK).p_slower < 1e-6
    assert paired_ratio(blocks(1 / 1.03), ONE_LOOK).p_faster < 1e-6


def test_short_calls_are_held_against_the_least_time() -> None:
    ratio = paired_ratio(blocks(1.05, base_us=4.0), ONE_LOOK)
    assert ratio.min_effect == pytest.approx(0.05)
    assert ratio.p_slower > 0.1


def test_every_look_is_paid_for() -> None:
    once, often = (paired_ratio(blocks(1.012), plan) for plan in (ONE_LOOK, FOUR_LOOKS))
    assert often.p_slower == pytest.approx(4 * once.p_slower)
    (low, high), (lower, higher) = once.interval, often.interval
    assert lower < low < high < higher
    reach = (math.log(higher) - often.level.value) / often.level.standard_error
    assert student_t_tail(reach, often.level.freedom) == pytest.approx(0.05 / 4)
    assert paired_ratio(blocks(0.9), FOUR_LOOKS).p_slower == 1


def test_a_stray_block_decides_nothing() -> None:
    quiet = blocks(1.0)
    strayed = [*quiet[:-1], Block(True, (100.0,), (200.0,))]
    assert paired_ratio(quiet, ONE_LOOK).equivalent
    assert paired_ratio(strayed, ONE_LOOK).equivalent
    assert paired_ratio(strayed, ONE_LOOK).p_slower > 0.99


@pytest.mark.parametrize(
    ("factor", "decided", "equivalent", "not_slower"),
    [(1.0, True, True, True), (1.03, True, False, False), (0.97, True, False, True), (1.01, False, False, False)],
)
def test_when_it_is_decided(factor: float, decided: bool, equivalent: bool, not_slower: bool) -> None:
    ratio = paired_ratio(blocks(factor), FOUR_LOOKS)
    assert (ratio.is_decided(0.001), ratio.equivalent, ratio.not_slower) == (decided, equivalent, not_slower)


def test_cycles_need_the_clocks_of_half_of_the_blocks() -> None:
    clocked = [Block(True, b.base_us, b.candidate_us, (1900.0,), (1800.0,)) for b in blocks(1.0, sd=0.0)]
    cycles = paired_cycles(clocked, ONE_LOOK)
    assert cycles is not None
    assert cycles.value == pytest.approx(1800 / 1900)
    without = blocks(1.0, sd=0.0)
    most = paired_cycles([*clocked[:12], *without[:12]], ONE_LOOK)
    assert most is not None
    assert most.value == pytest.approx(1800 / 1900)
    assert paired_cycles([*clocked[:11], *without[:13]], ONE_LOOK) is None
    assert paired_cycles(clocked[:4], ONE_LOOK) is None
