"""Derived columns, against values worked out by hand."""

import pytest

from mlabench.cases.grid import make_cases
from mlabench.machine.ceilings import Ceilings
from mlabench.records.frame import rows
from mlabench.records.metrics import METRICS
from tests.factories import make_case, make_record, make_run

CEILINGS = Ceilings(1e12, 0.5e12, 0.5e12, {"bfloat16": 100e12})


def row_of(latency_us: float | None = 100.0, status: str = "ok", **axes: object) -> dict[str, object]:
    case = make_cases({name: (value,) for name, value in axes.items()})[0]  # type: ignore[arg-type,misc]
    record = make_record(case, kernel="mla_decode_torch", latency_us=latency_us, noise=0.0, status=status)  # type: ignore[arg-type]
    run = make_run(None, [record], ceilings=CEILINGS)
    return rows(run)[0]


def test_rates_are_counts_over_the_median() -> None:
    row = row_of(variant="mqa", kv_len=8192, batch=4)
    assert row["latency_us"] == 100.0
    assert row["bandwidth_bytes_per_s"] == pytest.approx(row["bytes_moved"] / 100e-6)
    assert row["flops_per_s"] == pytest.approx(row["flops"] / 100e-6)
    assert row["kv_cache_bytes"] == 4 * 8192 * 512


def test_floor_is_the_longer_of_moving_and_computing() -> None:
    memory_bound = row_of(variant="mha", kv_len=8192)
    assert memory_bound["bound"] == "memory"
    assert memory_bound["floor_us"] == pytest.approx(memory_bound["bytes_moved"] / 1e12 * 1e6)
    compute_bound = row_of(variant="mla", kv_len=8192)
    assert compute_bound["bound"] == "compute"
    assert compute_bound["floor_us"] == pytest.approx(compute_bound["flops"] / 100e12 * 1e6)
    assert compute_bound["fraction_of_floor"] == pytest.approx(compute_bound["floor_us"] / 100.0)


def test_what_was_not_measured_is_none_and_never_zero() -> None:
    row = row_of(latency_us=None, status="unsupported", kv_len=1024)
    for name in (
        "latency_us",
        "latency_us_low",
        "samples",
        "bandwidth_bytes_per_s",
        "flops_per_s",
        "fraction_of_floor",
    ):
        assert row[name] is None
    assert row["bytes_moved"]


def test_every_metric_is_a_column_with_a_meaning() -> None:
    row = row_of()
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name in row
        assert metric.meaning


def test_energy_of_a_token_counts_every_new_token() -> None:
    case = make_case(phase="prefill", variant="mqa", batch=5, q_len=3, kv_len=9, kv_len_dist="ragged")
    sensors = {"at_s": [0.0, 1.0, 2.0, 3.0], "energy_j": [0.0, 100.0, 200.0, 300.0]}
    record = make_record(case, latency_us=1000.0, method="sustained", telemetry=sensors)
    row = rows(make_run(None, [record]))[0]
    assert case.new_tokens == row["new_tokens"] == 15
    assert row["energy_j_per_call"] == pytest.approx(100 * 1e-3)
    assert row["energy_j_per_token"] == pytest.approx(100 * 1e-3 / case.new_tokens)
