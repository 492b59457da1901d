"""Compile kernels in configurations for architectures, and tell what came out; no GPU is needed or used."""

import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Any

from mlabench.errors import UsageError, first_line
from mlabench.machine.fingerprint import usable_cpus
from mlabench.machine_code.archs import Arch, ctas_an_sm, misfit
from mlabench.machine_code.configurations import CONFIGURATIONS, Configuration
from mlabench.machine_code.rows import Inspection, Row, Status
from mlabench.measure.kernels import Kernel, all_kernels, check_selection, find_kernel, launch_config

BACKENDS = ("triton", "gluon")
"""The backends whose kernels are inspected when none are named."""

READS_VALUES = "it reads a tensor's values before it launches, which takes a device"

LAUNCHES_NONE = "it launches no Triton kernel"


@dataclass(frozen=True, slots=True)
class Job:
    """One kernel in one configuration for one architecture. Each process loads the kernel by its name."""

    kernel: str
    configuration: Configuration
    arch: Arch


Done = Callable[[Job, Sequence[Row]], None]


def select_kernels(names: Sequence[str]) -> tuple[Kernel, ...]:
    """The kernels of these names or backends; without any those of `BACKENDS`. Raises `UsageError`."""
    check_selection(names)
    wanted = names or BACKENDS
    return tuple(kernel for kernel in all_kernels() if kernel.name in wanted or kernel.backend in wanted)


def make_jobs(
    kernels: Sequence[Kernel], archs: Sequence[Arch], configurations: Sequence[Configuration] = CONFIGURATIONS
) -> tuple[Job, ...]:
    """Every configuration of each kernel's contract, for each architecture."""
    return tuple(
        Job(kernel.name, configuration, arch)
        for kernel in kernels
        for configuration in configurations
        if configuration.case.contract == kernel.contract
        for arch in archs
    )


def inspect_kernels(jobs: Sequence[Job], done: Done = lambda _job, _rows: None, processes: int = 0) -> Inspection:
    """Do the jobs in so many processes (0: one a usable core), telling `done` of each as it ends.

    What a kernel or the compiler does, a crash included, becomes a row. Raises `UsageError` where Triton is missing or
    set to interpret.
    """
    archs = dict.fromkeys(job.arch for job in jobs)
    versions = compiler_versions(archs)
    rows: dict[int, tuple[Row, ...]] = {}
    # A process sees one device only: kernels may well remember what they asked of it.
    for arch in archs:
        its_jobs = {place: job for place, job in enumerate(jobs) if job.arch == arch}
        for place, found in _in_processes(its_jobs, processes or usable_cpus()):
            rows[place] = found
            done(jobs[place], found)
    return Inspection(*versions, tuple(row for place in sorted(rows) for row in rows[place]))


def compiler_versions(archs: Iterable[Arch]) -> tuple[str, dict[str, str]]:
    """Triton's version, and by architecture ptxas's. Raises `UsageError` as `inspect_kernels` does."""
    try:
        import triton
        from triton import knobs
        from triton.backends.nvidia.compiler import get_ptxas_version
    except ImportError as error:
        raise UsageError(f"Triton cannot be imported ({error}): pip install triton") from None
    if knobs.runtime.interpret:
        raise UsageError("TRITON_INTERPRET is set, so that nothing would be compiled: unset it")
    versions = {}
    for arch in archs:
        version = re.search(r"\bV(\d[\d.]*)", get_ptxas_version(arch.capability))
        versions[arch.name] = version[1] if version else "unknown"
    return triton.__version__, versions


def _in_processes(jobs: Mapping[int, Job], processes: int) -> Iterator[tuple[int, tuple[Row, ...]]]:
    """The jobs' places and rows, as they end.

    The compiler can abort its process, and a pool breaks with it: each job left is then done in a process of its own.
    """
    left = dict(jobs)
    with _pool(min(processes, len(jobs))) as pool:
        places: dict[Future[tuple[Row, ...]], int] = {pool.submit(inspect_one, job): i for i, job in jobs.items()}
        for future in as_completed(places):
            if not isinstance(future.exception(), BrokenProcessPool):
                del left[places[future]]
                yield places[future], future.result()
    for place, job in left.items():
        with _pool(1) as pool:
            try:
                yield place, pool.submit(inspect_one, job).result()
            except BrokenProcessPool:
                yield place, (_no_code(job, "error", "the process that compiled it died"),)


