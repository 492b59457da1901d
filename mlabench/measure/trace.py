"""A trace of one point by torch's profiler, with the runner's steps as named ranges."""

import gzip
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.machine.fingerprint import usable_cpus
from mlabench.measure.kernels import Kernel
from mlabench.measure.runner import Runner
from mlabench.measure.timing.method import Budget
from mlabench.measure.timing.traced import TracedCalls
from mlabench.records.record import Record

if TYPE_CHECKING:
    from torch.profiler import ProfilerActivity, profile

CLEARED_EVENTS = "(Warning: )?Profiler clears events"

KERNEL_EVENT = re.compile(rb'"cat":\s*"kernel"')


@dataclass(frozen=True, slots=True)
class Job:
    """What is traced: so many calls of one case on one kernel."""

    case: Case
    kernel: Kernel
    device: str
    calls: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Traced:
    """What became of the point, whether its trace was written, and whether that lacks the GPU's kernels."""

    record: Record
    is_written: bool
    lacks_kernels: bool = False


def trace_point(job: Job, path: Path) -> Traced:
    """Run the point under torch's profiler and write a Chrome trace, also of a point that fails.

    Ranges are the steps of a sweep: inputs, reference, bind, check, measure; within the last `calls`, each a `call`.
    The record's one sample holds what the profiler costs. Nothing is written of a kernel that broke the device's
    context. Raises `UsageError` for a file that cannot be written.
    """
    from torch.profiler import ProfilerActivity, record_function

    on_gpu = [ProfilerActivity.CUDA] if job.device == "cuda" else []
    _make_ready(job.device)
    runner = _runner(job, TracedCalls(job.device), record_function)
    try:
        with _profile([ProfilerActivity.CPU, *on_gpu]) as profiler:
            record = runner.run(job.case, job.kernel)
    except RuntimeError:
        # Its end waits for the device, and fails where the kernel has broken that.
        if not runner.spoiled:
            raise
        return Traced(record, is_written=False)
    try:
        # What cannot be written the profiler only logs.
        path.touch()
        profiler.export_chrome_trace(str(path))
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --out") from None
    return Traced(record, is_written=True, lacks_kernels=bool(on_gpu) and not _has_kernels(path))


@contextmanager
def _profile(activities: "Sequence[ProfilerActivity]") -> "Iterator[profile]":
    """Torch's profiler without its warning that events of earlier cycles go: here is one cycle alone."""
    from torch.profiler import profile

    options: dict[str, Any] = {"acc_events": True} if "acc_events" in signature(profile).parameters else {}
    with warnings.catch_warnings():
        if not options:
            warnings.filterwarnings("ignore", CLEARED_EVENTS, UserWarning)
        with profile(activities=activities, **options) as profiler:
            yield profiler


def _has_kernels(path: Path) -> bool:
    """Whether a trace holds any kernel that a GPU ran."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return any(KERNEL_EVENT.search(line) for line in file)


def run_counted(job: Job) -> Record:
    """Run the point without a trace, CUDA's profiler on during its calls alone: what ncu is to look at."""
    return _runner(job, TracedCalls(job.device, counted=True), nullcontext).run(job.case, job.kernel)


def _runner(job: Job, timer: TracedCalls, annotate: Callable[[str], AbstractContextManager[object]]) -> Runner:
    return Runner(job.device, timer, job.seed, Budget(max_samples=job.calls), annotate=annotate)


def _make_ready(device: str) -> None:
    """Leave a core free, as sweeps do, and make a GPU's context, so that the trace shows what sweeps measure."""
    import torch

    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_cpus() - 1))
    elif device == "cuda" and torch.cuda.is_available():
        torch.cuda.synchronize()
