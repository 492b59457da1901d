"""Calibration on the committed runs: how far off held-out points are, and what is refused."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError
from mlabench.predict.calibrate import Calibration, calibrate
from mlabench.predict.demand import demand_of
from mlabench.predict.hardware import choose_gpus, gpu_of_device
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import make_points
from mlabench.records.metrics import latency_us
from mlabench.records.store import Run, load_run

BASELINES = Path(__file__).parents[2] / "results" / "baselines" / "nvidia-h200"

CONTRACTS = {
    "decode": {"grouped", "mla_absorbed", "mla_recompute"},
    "layer": {"grouped layer", "mla_absorbed layer"},
    "prefix": {"mla_absorbed_prefill layer", "mla_recompute_prefill layer"},
}


@cache
def run(name: str = "decode") -> Run:
    return load_run(BASELINES / name)


@cache
def calibration(name: str = "decode") -> Calibration:
    return calibrate(run(name), gpu_of_device(run(name).manifest.fingerprint.device_name))


@pytest.mark.parametrize("name", CONTRACTS)
def test_held_out_points_are_predicted_within_a_tenth_in_every_regime(name: str) -> None:
    found = calibration(name)
    assert found.points == len(run(name).records)
    assert set(found.fits) == CONTRACTS[name]
    for fit in found.fits.values():
        for error in fit.errors:
            assert error.mean_absolute_error <= 0.10, (fit.contract, error)
    assert sum(error.points for error in found.errors) == found.points
    assert found.mean_absolute_error == pytest.approx(
        sum(e.points * e.mean_absolute_error for fit in found.fits.values() for e in fit.errors) / found.points
    )


def test_the_decode_baseline_is_predicted_within_a_twentieth() -> None:
    assert calibration().mean_absolute_error <= 0.05
    assert {error.regime for error in calibration().errors} == {"launch", "memory", "compute"}


def test_what_is_blind_has_not_seen_the_case() -> None:
    """A time a thousandfold moves what the other half is predicted to take, and not the case's own prediction."""
    seen = next(record for record in run().records if record.case.contract == "mla_absorbed")
    assert seen.timing is not None
    slow = replace(seen, timing=replace(seen.timing, samples_us=(1e3 * (latency_us(seen) or 0),)))
    records = tuple(slow if record is seen else record for record in run().records)
    moved = calibrate(replace(run(), records=records), gpu_of_device("NVIDIA H200"))
    cases = [record.case for record in run().records if record.case.contract == "mla_absorbed"]
    other = next(case for case in cases if (int(case.case_id, 16) + int(seen.case.case_id, 16)) % 2)
    assert moved.blind_latency_us(seen.case) == calibration().blind_latency_us(seen.case)
    assert moved.blind_latency_us(other) != calibration().blind_latency_us(other)


def test_a_kernel_that_chooses_is_fitted_by_what_it_chose() -> None:
    kernels = calibration().fits["mla_absorbed"].kernels
    assert set(kernels) == {"mla_decode_gluon", "mla_decode_gluon_few_rows"}
    few, many = kernels["mla_decode_gluon_few_rows"], kernels["mla_decode_gluon"]
    assert few.overhead_us < many.overhead_us
    assert few.flops_share < many.flops_share
    (gpu,) = choose_gpus(["h200-sxm"])
    sizes = {"variant": ("mla",), "num_q_heads": (128,), "batch": (1,), "kv_len": (1024, 131072)}
    for case, fastest in zip(make_cases(sizes), (few, many), strict=True):
        demand = demand_of(case, calibration().ceilings, calibration().processors)
        assert demand is not None
        assert calibration().latency_us(case, gpu)[0] == fastest.latency_us(demand)


def test_kernels_with_few_points_are_fitted_together() -> None:
    (name,) = calibration("prefix").fits["mla_recompute_prefill layer"].kernels
    assert name == "grouped_prefill_gluon, grouped_prefill_triton"


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
        for reached in fit.kernels.values():
            assert 0 < reached.bandwidth_share <= 1
            assert 0 < reached.flops_share <= 1
            assert 0 < reached.expansion_share <= 1
            assert reached.sharpness >= 1
            assert 3 < reached.overhead_us < 25
            assert 0 < reached.merge_us_per_row < 0.01


def test_what_the_run_says_nothing_about_has_no_latency() -> None:
    h200, a100 = choose_gpus(["h200-sxm", "a100-sxm-80gb"])
    decode, prefill = make_cases({"phase": ("decode", "prefill")})
    (single,) = make_cases({"dtype": ("float32",)})
    nothing = (None, None, None)
    assert calibration().latency_us(decode, h200) != nothing
    assert calibration().latency_us(decode, a100) == nothing
    assert calibration().latency_us(prefill, h200) == nothing
    assert calibration().latency_us(single, h200) == nothing


def test_layers_and_their_attention_are_told_apart() -> None:
    (gpu,) = choose_gpus(["h200-sxm"])
    axes = {"scope": ("core", "layer"), "kv_len": (8192,)}
    core, layer = (point.case for point in make_points(choose_models(["deepseek-v3"]), axes))
    assert calibration("layer").latency_us(core, gpu)[0] is None
    assert calibration().latency_us(layer, gpu)[0] is None
    whole, attention = calibration("layer").latency_us(layer, gpu)[0], calibration().latency_us(core, gpu)[0]
    assert whole is not None
    assert attention is not None
    assert whole > 2 * attention


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


@pytest.mark.parametrize("name", ["decode-sustained", "layer-sustained"])
def test_runs_under_lasting_load_are_refused_with_where_their_times_are(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} was measured under lasting load.*docs/tradeoff.md#sustained"):
        calibration(name)
    assert "\n## Sustained\n" in (BASELINES.parents[2] / "docs" / "tradeoff.md").read_text(encoding="utf-8")


def test_a_run_without_ceilings_is_refused() -> None:
    with pytest.raises(UsageError, match="no measured ceilings"):
        calibrate(replace(run(), manifest=replace(run().manifest, ceilings=None)), gpu_of_device("NVIDIA H200"))
