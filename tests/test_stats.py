"""Order-statistics intervals."""

import math
import random
from statistics import NormalDist

import pytest

from mlabench.stats import (
    median_interval,
    relative_half_width,
    student_t_quantile,
    student_t_tail,
    trimmed_level,
)


def test_interval_of_few_samples_is_their_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def test_ranks_of_the_interval() -> None:
    middle, low, high = median_interval([float(value) for value in range(1, 101)])
    assert middle == 50.5
    assert 40 < low < 41
    assert 60 < high < 61


def test_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    rng = random.Random(1)
    trials, covered = 3000, 0
    for trial in range(trials):
        count = (6, 10, 15, 40, 200)[trial % 5]
        _, low, high = median_interval([rng.lognormvariate(0, 1) for _ in range(count)])
        covered += low <= 1.0 <= high
    assert 0.94 <= covered / trials <= 0.965


def test_thousands_of_samples_have_an_interval_too() -> None:
    _, low, high = median_interval([float(value) for value in range(5000)])
    assert 2400 < low < 2440 < 2560 < high < 2600


def test_identical_samples_have_no_width() -> None:
    assert relative_half_width([5.0] * 10) == 0


@pytest.mark.parametrize(
    ("freedom", "tail", "t"),
    [
        *((1, 0.05, 6.314), (1, 0.01, 31.821), (2, 0.025, 4.303), (4, 0.05, 2.132), (9, 0.05, 1.833)),
        *((9, 0.01, 2.821), (9, 0.0005, 4.781), (30, 0.025, 2.042), (60, 0.001, 3.232), (120, 0.05, 1.658)),
    ],
)
def test_students_t_as_tabulated(freedom: int, tail: float, t: float) -> None:
    assert student_t_quantile(tail, freedom) == pytest.approx(t, abs=6e-4)
    assert student_t_tail(t, freedom) == pytest.approx(tail, rel=2e-3)
    assert student_t_tail(-t, freedom) == pytest.approx(1 - tail, rel=1e-3)


def test_students_t_far_out_and_with_many_degrees_of_freedom() -> None:
    assert student_t_tail(0, 7) == 0.5
    assert student_t_tail(1e6, 9) < 1e-40
    assert student_t_tail(-1e6, 9) == 1
    # One degree of freedom is Cauchy's distribution, which has a closed form.
    assert student_t_tail(1e3, 1) == pytest.approx(math.atan(1e-3) / math.pi, rel=1e-12)
    for z in (0.5, 1.0, 3.0, 5.0):
        assert student_t_tail(z, 10**7) == pytest.approx(NormalDist().cdf(-z), rel=1e-4)


def test_a_trimmed_level_of_few_values_is_their_mean() -> None:
    level = trimmed_level([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (level.value, level.freedom) == (3.0, 4)
    assert level.standard_error == pytest.approx(math.sqrt(2.5 / 5))
    low, high = level.interval(0.05)
    assert (low + high) / 2 == pytest.approx(3.0)
    assert level.p_above(low) == pytest.approx(0.05)
    assert level.p_below(high) == pytest.approx(0.05)
    assert level.p_above(3.0) == 0.5


def test_a_stray_value_hardly_moves_a_trimmed_level() -> None:
    rng = random.Random(5)
    values = [rng.gauss(0, 1) for _ in range(20)]
    clean, strayed = trimmed_level(values), trimmed_level([*values[:-1], 1000.0])
    assert abs(strayed.value - clean.value) < 0.3
    assert strayed.standard_error < 1.5 * clean.standard_error


def test_a_trimmed_levels_interval_covers_as_often_as_it_says() -> None:
    rng = random.Random(6)
    trials, covered = 3000, 0
    for trial in range(trials):
        low, high = trimmed_level([rng.gauss(0, 1) for _ in range((12, 24, 48)[trial % 3])]).interval(0.05)
        covered += low <= 0 <= high
    assert 0.885 <= covered / trials <= 0.915


def test_values_that_are_all_alike_leave_no_doubt() -> None:
    level = trimmed_level([0.5] * 12)
    assert level.p_above(0.4) < 1e-30
    assert level.p_below(0.4) == 1
