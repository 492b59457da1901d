import math

import pytest

from mlabench.verdict.noise import NOISE, PRIOR_RUNS, Noise, estimate_ratio

STEADY = [100.0] * 20


def at(level_us: float) -> list[float]:
    return [level_us] * 20


def test_identical_runs_still_carry_the_noise_between_runs() -> None:
    ratio = estimate_ratio(STEADY, [STEADY], NOISE["cuda"])
    assert ratio.value == pytest.approx(1)
    assert ratio.log_standard_error == pytest.approx(math.sqrt(2) * NOISE["cuda"].between_run_sd)
    low, high = ratio.interval
    assert low * high == pytest.approx(1) and high == pytest.approx(1.0141, abs=1e-4)
    assert ratio.equivalent


def test_noise_within_the_runs_widens_the_interval() -> None:
    noisy = [100.0 + 10 * (index % 5 - 2) for index in range(20)]
    steady, wide = (estimate_ratio(samples, [STEADY], NOISE["cuda"]) for samples in (STEADY, noisy))
    assert wide.value == steady.value
    assert wide.log_standard_error > 2 * steady.log_standard_error
    assert not wide.equivalent and steady.equivalent


def test_p_values_test_against_the_least_effect_and_not_against_zero() -> None:
    at_the_edge = estimate_ratio(at(105), [STEADY], NOISE["cuda"])
    assert at_the_edge.p_slower == pytest.approx(0.5)
    assert estimate_ratio(at(103), [STEADY], NOISE["cuda"]).p_slower > 0.95
    assert estimate_ratio(at(110), [STEADY], NOISE["cuda"]).p_slower < 1e-6


def test_faster_mirrors_slower() -> None:
    slower, faster = estimate_ratio(at(120), [STEADY], NOISE["cuda"]), estimate_ratio(STEADY, [at(120)], NOISE["cuda"])
    assert faster.p_faster == pytest.approx(slower.p_slower)
    assert faster.value == pytest.approx(1 / slower.value)


def test_a_tiny_kernel_is_judged_by_the_absolute_effect() -> None:
    tiny = estimate_ratio(at(2.3), [at(2.0)], NOISE["cuda"])
    assert tiny.min_effect == pytest.approx(0.5)
    assert tiny.equivalent and tiny.p_slower > 0.5
    assert estimate_ratio(at(230), [at(200)], NOISE["cuda"]).p_slower < 1e-6


def test_two_baselines_average_and_use_the_constant() -> None:
    ratio = estimate_ratio(STEADY, [at(90), at(110)], NOISE["cuda"])
    assert ratio.baseline_us == pytest.approx(math.sqrt(90 * 110))
    assert ratio.baseline_runs == 2
    assert ratio.log_standard_error == pytest.approx(NOISE["cuda"].between_run_sd * math.sqrt(1.5))


def test_three_baselines_that_disagree_widen_the_noise_and_three_that_agree_narrow_it() -> None:
    noise = Noise(between_run_sd=0.01, min_effect=0.05, min_effect_us=0.1)
    agreeing = estimate_ratio(STEADY, [STEADY] * 3, noise)
    disagreeing = estimate_ratio(STEADY, [at(90), at(100), at(110)], noise)
    quiet_sd = 0.01 * math.sqrt(PRIOR_RUNS / (PRIOR_RUNS + 2))
    assert agreeing.log_standard_error == pytest.approx(quiet_sd * math.sqrt(4 / 3))
    assert disagreeing.log_standard_error > 5 * agreeing.log_standard_error


def test_how_far_the_baselines_lie_apart_is_known() -> None:
    assert estimate_ratio(STEADY, [at(90), at(100), at(108)], NOISE["cuda"]).baselines_spread == pytest.approx(0.2)
    assert estimate_ratio(STEADY, [at(90)], NOISE["cuda"]).baselines_spread == 0
