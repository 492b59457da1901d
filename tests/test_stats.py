"""Order-statistics intervals."""

import random

from mlabench.stats import median_interval, relative_half_width


def test_interval_of_few_samples_is_their_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def test_ranks_of_the_interval() -> None:
    middle, low, high = median_interval([float(value) for value in range(1, 101)])
    assert (middle, low, high) == (50.5, 41.0, 61.0)


def test_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    rng = random.Random(1)
    trials = 2000
    covered = 0
    for _ in range(trials):
        _, low, high = median_interval([rng.lognormvariate(0, 1) for _ in range(40)])
        covered += low <= 1.0 <= high
    assert 0.94 <= covered / trials <= 0.99


def test_identical_samples_have_no_width() -> None:
    assert relative_half_width([5.0] * 10) == 0
