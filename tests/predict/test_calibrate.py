"""Calibration on the committed run: how far off held-out points are, and what is refused."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError
from mlabench.predict.calibrate import Calibration, calibrate
from mlabench.predict.hardware import choose_gpus, gpu_of_device
from mlabench.records.metrics import latency_us
from mlabench.records.store import Run, load_run

BASELINE = Path(__file__).parents[2] / "results" / "baselines" / "nvidia-h200" / "decode"


@cache
def run() -> Run:
    return load_run(BASELINE)


@cache
def calibration() -> Calibration:
    return calibrate(run(), gpu_of_device(run().manifest.fingerprint.device_name))


def test_held_out_points_are_predicted_within_a_tenth() -> None:
    assert calibration().points == len(run().records)
    assert calibration().mean_absolute_error < 0.10
    assert set(calibration().fits) == {"grouped", "mla_absorbed", "mla_recompute"}
    for fit in calibration().fits.values():
        points = sum(error.points for error in fit.errors)
        assert sum(error.points * error.mean_absolute_error for error in fit.errors) / points < 0.10


def test_the_interval_holds_nine_in_ten() -> None:
    (gpu,) = choose_gpus(["h200-sxm"])
    held = 0
    for record in run().records:
        middle, low, high = calibration().latency_us(record.case, gpu)
        assert low is not None
        assert middle is not None
        assert high is not None
        assert low <= middle <= high
        held += low <= (latency_us(record) or 0) <= high
    assert 0.85 < held / len(run().records) < 0.97


def test_efficiencies_are_shares() -> None:
    for fit in calibration().fits.values():
        assert 0 < fit.efficiency.bandwidth_share <= 1
        assert 0 < fit.efficiency.flops_share <= 1
        assert fit.efficiency.sharpness >= 1
        assert 3 < fit.efficiency.overhead_us < 25


def test_what_the_run_says_nothing_about_has_no_latency() -> None:
    h200, a100 = choose_gpus(["h200-sxm", "a100-sxm-80gb"])
    decode, prefill = make_cases({"phase": ("decode", "prefill")})
    (single,) = make_cases({"dtype": ("float32",)})
    nothing = (None, None, None)
    assert calibration().latency_us(decode, h200) != nothing
    assert calibration().latency_us(decode, a100) == nothing
    assert calibration().latency_us(prefill, h200) == nothing
    assert calibration().latency_us(single, h200) == nothing


def test_a_contract_with_few_points_is_left_out() -> None:
    latent = [record for record in run().records if record.case.contract == "mla_absorbed"]
    grouped = [record for record in run().records if record.case.contract == "grouped"]
    few = replace(run(), records=(*latent, *grouped[:9]))
    found = calibrate(few, gpu_of_device("NVIDIA H200"))
    assert set(found.fits) == {"mla_absorbed"}
    assert found.left_out == {"grouped": 9}


def test_the_fastest_kernel_of_a_case_counts() -> None:
    slower = [
        replace(record, kernel="slower", timing=replace(record.timing, samples_us=(1e6,)))
        for record in run().records
        if record.timing
    ]
    doubled = replace(run(), records=(*slower, *run().records))
    assert calibrate(doubled, gpu_of_device("NVIDIA H200")) == calibration()


@pytest.mark.parametrize("kept", [0, 15])
def test_too_few_points_are_refused(kept: int) -> None:
    grouped = [record for record in run().records if record.case.contract == "grouped"]
    with pytest.raises(UsageError, match=f"has at most {kept} measured cases .* it takes 16"):
        calibrate(replace(run(), records=tuple(grouped[:kept])), gpu_of_device("NVIDIA H200"))


def test_a_run_without_ceilings_is_refused() -> None:
    with pytest.raises(UsageError, match="no measured ceilings"):
        calibrate(replace(run(), manifest=replace(run().manifest, ceilings=None)), gpu_of_device("NVIDIA H200"))
