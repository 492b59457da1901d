"""A record: one case on one kernel, measured or with the reason why not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import index
from typing import Any, Literal, get_args

from mlabench.cases.case import Case

Status = Literal["ok", "unsupported", "unavailable", "incorrect", "oom", "error"]

PointKey = tuple[str, str, str]
"""Case id, kernel name, timing method: what a run holds at most once."""

ARITHMETIC = ("kv_cache_bytes", "kv_cache_allocated_bytes", "bytes_moved", "flops")
"""The exact counts of a case that a record stores, so that a changed formula shows against an older run."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Raw samples of one point, in microseconds a call, in the order they were taken.

    `cache` says whether a call finds its inputs in the last-level cache: `cold`, or `warm`. `stop` says what ended the
    sampling: `precise`, `time` or `samples`. `overhead_us` is what the method reads for an empty call; it is not
    subtracted. `sm_clocks_mhz` is the SM clock during each sample, None where the device's counters were not read.
    """

    samples_us: tuple[float, ...]
    cache: str
    warmup_calls: int
    stop: str
    overhead_us: float | None = None
    sm_clocks_mhz: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class PartTime:
    """One part of a layer, timed as a launch of its own: the median in microseconds, and the exact counts of its work.

    A part of the name `core` is the attention kernel.
    """

    name: str
    latency_us: float
    weight_bytes: int
    flops: int
    bytes_moved: int


@dataclass(frozen=True, slots=True)
class Record:
    """One measured case on one kernel. What was not measured is None, never 0.

    A record has a `timing` only if its status is `ok`: the output of a timed call passed the check. `phases_s` says
    where the point's wall time went: `inputs`, `reference`, on a GPU `clearing`, `bind`, `check`, `measure`, of a layer
    `parts`.
    `telemetry` holds the device's sensors over the measuring, a list of readings a sensor (`machine.telemetry`).
    `parts` are those of a layer in the order in which they run, whose whole the `timing` is; a core's record has none.
    """

    case: Case
    kernel: str
    backend: str
    method: str
    status: Status
    reason: str = ""
    timing: Timing | None = None
    relative_error: float | None = None
    lse_error: float | None = None
    workspace_bytes: int | None = None
    kernel_config: Mapping[str, Any] = field(default_factory=dict)
    telemetry: Mapping[str, Any] | None = None
    seed: int = 0
    started_at: str = ""
    wall_s: float | None = None
    phases_s: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[PartTime, ...] = ()
    stored_arithmetic: Mapping[str, int] | None = field(default=None, compare=False)

    @property
    def arithmetic(self) -> Mapping[str, int]:
        """The case's exact counts as the code that wrote the record computed them; a new record computes them now."""
        if self.stored_arithmetic is not None:
            return self.stored_arithmetic
        return {name: getattr(self.case, name) for name in ARITHMETIC}

    @property
    def key(self) -> PointKey:
        """What tells this record from the others of its run."""
        return self.case.case_id, self.kernel, self.method

    def to_json(self) -> dict[str, Any]:
        """Plain values for one line of `records.jsonl`."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("stored_arithmetic", "parts")}
        parts = {"parts": [asdict(part) for part in self.parts]} if self.parts else {}
        timing = asdict(self.timing) if self.timing else None
        return (
            plain
            | parts
            | {
                "case": self.case.to_fields(),
                "case_id": self.case.case_id,
                "models": list(self.case.models),
                "arithmetic": dict(self.arithmetic),
                "timing": timing,
            }
        )

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Record":
        """The record that `to_json` made these values from. Raises `ValueError` and its like for what is none."""
        values = {name: plain[name] for name in cls.__slots__ if name in plain}
        values["stored_arithmetic"] = {name: index(count) for name, count in (plain.get("arithmetic") or {}).items()}
        values["case"] = Case.from_fields(plain["case"], models=tuple(plain.get("models", ())))
        timing, status = plain.get("timing"), plain["status"]
        if status not in get_args(Status):
            raise ValueError(f"status {status!r} is unknown")
        if (timing is not None) != (status == "ok"):
            raise ValueError(f"a record that is {status} {'lacks its' if timing is None else 'has a'} timing")
        if not isinstance(plain.get("telemetry") or {}, Mapping):
            raise TypeError("telemetry is no table")
        if timing is not None:
            values["timing"] = _timing_from_json(timing)
        values["parts"] = tuple(map(_part_from_json, plain.get("parts") or ()))
        return cls(**values)


def are_times(samples_us: Sequence[float]) -> bool:
    """Whether there are samples, and all are positive finite numbers."""
    return bool(samples_us) and all(0 < sample < math.inf for sample in samples_us)


def _part_from_json(plain: Mapping[str, Any]) -> PartTime:
    counts = {name: index(plain[name]) for name in ("weight_bytes", "flops", "bytes_moved")}
    part = PartTime(str(plain["name"]), float(plain["latency_us"]), **counts)
    if not are_times([part.latency_us]):
        raise ValueError(f"the time of its part {part.name} is no positive number")
    return part


def _timing_from_json(plain: Mapping[str, Any]) -> Timing:
    clocks = plain.get("sm_clocks_mhz")
    samples_us = tuple(map(float, plain["samples_us"]))
    if not are_times(samples_us):
        raise ValueError("its samples are not positive numbers")
    sm_clocks_mhz = None if clocks is None else tuple(map(float, clocks))
    return Timing(**{**plain, "samples_us": samples_us, "sm_clocks_mhz": sm_clocks_mhz})
