"""Sampling: when it stops, and that every sample is kept."""

import itertools

import pytest

from mlabench.errors import UsageError
from mlabench.measure.timing.cpu import CpuTimer
from mlabench.measure.timing.method import Budget, collect
from mlabench.measure.timing.methods import choose_method


def test_steady_samples_stop_at_the_least_number() -> None:
    samples, stop = collect(lambda count: [10.0] * count, Budget(min_samples=10))
    assert (len(samples), stop) == (10, "precise")


def test_noisy_samples_go_on_to_the_largest_number() -> None:
    noise = itertools.cycle([10.0, 20.0])
    samples, stop = collect(lambda count: [next(noise) for _ in range(count)], Budget(max_s=60, max_samples=100))
    assert (len(samples), stop) == (100, "samples")
    assert sorted(set(samples)) == [10.0, 20.0]


def test_time_ends_the_sampling_with_what_there_is() -> None:
    noise = itertools.cycle([10.0, 20.0])
    samples, stop = collect(lambda count: [next(noise) for _ in range(count)], Budget(max_s=0))
    assert stop == "time"
    assert len(samples) == 10


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


def test_a_gpu_is_warmed_up_for_a_time_and_not_for_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlabench.measure.timing import cuda

    clock = itertools.count(0.0, 0.02)
    batches: list[int] = []
    monkeypatch.setattr(cuda.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(cuda, "timed_batch", lambda count, _launch, _before: batches.append(count))
    assert cuda.warm_up(lambda: None, lambda: None) == sum(batches)
    assert len(batches) == 3
