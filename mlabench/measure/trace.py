"""A trace of one point by torch's profiler, with the runner's steps as named ranges."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.machine.fingerprint import usable_cpus
from mlabench.measure.kernels import Kernel
from mlabench.measure.runner import Runner
from mlabench.measure.timing.method import Budget
from mlabench.measure.timing.traced import TracedCalls
from mlabench.records.record import Record


@dataclass(frozen=True, slots=True)
class Job:
    """What is traced: so many calls of one case on one kernel."""

    case: Case
    kernel: Kernel
    device: str
    calls: int
    seed: int = 0


def trace_point(job: Job, path: Path) -> Record:
    """Run the point under torch's profiler and write a Chrome trace, also of a point that fails.

    Ranges are the steps of a sweep: inputs, reference, bind, check, measure; within the last `calls`, each a `call`.
    The record's one sample holds what the profiler costs. Raises `UsageError` for a file that cannot be written.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    on_gpu = [ProfilerActivity.CUDA] if job.device == "cuda" else []
    _leave_a_core_free(job.device)
    runner = _runner(job, TracedCalls(job.device), record_function)
    with profile(activities=[ProfilerActivity.CPU, *on_gpu]) as profiler:
        record = runner.run(job.case, job.kernel)
    try:
        # What cannot be written the profiler only logs.
        path.touch()
        profiler.export_chrome_trace(str(path))
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --out") from None
    return record


def run_counted(job: Job) -> Record:
    """Run the point without a trace, CUDA's profiler on during its calls alone: what ncu is to look at."""
    return _runner(job, TracedCalls(job.device, counted=True), nullcontext).run(job.case, job.kernel)


def _runner(job: Job, timer: TracedCalls, annotate: Callable[[str], AbstractContextManager[object]]) -> Runner:
    return Runner(job.device, timer, job.seed, Budget(max_samples=job.calls), annotate=annotate)


def _leave_a_core_free(device: str) -> None:
    """As sweeps do, so that the trace shows what they measure."""
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(1, usable_cpus() - 1))
