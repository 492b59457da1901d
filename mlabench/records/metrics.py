"""Derived columns: one function and one row each, computed from stored records, so that old runs gain new ones."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from mlabench.cases.case import Case
from mlabench.cases.tensors import CORE_PART
from mlabench.records import conditions
from mlabench.records.manifest import Manifest
from mlabench.records.record import Record
from mlabench.stats import median_interval

Compute = Callable[[Record, Manifest], Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the export: its name (with the unit), what it means, and how it comes from a record."""

    name: str
    meaning: str
    compute: Compute


@dataclass(frozen=True, slots=True)
class _Counts:
    kv_cache_bytes_per_token: int
    kv_cache_bytes: int
    kv_cache_allocated_bytes: int
    unavoidable_bytes: int
    bytes_moved: int
    flops: int


@lru_cache(maxsize=2**14)
def _counts(case: Case) -> _Counts:
    """What most columns need of a case, and takes longest to sum up."""
    return _Counts(*(getattr(case, field.name) for field in fields(_Counts)))


def latency_us(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Median of the samples, in microseconds."""
    return _interval(record, 0)


def fraction_of_floor(record: Record, manifest: Manifest) -> float | None:
    """The roofline's least time over the measured time: 1 is the floor."""
    return _quotient(_floor_us(record, manifest), latency_us(record))


def bound(record: Record, manifest: Manifest) -> str | None:
    """`memory` or `compute`: which of the two times of the roofline is longer."""
    ceilings, counts = manifest.ceilings, _counts(record.case)
    compute_us = ceilings.compute_us(counts.flops, record.case.dtype) if ceilings else None
    if ceilings is None or compute_us is None:
        return None
    return "compute" if compute_us > ceilings.memory_us(counts.unavoidable_bytes) else "memory"


def energy_j_per_call(record: Record, manifest: Manifest | None = None) -> float | None:
    """Energy of one call in joules: the mean power of sustained calls times their time."""
    mean_power_w, call_us = conditions.mean_power_w(record, manifest), latency_us(record)
    return None if mean_power_w is None or call_us is None else mean_power_w * call_us * 1e-6


def parts_latency_us(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Sum of the times of a layer's parts, each a launch of its own, in microseconds."""
    return sum(part.latency_us for part in record.parts) if record.parts else None


def core_latency_us(record: Record, _manifest: Manifest | None = None) -> float | None:
    """Time of a layer's core as a launch of its own, in microseconds."""
    return next((part.latency_us for part in record.parts if part.name == CORE_PART), None)


def _energy_j_per_token(record: Record, manifest: Manifest) -> float | None:
    return _quotient(energy_j_per_call(record, manifest), record.case.new_tokens)


def _cycles(record: Record, _manifest: Manifest) -> float | None:
    clock_mhz, call_us = conditions.sm_clock_mhz(record), latency_us(record)
    return None if clock_mhz is None or call_us is None else clock_mhz * call_us


def _floor_us(record: Record, manifest: Manifest) -> float | None:
    ceilings, counts = manifest.ceilings, _counts(record.case)
    return ceilings.floor_us(counts.unavoidable_bytes, counts.flops, record.case.dtype) if ceilings else None


def _interval(record: Record, place: int) -> float | None:
    return _median_interval(record.timing.samples_us)[place] if record.timing else None


@lru_cache(maxsize=1)
def _median_interval(samples_us: tuple[float, ...]) -> tuple[float, float, float]:
    return median_interval(samples_us)


def _quotient(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator


def _rate(count: int, record: Record) -> float | None:
    return _quotient(count * 1e6, latency_us(record))


METRICS: tuple[Metric, ...] = (
    Metric("latency_us", "median time of one call, in microseconds; a layer is one launch", latency_us),
    Metric("latency_us_low", "lower end of the median's 95% interval", lambda r, _: _interval(r, 1)),
    Metric("latency_us_high", "upper end of the median's 95% interval", lambda r, _: _interval(r, 2)),
    Metric("parts_latency_us", "sum of the median times of a layer's parts, each launched alone", parts_latency_us),
    Metric("core_latency_us", "median time of a layer's core, launched alone", core_latency_us),
    Metric("samples", "timed samples", lambda r, _: len(r.timing.samples_us) if r.timing else None),
    Metric(
        "cache",
        "cold or warm last-level cache at the start of a call",
        lambda r, _: r.timing.cache if r.timing else None,
    ),
    Metric("new_tokens", "queries of one call, over the batch", lambda r, _: r.case.new_tokens),
    Metric(
        "kv_cache_bytes_per_token",
        "cache bytes of a token in one layer",
        lambda r, _: _counts(r.case).kv_cache_bytes_per_token,
    ),
    Metric(
        "kv_cache_bytes",
        "cache bytes of the batch's tokens in one layer",
        lambda r, _: _counts(r.case).kv_cache_bytes,
    ),
    Metric(
        "kv_cache_allocated_bytes",
        "cache bytes of whole pages",
        lambda r, _: _counts(r.case).kv_cache_allocated_bytes,
    ),
    Metric(
        "bytes_moved",
        "least memory traffic of one call; of a layer, of its parts one by one",
        lambda r, _: _counts(r.case).bytes_moved,
    ),
    Metric(
        "unavoidable_bytes",
        "bytes_moved, in a layer without what its parts hand to one another",
        lambda r, _: _counts(r.case).unavoidable_bytes,
    ),
    Metric("flops", "FLOP of one call, a count", lambda r, _: _counts(r.case).flops),
    Metric(
        "arithmetic_intensity_flops_per_byte",
        "flops over unavoidable_bytes",
        lambda r, _: _counts(r.case).flops / _counts(r.case).unavoidable_bytes,
    ),
    Metric("bandwidth_bytes_per_s", "bytes_moved over the latency", lambda r, _: _rate(_counts(r.case).bytes_moved, r)),
    Metric("flops_per_s", "flops over the latency", lambda r, _: _rate(_counts(r.case).flops, r)),
    Metric("floor_us", "the roofline's least time, from the measured ceilings", _floor_us),
    Metric("fraction_of_floor", "floor_us over latency_us: 1 is the floor", fraction_of_floor),
    Metric("bound", "which ceiling the roofline says binds", bound),
    Metric("throttled", "the SM clock was held down, well under the GPU's highest", conditions.throttled),
    Metric("sm_clock_mhz", "median SM clock during the samples", conditions.sm_clock_mhz),
    Metric(
        "sm_clock_change",
        "SM clock at the end of the sampling over that at its start, less one",
        conditions.sm_clock_change,
    ),
    Metric("cycles", "SM clock cycles of one call: latency_us times sm_clock_mhz", _cycles),
    Metric("power_w", "median power while sampling", conditions.power_w),
    Metric("energy_j_per_call", "energy of one call under sustained load", energy_j_per_call),
    Metric("energy_j_per_token", "energy_j_per_call over the new tokens", _energy_j_per_token),
    Metric("temperature_c", "highest GPU temperature while sampling", conditions.temperature_c),
    Metric("gpu_processes", "most processes on the GPU while sampling, this one included", conditions.gpu_processes),
    Metric("others_share", "share of the CPU's time that others had while sampling", conditions.others_share),
)
"""Every derived column, in the export's order."""
