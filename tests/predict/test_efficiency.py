"""The fit finds what made the times, and stays where the times say nothing."""

import math
import random

import pytest

from mlabench.predict.demand import Demand
from mlabench.predict.efficiency import START, Efficiency, Measured, fit_efficiency

TRUTH = Efficiency(
    overhead_us=8.0,
    merge_us_per_row=0.004,
    bandwidth_share=0.9,
    flops_share=0.5,
    expansion_share=0.35,
    sharpness=2.5,
)


def measured(demand: Demand, noise: float = 1.0) -> Measured:
    return Measured(demand, TRUTH.latency_us(demand) * noise, "kernel", 0)


def draw_demand(draw: random.Random) -> Demand:
    memory_us, compute_us = 10 ** draw.uniform(-1, 4), 10 ** draw.uniform(-1, 4)
    return Demand(memory_us, compute_us, draw.choice([0.0, compute_us]), draw.choice([0, 128, 4096]))


def test_a_call_takes_its_fixed_time_and_then_what_the_roofline_says() -> None:
    assert TRUTH.latency_us(Demand(9.0, 0.0)) == pytest.approx(8 + 10)
    assert TRUTH.latency_us(Demand(0.0, 5.0)) == pytest.approx(8 + 10)
    assert 18 < TRUTH.latency_us(Demand(9.0, 5.0)) < 28


def test_merging_and_expanding_come_on_top() -> None:
    assert TRUTH.latency_us(Demand(9.0, 0.0, merged_rows=1000)) == pytest.approx(8 + 10 + 4)
    assert TRUTH.latency_us(Demand(9.0, 0.0, expand_us=7.0)) == pytest.approx(8 + 10 + 20)
    assert TRUTH.fixed_us(Demand(9.0, 0.0, 7.0, 1000)) == pytest.approx(8 + 4)


def test_the_fit_finds_what_made_the_times() -> None:
    draw = random.Random(0)
    found = fit_efficiency([measured(draw_demand(draw)) for _ in range(100)])
    assert found.overhead_us == pytest.approx(TRUTH.overhead_us, rel=0.02)
    assert found.merge_us_per_row == pytest.approx(TRUTH.merge_us_per_row, rel=0.05)
    assert found.bandwidth_share == pytest.approx(TRUTH.bandwidth_share, rel=0.02)
    assert found.flops_share == pytest.approx(TRUTH.flops_share, rel=0.02)
    assert found.expansion_share == pytest.approx(TRUTH.expansion_share, rel=0.02)
    assert found.sharpness == pytest.approx(TRUTH.sharpness, rel=0.05)


def test_noise_moves_the_fit_little() -> None:
    draw = random.Random(1)
    found = fit_efficiency([measured(draw_demand(draw), draw.lognormvariate(0, 0.05)) for _ in range(200)])
    assert found.bandwidth_share == pytest.approx(TRUTH.bandwidth_share, rel=0.05)
    assert found.flops_share == pytest.approx(TRUTH.flops_share, rel=0.05)


def test_what_the_points_do_not_tell_stays_at_its_start() -> None:
    found = fit_efficiency([measured(Demand(10 ** (step / 10), 0.0)) for step in range(40)])
    untold = fit_efficiency([])
    assert found.bandwidth_share == pytest.approx(TRUTH.bandwidth_share, rel=0.02)
    assert found.flops_share == pytest.approx(untold.flops_share, abs=0.01)
    assert found.expansion_share == pytest.approx(untold.expansion_share)
    assert found.merge_us_per_row == pytest.approx(untold.merge_us_per_row)
    assert untold.sharpness == pytest.approx(1 + math.exp(START[-1]))


@pytest.mark.parametrize("latency_us", [1e-6, 1.0, 1e12])
def test_odd_times_do_not_stop_the_fit(latency_us: float) -> None:
    demands = [Demand(10.0**step, 10.0 ** (8 - step)) for step in range(9)]
    found = fit_efficiency([Measured(demand, latency_us, "kernel", 0) for demand in demands])
    assert 0 < found.bandwidth_share <= 1
    assert found.overhead_us > 0


def test_times_below_the_roofline_do_not_give_a_share_over_one() -> None:
    times = [10 ** (step / 10) for step in range(40)]
    found = fit_efficiency([Measured(Demand(time, 0.0), 0.5 * time, "kernel", 0) for time in times])
    assert found.bandwidth_share <= 1
