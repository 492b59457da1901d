"""Clocks, power and energy, from the readings that a record stores."""

from dataclasses import replace

import pytest

from mlabench.records import conditions
from mlabench.records.metrics import energy_j_per_call
from mlabench.records.record import Record
from tests.factories import make_case, make_record, make_run

STATE = {"max_sm_clock_mhz": 1980}


def record(clocks: tuple[float, ...] | None = None, method: str = "graph", **telemetry: list[object]) -> Record:
    base = make_record(make_case(), latency_us=1000.0, noise=0.0, samples=8, method=method)
    assert base.timing is not None
    return replace(base, timing=replace(base.timing, sm_clocks_mhz=clocks), telemetry=telemetry or None)


@pytest.mark.parametrize(
    ("clocks", "reasons", "expected"),
    [
        ((1975.0,) * 8, [["software power cap"]], False),
        ((1500.0,) * 8, [[]], True),
        (None, [["software power cap"], []], True),
        (None, [["idle"], []], False),
        (None, [None], None),
    ],
)
def test_the_devices_own_clock_outweighs_what_nvml_says(
    clocks: tuple[float, ...] | None, reasons: list[object], expected: bool | None
) -> None:
    manifest = make_run(None, [], gpu_state=STATE).manifest
    assert conditions.throttled(record(clocks, clock_event_reasons=reasons), manifest) is expected


def test_the_clock_is_nvmls_where_the_device_was_not_read() -> None:
    assert conditions.sm_clock_mhz(record(None, sm_clock_mhz=[1980, 1500, 1500])) == 1500
    assert conditions.sm_clock_mhz(record((1900.0, 1910.0, 1920.0), sm_clock_mhz=[1980])) == 1910
    assert conditions.sm_clock_mhz(record()) is None


def test_a_clock_that_fell_in_the_middle_shows() -> None:
    assert conditions.sm_clock_change(record((2000.0,) * 4 + (1500.0,) * 4)) == pytest.approx(-0.25)
    assert conditions.sm_clock_change(record()) is None


def test_what_disturbs_a_record_is_said_in_words() -> None:
    manifest = make_run(None, [], gpu_state=STATE).manifest
    fell = record((1980.0,) * 4 + (1900.0,) * 4, compute_processes=[1, 2])
    assert conditions.disturbances(fell, manifest) == [
        "other processes were on the GPU",
        "the SM clock changed by -4.0% while sampling",
    ]
    assert conditions.disturbances(record((1980.0,) * 4 + (1930.0,) * 4, compute_processes=[1]), manifest) == []
    assert conditions.disturbances(record(), manifest) == []


def test_others_on_the_processors_are_said_over_a_tenth_of_them() -> None:
    manifest = make_run(None, []).manifest
    busy, idle = record(others_share=[None, 0.1, 0.5, 0.6]), record(others_share=[0.02, 0.1, 0.3])
    assert conditions.others_share(busy) == 0.5 and conditions.crowded(busy)
    assert conditions.disturbances(busy, manifest) == ["others had 50% of the processors"]
    assert conditions.others_share(idle) == 0.1 and not conditions.crowded(idle)
    assert conditions.disturbances(idle, manifest) == []
    assert conditions.others_share(record(others_share=[None])) is None and not conditions.crowded(record())


def test_energy_counts_from_step_to_step_of_the_counter() -> None:
    """A counter that adds 60 J each 0.1 s, read five times as often: 600 W, whenever the readings began."""
    at_s = [5.013 + 0.02 * i for i in range(150)]
    energy_j: list[object] = [60.0 * (i // 5) for i in range(150)]
    sustained = record(method="sustained", at_s=list(at_s), energy_j=energy_j)
    assert conditions.mean_power_w(sustained) == pytest.approx(600.0)
    assert energy_j_per_call(sustained) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("method", "readings"), [("graph", 150), ("sustained", 8), ("sustained", 1)], ids=["burst", "short", "one reading"]
)
def test_energy_is_unknown_for_bursts_and_short_windows(method: str, readings: int) -> None:
    energy_j: list[object] = [60.0 * (i // 5) for i in range(readings)]
    assert energy_j_per_call(record(method=method, at_s=[0.02 * i for i in range(readings)], energy_j=energy_j)) is None


def test_other_processes_are_counted_at_their_most() -> None:
    assert conditions.gpu_processes(record(compute_processes=[1, 2, 1])) == 2
    assert conditions.gpu_processes(record()) is None
