"""Quotients of latencies: their interval, and that a run's measured ones lie within it as often as it says."""

import math
from collections import defaultdict
from itertools import permutations

import pytest

from mlabench.cases.case import Case
from mlabench.predict.hardware import gpu_of_device
from mlabench.predict.latency import UNKNOWN, speedup
from tests.predict.test_calibrate import calibration


def test_reaches_add_up_in_squares() -> None:
    ratio, low, high = speedup((100.0, 90.0, 120.0), (200.0, 160.0, 220.0))
    assert ratio == 2
    assert low is not None
    assert high is not None
    assert math.log(2 / low) == pytest.approx(math.hypot(math.log(1.2), math.log(1.25)))
    assert math.log(high / 2) == pytest.approx(math.hypot(math.log(1 / 0.9), math.log(1.1)))


def test_without_one_of_the_two_there_is_none() -> None:
    known = (1.0, 0.9, 1.1)
    assert speedup(known, UNKNOWN) == speedup(UNKNOWN, known) == UNKNOWN


@pytest.mark.parametrize("name", ["decode", "layer"])
def test_the_interval_of_a_quotient_holds_nine_in_ten(name: str) -> None:
    found, gpu = calibration(name), gpu_of_device("NVIDIA H200")
    settings: dict[object, list[Case]] = defaultdict(list)
    for case in found.measured_us:
        settings[case.batch, case.q_len, case.kv_len].append(case)
    held = []
    for cases in settings.values():
        for own, other in permutations(cases, 2):
            _, low, high = speedup(found.latency_us(own, gpu), found.latency_us(other, gpu))
            assert low is not None
            assert high is not None
            held.append(low <= found.measured_us[other] / found.measured_us[own] <= high)
    assert len(held) > 500
    assert 0.85 < sum(held) / len(held) < 0.97
