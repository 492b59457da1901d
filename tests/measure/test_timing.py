"""Sampling: when it stops, and that every sample is kept."""

import itertools
import random

import pytest

from mlabench.errors import UsageError
from mlabench.measure.timing.cpu import CpuTimer
from mlabench.measure.timing.method import Budget, Samples, collect
from mlabench.measure.timing.methods import choose_cache, choose_method
from mlabench.stats import median_interval


def test_steady_samples_stop_at_the_least_number() -> None:
    samples, stop = collect(lambda count: Samples((10.0,) * count), Budget(min_samples=12))
    assert (len(samples.times_us), stop) == (12 + 3, "precise")


def test_intervals_of_adaptive_sampling_cover_the_median_as_often_as_they_say() -> None:
    """Stopping at the first narrow interval alone would choose the lucky ones: 92% of 95."""
    rng = random.Random(3)
    trials, covered = 1500, 0
    for trial in range(trials):
        spread = (0.004, 0.01, 0.02)[trial % 3]
        taken, _ = collect(lambda n, sd=spread: Samples(tuple(rng.gauss(10, 10 * sd) for _ in range(n))), Budget())
        _, low, high = median_interval(taken.times_us)
        covered += low <= 10 <= high
    assert 0.93 <= covered / trials <= 0.97


def test_noisy_samples_go_on_to_the_largest_number() -> None:
    noise = itertools.cycle([10.0, 20.0])
    samples, stop = collect(
        lambda count: Samples(tuple(next(noise) for _ in range(count))), Budget(max_s=60, max_samples=100)
    )
    assert (len(samples.times_us), stop) == (100, "samples")
    assert sorted(set(samples.times_us)) == [10.0, 20.0]


def test_time_ends_the_sampling_with_what_there_is() -> None:
    noise = itertools.cycle([10.0, 20.0])
    samples, stop = collect(lambda count: Samples(tuple(next(noise) for _ in range(count))), Budget(max_s=0))
    assert stop == "time"
    assert len(samples.times_us) == 20


def test_cpu_timer_prepares_every_timed_call() -> None:
    order: list[str] = []
    timing = CpuTimer().measure(lambda: order.append("call"), lambda: order.append("prepare"), Budget(min_samples=4))
    timed = order[order.index("prepare") :]
    assert len(timing.samples_us) >= 4
    assert timed == ["prepare", "call"] * (len(timed) // 2)
    assert all(sample > 0 for sample in timing.samples_us)


def test_auto_is_the_devices_first_method() -> None:
    assert choose_method("auto", "cpu") == "cpu"
    assert choose_method("auto", "cuda") == "graph"
    with pytest.raises(UsageError, match="does not time a cpu device: choose cpu, or auto"):
        choose_method("graph", "cpu")


def test_a_method_brings_about_the_cache_states_it_names() -> None:
    assert choose_cache("auto", "graph", "cuda") == "cold"
    assert choose_cache("warm", "events", "cuda") == "warm"
    assert choose_cache("auto", "sustained", "cuda") == "warm"
    with pytest.raises(UsageError, match="method 'cpu' has no 'cold' cache: choose warm, or auto"):
        choose_cache("cold", "cpu", "cpu")


def test_clocks_are_kept_only_where_every_batch_has_them() -> None:
    with_clocks, without = Samples((1.0,), (1980.0,)), Samples((2.0,))
    assert (Samples() + with_clocks + with_clocks).sm_clocks_mhz == (1980.0, 1980.0)
    assert (with_clocks + without).sm_clocks_mhz is None
    assert (Samples() + without + with_clocks) == Samples((2.0, 1.0), None)