def _pool(processes: int) -> ProcessPoolExecutor:
    # Spawned, for Triton and torch have threads and state that a fork would tear.
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_silence)


def _silence() -> None:
    """What kernels and compilers print goes to standard error; standard output is the command's own."""
    os.dup2(2, 1)


def inspect_one(job: Job) -> tuple[Row, ...]:
    """The rows of one job: a row for each different function that the kernel launches, and one for what ended it."""
    from mlabench.machine_code.assumed_gpu import assumed_gpu

    kernel = find_kernel(job.kernel)
    if reason := kernel.missing():
        return (_no_code(job, "unavailable", reason),)
    config: Mapping[str, Any] = {}
    ending: tuple[Row, ...] = ()
    with assumed_gpu(job.arch) as launched:
        try:
            launch = bind_kernel(kernel, job.configuration)
            config = launch_config(launch)
            launch()
        except Exception as error:
            ending = (_no_code(job, *_failure(error)),)
    if not launched and not ending:
        return (_no_code(job, "unsupported", LAUNCHES_NONE),)
    counts: Counter[str] = Counter()
    rows = []
    for each in dict.fromkeys(launched):
        counts[each.function] += 1
        number = f" #{counts[each.function]}" if counts[each.function] > 1 else ""
        rows.append(_row(job, each, each.function + number, config))
    return (*rows, *ending)


def bind_kernel(kernel: Kernel, configuration: Configuration) -> Callable[[], None]:
    """The kernel's launch, bound to tensors of the case; to be called within `assumed_gpu`.

    Raises NotImplementedError for a tunable that the kernel does not have, and whatever the kernel's own bind raises.
    """
    import inspect

    import torch

    bind, case = kernel.load(), configuration.case
    if unknown := configuration.tunables.keys() - inspect.signature(bind).parameters.keys():
        raise NotImplementedError(f"it has no {' and '.join(sorted(unknown))}")
    tensors = {s.name: torch.empty(s.shape, dtype=getattr(torch, s.dtype), device="cuda") for s in case.specs}
    return bind(**tensors, softmax_scale=case.variant.softmax_scale, **configuration.tunables)


def _row(job: Job, launched: Any, function: str, config: Mapping[str, Any]) -> Row:
    from mlabench.machine_code.sass import read_cubin

    arch, code = job.arch, read_cubin(launched.cubin)
    ctas = ctas_an_sm(arch, code.registers, launched.shared_bytes, launched.num_warps, launched.tensor_columns)
    reason = misfit(arch, launched.shared_bytes, launched.tensor_columns)
    return Row(
        job.kernel,
        job.configuration.name,
        arch.name,
        function,
        "misfit" if reason else "ok",
        reason,
        config,
        num_warps=launched.num_warps,
        shared_bytes=launched.shared_bytes,
        tensor_columns=launched.tensor_columns,
        ctas_an_sm=ctas,
        warps_an_sm=ctas * launched.num_warps,
        **asdict(code),
    )


def _no_code(job: Job, status: Status, reason: str) -> Row:
    return Row(job.kernel, job.configuration.name, job.arch.name, "", status, reason)


def _failure(error: BaseException) -> tuple[Status, str]:
    """What a kernel raised, as a status and its reason.

    Triton's own errors begin with the place in the source; the cause stands last, or is what they were raised from.
    """
    if "meta tensor" in str(error):
        return "unsupported", READS_VALUES
    if isinstance(error, NotImplementedError):
        return "unsupported", first_line(error)
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    text = lines[-1].strip() if lines[0].endswith(":") else lines[0]
    return "error", f"{type(error).__name__}: {text}"
