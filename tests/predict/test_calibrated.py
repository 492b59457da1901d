"""What a calibration adds to the rows: measured times, and how the other variants' latencies stand to the row's."""

from typing import Any

import pytest

from mlabench.cases.axes import Value
from mlabench.cases.grid import make_cases
from mlabench.predict.calibrated import LATENCY_SPEEDUPS
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import make_points, predict_rows
from mlabench.records.metrics import latency_us
from tests.predict.test_calibrate import calibration, run


def rows(*models: str, gpu: str = "h200-sxm", **options: Any) -> list[dict[str, Any]]:
    axes: dict[str, tuple[Value, ...]] = {"kv_len": (8192,)} | options.pop("axes", {})
    points = make_points(choose_models(models), axes, **options)
    return list(predict_rows(points, choose_gpus([gpu]), calibration()))


def test_what_the_run_measured_stands_beside_the_prediction() -> None:
    measured, between = rows("deepseek-v3", axes={"batch": (128,), "kv_len": (8192, 8000)})
    (case,) = make_cases({"batch": (128,), "kv_len": (8192,)}, ["deepseek-v3"])
    assert measured["measured_us"] == min(latency_us(each) or 0 for each in run().records if each.case == case)
    assert between["measured_us"] is None
    assert between["latency_us"] == pytest.approx(measured["latency_us"], rel=0.05)


def test_speedups_are_quotients_of_the_latencies() -> None:
    axes = {"variant": ("mha", "gqa", "mqa", "mla"), "batch": (32,)}
    by_name = {row["variant"]: row for row in rows("deepseek-v3", axes=axes)}
    for name, row in by_name.items():
        assert row[f"latency_speedup_vs_{name}"] is None
        for other in set(by_name) - {name}:
            ratio, low, high = (row[column] for column in LATENCY_SPEEDUPS[other])
            assert ratio == pytest.approx(by_name[other]["latency_us"] / row["latency_us"], rel=1e-12)
            assert low < ratio < high


def test_ranks_are_compared_with_ranks() -> None:
    one, eight = rows("deepseek-v3", tps=(1, 8), axes={"batch": (128,)})
    assert one["latency_speedup_vs_gqa"] > 1 > eight["latency_speedup_vs_gqa"]
    (grouped,) = rows("llama-3.1-405b", tps=(8,))
    assert [grouped[column] for column in LATENCY_SPEEDUPS["mqa"]] == [1, 1, 1], "GQA-8 on eight ranks is MQA"


@pytest.mark.parametrize(
    "options",
    [
        {"gpu": "a100-sxm-80gb"},
        {"cache_formats": ("float8",)},
        {"axes": {"phase": ("prefill",)}},
        {"axes": {"scope": ("layer",)}},
    ],
)
def test_what_the_run_does_not_tell_is_null(options: dict[str, Any]) -> None:
    (row,) = rows("deepseek-v3", **options)
    assert {row[name] for name in ("latency_us", "measured_us", *sum(LATENCY_SPEEDUPS.values(), ()))} == {None}
