"""What a device did while a point was measured: a GPU's clocks, power and energy, and who else was on it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from mlabench.machine.nvml import THROTTLE_REASONS
from mlabench.records.manifest import Manifest
from mlabench.records.pairs import Pair
from mlabench.records.record import Record
from mlabench.units import format_percent

HELD_DOWN = 0.9
"""Share of its highest clock under which an SM counts as held down; a busy one slows by some percent by itself."""

NAMED_HELD_DOWN = 0.95
"""The same where NVML names a reason, which by itself may be a former point's: it comes 0.1 s late."""

STEADY = 0.03
"""Change of the SM clock over the samples, as a fraction, that is worth a warning."""

CROWDED = 0.1
"""Share of the processors' time that others had, over which a CPU's times may not be the kernel's alone: of up to ten
processors no more than the one that a sweep leaves free. The process that shows the progress takes some percent."""

MIN_ENERGY_WINDOW_S = 1.0
"""The energy counter moves in steps of some 0.1 s, so a shorter window says nothing."""


def sm_clock_mhz(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Median SM clock during the samples, from the device's counters or else from NVML."""
    clocks = (record.timing.sm_clocks_mhz if record.timing else None) or readings(record, "sm_clock_mhz")
    return median(clocks) if clocks else None


def sm_clock_change(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Median SM clock of the last quarter of the samples over that of the first, less one."""
    return _change((record.timing.sm_clocks_mhz if record.timing else None) or ())


def throttled(record: Record, manifest: Manifest) -> bool | None:
    """Whether the clock was held down: it lay well under the GPU's highest, or less so and NVML named a reason.

    Where the device's own counters were not read, the reasons alone decide.
    """
    clocks = (record.timing.sm_clocks_mhz if record.timing else None) or ()
    return _held_down(clocks, record.telemetry, manifest.gpu_state)


def disturbances(record: Record, manifest: Manifest) -> list[str]:
    """What makes a record's times doubtful, in words; empty where nothing is known to."""
    clocks = (record.timing.sm_clocks_mhz if record.timing else None) or ()
    return _disturbances(clocks, record.telemetry, manifest.gpu_state)


def pair_disturbances(pair: Pair, gpu_state: Mapping[str, Any] | None) -> list[str]:
    """The same of a pair's blocks; `gpu_state` is its manifest's."""
    sides = [(block.base_mhz or (), block.candidate_mhz or ()) for block in pair.blocks]
    clocks = [clock for base, candidate in sides for clock in (*base, *candidate)]
    return _disturbances(clocks, pair.telemetry, gpu_state)


def power_w(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Median power over the measuring, in watts."""
    values = readings(record, "power_w")
    return median(values) if values else None


def temperature_c(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Highest temperature over the measuring, in degrees Celsius."""
    return max(readings(record, "temperature_c"), default=None)


def gpu_processes(record: Record, _manifest: Manifest | None = None) -> int | None:
    """Most processes seen on the GPU, the measuring one included."""
    return max(_readings(record.telemetry, "compute_processes"), default=None)


def others_share(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Median share of the processors' time that others had while a CPU's point was sampled."""
    return _others_share(record.telemetry)


def crowded(record: Record) -> bool:
    """Whether others had more than `CROWDED` of the processors' time."""
    return (others_share(record) or 0.0) > CROWDED


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
    return _readings(record.telemetry, sensor)


def _readings(telemetry: Mapping[str, Any] | None, sensor: str) -> list[Any]:
    return [value for value in (telemetry or {}).get(sensor, ()) if value is not None]


def _disturbances(
    clocks: Sequence[float], telemetry: Mapping[str, Any] | None, gpu_state: Mapping[str, Any] | None
) -> list[str]:
    change = _change(clocks) or 0.0
    others = _others_share(telemetry) or 0.0
    found = {
        "clocks were held down": _held_down(clocks, telemetry, gpu_state),
        "other processes were on the GPU": max(_readings(telemetry, "compute_processes"), default=0) > 1,
        f"the SM clock changed by {format_percent(change, 1)} while sampling": abs(change) > STEADY,
        f"others had {format_percent(others)} of the processors": others > CROWDED,
    }
    return [text for text, is_so in found.items() if is_so]


def _others_share(telemetry: Mapping[str, Any] | None) -> float | None:
    shares = _readings(telemetry, "others_share")
    return median(shares) if shares else None


def _held_down(
    clocks: Sequence[float], telemetry: Mapping[str, Any] | None, gpu_state: Mapping[str, Any] | None
) -> bool | None:
    reasons = _readings(telemetry, "clock_event_reasons")
    named = not all(THROTTLE_REASONS.isdisjoint(reading) for reading in reasons)
    highest = (gpu_state or {}).get("max_sm_clock_mhz")
    if highest and clocks:
        return median(clocks) < (NAMED_HELD_DOWN if named else HELD_DOWN) * float(highest)
    return named if reasons else None


def _change(clocks: Sequence[float]) -> float | None:
    if not clocks or min(clocks) <= 0:
        return None
    quarter = max(1, len(clocks) // 4)
    return median(clocks[-quarter:]) / median(clocks[:quarter]) - 1
