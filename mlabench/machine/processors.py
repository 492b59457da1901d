"""What else the processors did that this process may run on, by Linux's own counters."""

import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")

IDLE = (3, 4)
"""Columns of a processor in /proc/stat (proc(5)) in which nothing ran: idle, and idle while waiting for a disk."""

COUNTED = 8
"""Its columns from user to steal; those behind them, guests' time, are in the first two already."""

WINDOW_S = 0.5
"""Least time over which a share is told: the counters move in steps of 10 ms, which makes it wrong by 0.04 at most."""


@dataclass(frozen=True, slots=True)
class _Reading:
    at_s: float
    busy_s: float
    own_s: float


@dataclass(slots=True)
class Processors:
    """The processors that this process may run on, told from all others."""

    numbers: frozenset[int]
    _readings: deque[_Reading] = field(default_factory=deque)

    @classmethod
    def open(cls) -> "Processors | None":
        """Those of this process from now on; None where the system does not count their time."""
        if not hasattr(os, "sched_getaffinity"):
            return None
        processors = cls(frozenset(os.sched_getaffinity(0)))
        try:
            processors.sensors()
        except (OSError, ValueError):
            return None
        return processors

    def sensors(self) -> dict[str, Any]:
        """The share of the processors' time that others had, this process's threads left out, over the last
        `WINDOW_S` or since the first reading after; None before so much time has passed.

        Raises `OSError` and `ValueError` where the system does not count the processors' time.
        """
        now = _Reading(time.monotonic(), busy_s(STAT.read_text(encoding="ascii"), self.numbers), time.process_time())
        while len(self._readings) > 1 and now.at_s - self._readings[1].at_s >= WINDOW_S:
            self._readings.popleft()
        self._readings.append(now)
        first = self._readings[0]
        if now.at_s - first.at_s < WINDOW_S:
            return {"others_share": None}
        others_s = (now.busy_s - first.busy_s) - (now.own_s - first.own_s)
        share = others_s / ((now.at_s - first.at_s) * len(self.numbers))
        return {"others_share": round(min(max(share, 0.0), 1.0), 3)}


def busy_s(stat: str, numbers: frozenset[int]) -> float:
    """Seconds since boot in which the processors of these numbers were not idle, by the text of /proc/stat.

    Raises ValueError where it does not count each of them; a sandbox may show zeros.
    """
    lines = (line.split() for line in stat.splitlines() if line.startswith("cpu"))
    counts = {int(name[3:]): list(map(int, columns[:COUNTED])) for name, *columns in lines if name != "cpu"}
    counted = [counts.get(number, [0]) for number in numbers]
    if not all(map(sum, counted)):
        raise ValueError(f"{STAT} does not count every processor's time")
    return sum(sum(each) - sum(each[column] for column in IDLE) for each in counted) / os.sysconf("SC_CLK_TCK")
