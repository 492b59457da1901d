"""The fit finds what made the times, and stays where the times say nothing."""

import random

import pytest

from mlabench.predict.efficiency import Efficiency, Measured, fit_efficiency

TRUTH = Efficiency(overhead_us=8.0, bandwidth_share=0.9, flops_share=0.5, sharpness=2.5)


def measured(memory_us: float, compute_us: float, noise: float = 1.0) -> Measured:
    return Measured(memory_us, compute_us, TRUTH.latency_us(memory_us, compute_us) * noise, 0)


def test_a_call_takes_its_fixed_time_and_then_what_the_roofline_says() -> None:
    assert TRUTH.latency_us(9.0, 0.0) == pytest.approx(8 + 10)
    assert TRUTH.latency_us(0.0, 5.0) == pytest.approx(8 + 10)
    assert 18 < TRUTH.latency_us(9.0, 5.0) < 28


def test_the_fit_finds_what_made_the_times() -> None:
    draw = random.Random(0)
    points = [measured(10 ** draw.uniform(-1, 4), 10 ** draw.uniform(-1, 4)) for _ in range(60)]
    found = fit_efficiency(points)
    assert found.overhead_us == pytest.approx(TRUTH.overhead_us, rel=0.02)
    assert found.bandwidth_share == pytest.approx(TRUTH.bandwidth_share, rel=0.02)
    assert found.flops_share == pytest.approx(TRUTH.flops_share, rel=0.02)
    assert found.sharpness == pytest.approx(TRUTH.sharpness, rel=0.05)


def test_noise_moves_the_fit_little() -> None:
    draw = random.Random(1)
    points = [
        measured(10 ** draw.uniform(-1, 4), 10 ** draw.uniform(-1, 4), draw.lognormvariate(0, 0.05)) for _ in range(100)
    ]
    found = fit_efficiency(points)
    assert found.bandwidth_share == pytest.approx(TRUTH.bandwidth_share, rel=0.05)
    assert found.flops_share == pytest.approx(TRUTH.flops_share, rel=0.05)


def test_what_the_points_do_not_tell_stays_at_its_start() -> None:
    points = [measured(10 ** (step / 10), 0.0) for step in range(40)]
    found = fit_efficiency(points)
    assert found.bandwidth_share == pytest.approx(TRUTH.bandwidth_share, rel=0.02)
    assert found.flops_share == pytest.approx(0.62, abs=0.01)


@pytest.mark.parametrize("latency_us", [1e-6, 1.0, 1e12])
def test_odd_times_do_not_stop_the_fit(latency_us: float) -> None:
    found = fit_efficiency([Measured(10.0**step, 10.0 ** (8 - step), latency_us, 0) for step in range(9)])
    assert 0 < found.bandwidth_share <= 1
    assert found.overhead_us > 0


def test_times_below_the_roofline_do_not_give_a_share_over_one() -> None:
    found = fit_efficiency([Measured(10 ** (step / 10), 0.0, 0.5 * 10 ** (step / 10), 0) for step in range(40)])
    assert found.bandwidth_share <= 1
