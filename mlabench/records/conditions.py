"""What a GPU did while a point was measured: clocks, power, energy, and who else was on it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from mlabench.machine.nvml import THROTTLE_REASONS
from mlabench.records.manifest import Manifest
from mlabench.records.record import Record

HELD_DOWN = 0.98
"""Share of its highest clock under which an SM counts as held down."""

MIN_ENERGY_WINDOW_S = 1.0
"""The energy counter moves in steps of some 0.1 s, so a shorter window says nothing."""


def sm_clock_mhz(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Median SM clock during the samples, from the device's counters or else from NVML."""
    clocks = (record.timing.sm_clocks_mhz if record.timing else None) or readings(record, "sm_clock_mhz")
    return median(clocks) if clocks else None


def sm_clock_change(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Median SM clock of the last quarter of the samples over that of the first, less one."""
    clocks = record.timing.sm_clocks_mhz if record.timing else None
    if not clocks or min(clocks) <= 0:
        return None
    quarter = max(1, len(clocks) // 4)
    return median(clocks[-quarter:]) / median(clocks[:quarter]) - 1


def throttled(record: Record, manifest: Manifest) -> bool | None:
    """Whether the clock was held down: it lay under `HELD_DOWN` of the GPU's highest.

    NVML is late by some 0.1 s, more than a point may take, so its reasons decide only where the device's own counters
    were not read.
    """
    highest = (manifest.gpu_state or {}).get("max_sm_clock_mhz")
    if highest and record.timing and record.timing.sm_clocks_mhz:
        return median(record.timing.sm_clocks_mhz) < HELD_DOWN * float(highest)
    reasons = readings(record, "clock_event_reasons")
    return not all(THROTTLE_REASONS.isdisjoint(reading) for reading in reasons) if reasons else None


def power_w(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Median power over the measuring, in watts."""
    values = readings(record, "power_w")
    return median(values) if values else None


def temperature_c(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Highest temperature over the measuring, in degrees Celsius."""
    return max(readings(record, "temperature_c"), default=None)


def gpu_processes(record: Record, _manifest: Manifest | None = None) -> int | None:
    """Most processes seen on the GPU, the measuring one included."""
    return max(readings(record, "compute_processes"), default=None)


def mean_power_w(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Mean power by the energy counter, from its first step to its last; None for anything but sustained calls."""
    if record.method != "sustained":
        return None
    columns: Mapping[str, Sequence[Any]] = record.telemetry or {}
    pairs = list(zip(columns.get("at_s", ()), columns.get("energy_j", ()), strict=False))
    steps = [now for before, now in pairwise(pairs) if None not in now and now[1] != before[1]]
    if len(steps) < 2 or steps[-1][0] - steps[0][0] < MIN_ENERGY_WINDOW_S:
        return None
    (start_s, start_j), (end_s, end_j) = steps[0], steps[-1]
    return float((end_j - start_j) / (end_s - start_s))


def readings(record: Record, sensor: str) -> list[Any]:
    """Every reading of a sensor that gave a value."""
    return [value for value in (record.telemetry or {}).get(sensor, ()) if value is not None]
