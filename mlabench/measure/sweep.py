"""The sweep: every point through a worker, each record stored before the next point starts."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.machine.ceilings import Ceilings
from mlabench.machine.fingerprint import Fingerprint
from mlabench.machine.provenance import take_provenance
from mlabench.measure.config import SweepConfig
from mlabench.measure.entry_points import sources_of
from mlabench.measure.isolation import Worker, WorkerDied, WorkerSetup
from mlabench.measure.kernels import Kernel, joined_kernels
from mlabench.measure.plan import Point
from mlabench.measure.sides import AskedSide
from mlabench.measure.timing.method import Budget
from mlabench.measure.trial import Tryout
from mlabench.records.manifest import Manifest
from mlabench.records.record import Record, Status
from mlabench.records.store import (
    WORKER_LOG_NAME,
    RecordWriter,
    claim_directory,
    hold_directory,
    load_run,
    write_manifest,
)

PROBE_TIMEOUT_S = 300.0

OnStart = Callable[[Point], None]
OnRecord = Callable[[Point, Record], None]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep that can run: its points that are not in the run yet, and how many are."""

    path: Path
    config: SweepConfig
    points: Sequence[Point]
    done: int
    worker: Worker

    @property
    def total(self) -> int:
        """All points of the run."""
        return self.done + len(self.points)


@contextlib.contextmanager
def open_sweep(path: Path, config: SweepConfig, points: Sequence[Point], *, resume: bool) -> Iterator[Sweep]:
    """Start the worker, and make the run directory or take up one that is there.

    Raises `UsageError` for a directory that cannot be used, a run of another machine or of other sources, or a worker
    that does not start.
    """
    budget = Budget(max_s=config.sampling_s, precision=config.precision)
    log = path / WORKER_LOG_NAME
    worker = Worker(WorkerSetup(config.device, config.method, config.cache, config.seed, asdict(budget), log))
    with hold_directory(path):
        if not resume:
            claim_directory(path)
        try:
            yield _resumed(path, config, points, worker) if resume else _created(path, config, points, worker)
        finally:
            worker.stop()


def run_sweep(sweep: Sweep, on_start: OnStart, on_record: OnRecord) -> None:
    """Measure every point left, appending each record as it comes.

    A kernel that is not the suite's is tried before its first point of a kind; one with a fault is not timed there.
    """
    tryout = Tryout(sweep.worker, sweep.config.timeout_s)
    with RecordWriter(sweep.path) as writer:
        for point in sweep.points:
            on_start(point)
            record = _refused(sweep, point, tryout) or measure_point(sweep.worker, point, sweep.config)
            writer.append(record)
            on_record(point, record)


def measure_point(worker: Worker, point: Point, config: SweepConfig) -> Record:
    """The record of one point; a worker that dies or hangs makes it an `error`."""
    kernel, case = point.kernel, point.case
    if kernel is None:
        reason = f"none of the chosen kernels takes {case.contract} cases"
        return Record(case, "", "", config.method, "unsupported", reason, seed=config.seed, started_at=_now())
    request = {"do": "measure", "case": case.to_fields(), "models": case.models, "kernel": kernel.name}
    started_at, start = _now(), time.perf_counter()
    try:
        return Record.from_json(worker.ask(request, config.timeout_s)["record"])
    except WorkerDied as death:
        wall_s = time.perf_counter() - start
        return _untimed(case, kernel, config, "error", str(death), started_at, wall_s)


def _refused(sweep: Sweep, point: Point, tryout: Tryout) -> Record | None:
    """The record of a point whose kernel failed its trial; None where it is to be measured."""
    kernel, case = point.kernel, point.case
    if kernel is None:
        return None
    started_at, start = _now(), time.perf_counter()
    if fault := tryout.fault(case, AskedSide(kernel)):
        wall_s = time.perf_counter() - start
        return _untimed(case, kernel, sweep.config, fault.status, fault.reason, started_at, wall_s)
    return None


def _untimed(
    case: Case, kernel: Kernel, config: SweepConfig, status: Status, reason: str, started_at: str, wall_s: float
) -> Record:
    return Record(
        case,
        kernel.name,
        kernel.backend,
        config.method,
        status,
        reason,
        seed=config.seed,
        started_at=started_at,
        wall_s=wall_s,
    )


def _created(path: Path, config: SweepConfig, points: Sequence[Point], worker: Worker) -> Sweep:
    dtypes = sorted({point.case.dtype for point in points})
    try:
        fingerprint = Fingerprint.from_json(worker.start())
        ceilings = Ceilings(**worker.ask({"do": "probe", "dtypes": dtypes}, PROBE_TIMEOUT_S)["ceilings"])
    except WorkerDied as death:
        raise UsageError(f"the {config.device} device cannot be measured: {death}") from None
    provenance = take_provenance().to_json()
    sources = _kernel_sources(points)
    manifest = Manifest(_now(), config.to_json(), provenance, fingerprint, ceilings, worker.gpu_state, sources)
    write_manifest(path, manifest)
    return Sweep(path, config, points, 0, worker)


def _resumed(path: Path, config: SweepConfig, points: Sequence[Point], worker: Worker) -> Sweep:
    run = load_run(path)
    try:
        fingerprint = Fingerprint.from_json(worker.start())
    except WorkerDied as death:
        raise UsageError(f"the {config.device} device cannot be measured: {death}") from None
    if differences := run.manifest.fingerprint.differences(fingerprint):
        raise UsageError(f"{path} cannot go on here, another machine or software began it: {'; '.join(differences)}")
    if run.manifest.provenance.get("source_digest") != take_provenance().source_digest:
        raise UsageError(f"{path} cannot go on, its first records are of other sources: measure into another --out")
    sources = _kernel_sources(points)
    if changed := run.manifest.changed_kernels(sources):
        raise UsageError(f"{path} cannot go on: {'; '.join(changed)}: measure into another --out")
    if run.manifest.kernel_sources is not None and sources.keys() - run.manifest.kernel_sources.keys():
        write_manifest(path, replace(run.manifest, kernel_sources={**sources, **run.manifest.kernel_sources}))
    measured = {record.key for record in run.records}
    left = [point for point in points if point.key(config.method) not in measured]
    return Sweep(path, config, left, len(points) - len(left), worker)


def _kernel_sources(points: Sequence[Point]) -> dict[str, dict[str, str | None]]:
    names = {point.kernel.name for point in points if point.kernel}
    return sources_of([each for each in joined_kernels() if each.kernel and each.kernel.name in names])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
