"""Series: the times of one point over runs of one machine, timing method and cache, in the order of their beginning."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlabench.cases.case import Case
from mlabench.cases.where import keep_where
from mlabench.errors import UsageError
from mlabench.records.conditions import disturbances
from mlabench.records.listing import began_at
from mlabench.records.manifest import Manifest
from mlabench.records.record import Record, Timing
from mlabench.records.store import Run, find_runs, load_run
from mlabench.stats import log_standard_error, median_interval
from mlabench.units import format_power

MACHINE = ("device", "device_name", "processors", "power_limit_w")
"""Of a fingerprint: what makes two runs' machine the same. Software may change within a series; a step names it."""

SOFTWARE = ("driver", "cuda", "torch", "triton")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a series never mixes. `power_limit_w` is in watts, None where the device has none."""

    device: str
    device_name: str
    processors: int
    power_limit_w: float | None
    method: str
    cache: str

    @property
    def label(self) -> str:
        """One line for people."""
        limit = [format_power(self.power_limit_w)] if self.power_limit_w else []
        threads = [f"{self.processors} thread{'' if self.processors == 1 else 's'}"] if self.device == "cpu" else []
        return ", ".join([self.device_name, *limit, *threads, self.method, f"{self.cache} cache"])


@dataclass(frozen=True, slots=True)
class Reading:
    """One run's time of the point: the median with its 95% interval in microseconds, and what it was measured under.

    `log_standard_error` is that of the median's logarithm. `terms` are what may explain a step: commit, versions, card.
    """

    run: str
    at: datetime
    latency_us: float
    low_us: float
    high_us: float
    log_standard_error: float
    terms: Mapping[str, Any]
    arithmetic: Mapping[str, int]
    disturbances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """One case on one kernel under one setting, the oldest reading first."""

    setting: Setting
    case: Case
    kernel: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Gathered:
    """The series of at least two readings, how many points have one alone, and lines about the runs."""

    series: tuple[Series, ...]
    runs: int
    single: int
    warnings: tuple[str, ...]


def gather(folder: Path, kernels: Sequence[str] = (), where: str = "") -> Gathered:
    """The series of all sweeps in the folder and below it; of some kernels or backends if they are named.

    `where` keeps cases for which the expression holds. A run that cannot be read is left out with a warning, and a copy
    of a measurement counts once. Raises `UsageError` for what is no folder, for a kernel that no run holds, and for an
    expression that keeps no case.
    """
    runs, warnings = _load(find_runs(folder))
    held = {name for run in runs for record in run.records for name in (record.kernel, record.backend)}
    if unknown := [name for name in kernels if name not in held]:
        raise UsageError(f"no run under {folder} holds kernel {unknown[0]!r}: `mlabench list runs {folder}` lists them")
    every = _every(runs, kernels)
    if where:
        kept = set(keep_where([one.case for one in every], where))
        every = [one for one in every if one.case in kept]
        if not every:
            raise UsageError(f"--where {where!r} keeps no case of the runs under {folder}: ask for less")
    series = tuple(one for one in every if len(one.readings) > 1)
    return Gathered(series, len(runs), len(every) - len(series), tuple(warnings))


def _every(runs: Sequence[Run], kernels: Sequence[str]) -> list[Series]:
    """All series, those of a single reading too."""
    found: dict[tuple[Setting, str, str], dict[datetime, tuple[Case, Reading]]] = {}
    for run in runs:
        for record in run.records:
            if record.timing and (not kernels or {record.kernel, record.backend} & set(kernels)):
                key = (_setting(run.manifest, record, record.timing), record.case.case_id, record.kernel)
                began = began_at(run.manifest)
                found.setdefault(key, {}).setdefault(began, (record.case, _reading(run, record, record.timing)))
    return [
        Series(setting, next(iter(at.values()))[0], kernel, tuple(at[began][1] for began in sorted(at)))
        for (setting, _, kernel), at in found.items()
    ]


def _load(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    runs, warnings = [], []
    for path in paths:
        try:
            run = load_run(path)
        except UsageError as error:
            warnings.append(str(error))
            continue
        warnings += run.warnings
        if "interleaved" not in run.manifest.config:
            runs.append(run)
    return runs, warnings


def _setting(manifest: Manifest, record: Record, timing: Timing) -> Setting:
    machine = {name: getattr(manifest.fingerprint, name) for name in MACHINE}
    return Setting(**machine, method=record.method, cache=timing.cache)


def _reading(run: Run, record: Record, timing: Timing) -> Reading:
    middle, low, high = median_interval(timing.samples_us)
    manifest = run.manifest
    provenance = {name: manifest.provenance.get(name) for name in ("commit", "source_digest")}
    software = {name: getattr(manifest.fingerprint, name) for name in SOFTWARE}
    others = {"package": record.kernel_config.get("package"), "card": (manifest.gpu_state or {}).get("uuid")}
    return Reading(
        run.path.as_posix(),
        began_at(manifest),
        middle,
        low,
        high,
        log_standard_error(timing.samples_us),
        {**provenance, **software, **others},
        record.arithmetic,
        tuple(disturbances(record, manifest)),
    )
