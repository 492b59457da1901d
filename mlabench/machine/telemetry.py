"""A device's sensors over the time of a point: read while it is measured, stored by column."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

INTERVAL_S = 0.02
"""Least time between two readings that `read` keeps."""


class Sensors(Protocol):
    """What tells of a device while it is measured on: a GPU's NVML, or a CPU's counters."""

    def sensors(self) -> dict[str, Any]:
        """Every sensor's reading by name, None for one that gave none."""
        ...


@dataclass(slots=True)
class Telemetry:
    """Readings of one device; `read` is called between batches of samples, more often than it keeps a reading."""

    source: Sensors
    _readings: list[dict[str, Any]] = field(default_factory=list)
    _latest_s: float = float("-inf")

    def read(self) -> None:
        """Keep a reading unless the last one is younger than `INTERVAL_S`."""
        if time.monotonic() - self._latest_s >= INTERVAL_S:
            self.keep()

    def keep(self) -> None:
        """Take a reading."""
        self._latest_s = time.monotonic()
        self._readings.append({"at_s": round(self._latest_s, 4)} | self.source.sensors())

    def to_json(self) -> dict[str, list[Any]]:
        """Every sensor's readings, the same number of each; `at_s` are seconds of a clock without an origin."""
        return {name: [reading[name] for reading in self._readings] for name in self._readings[0]}
