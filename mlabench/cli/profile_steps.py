"""What `mlabench profile` does with its options: the one case, the one kernel, the trace, and ncu's command."""

import faulthandler
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from mlabench.cases.axes import merge_axes, parse_axis
from mlabench.cases.case import Case
from mlabench.cli.outputs import check_targets
from mlabench.cli.project import find_project
from mlabench.cli.show import warn
from mlabench.cli.sweep_steps import resolve
from mlabench.errors import ExitCode, UsageError
from mlabench.measure.config import SweepConfig
from mlabench.measure.kernels import Kernel, check_selection, kernels_for
from mlabench.measure.plan import chosen_cases
from mlabench.measure.trace import Job, run_counted, trace_point
from mlabench.records.pairs import load_sweep
from mlabench.records.record import Record
from mlabench.records.store import newest_run
from mlabench.units import format_exact, format_latency

LACKS_KERNELS = (
    "the trace holds no kernel of the GPU, for CUPTI recorded none: another profiler may have it, "
    "or its driver may keep this user from it"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The options, as they were given."""

    case: str | None
    axes: tuple[str, ...]
    models: tuple[str, ...]
    kernel: str | None
    run: Path | None
    device: str | None
    calls: int
    seed: int
    out: Path | None
    trace: bool


def run_profile(asked: Asked) -> None:
    """Write the trace, or only make the calls. Raises `UsageError`, and `typer.Exit` for a point that failed."""
    job = _job(asked)
    if not faulthandler.is_enabled():
        # The kernel runs in this process: a crash says where.
        faulthandler.enable()
    told = f"mlabench: {job.case.label} · {job.kernel.name}, {job.calls} calls on the {job.device} device"
    if not asked.trace:
        _check_counted(job, asked)
        typer.echo(f"{told}, between CUDA's profiler marks", err=True)
        with _staying():
            record = run_counted(job)
        _tell(record)
        return
    path = asked.out or Path(f"{job.kernel.name}-{job.case.case_id}.trace.json")
    check_targets({"out": str(path)})
    typer.echo(told, err=True)
    with _staying():
        traced = trace_point(job, path)
    if traced.is_written:
        spans = [f"{name} {format_latency(1e6 * seconds)}" for name, seconds in traced.record.phases_s.items()]
        print(f"{path}: {', '.join(spans)}" if spans else path)
    _tell(traced.record)
    if traced.lacks_kernels:
        warn(LACKS_KERNELS)
    if job.device == "cuda" and shutil.which("ncu"):
        print(f"hardware counters: {shlex.join(ncu_command(asked, job))}")


def ncu_command(asked: Asked, job: Job) -> list[str]:
    """Profile a call of this very point with ncu: clocks left alone, caches emptied before each kernel.

    Of a layer the whole comes first, and then each part. A report that is there is written over.
    """
    report = (asked.out or Path(f"{job.kernel.name}-{job.case.case_id}")).with_suffix("")
    ncu = ["ncu", "--set", "full", "--clock-control", "none", "--profile-from-start", "off", "-f", "-o", str(report)]
    words = [asked.case] if asked.case else []
    words += ["--run", str(asked.run)] if asked.run else []
    words += [word for axis in asked.axes for word in ("-a", axis)]
    words += [word for model in asked.models for word in ("--model", model)]
    words += [
        "--kernel",
        job.kernel.name,
        "--device",
        job.device,
        "--seed",
        str(job.seed),
        "--calls",
        "1",
        "--no-trace",
    ]
    # As this process was started: from a checkout there is no `mlabench` on the path.
    return [*ncu, sys.executable, "-m", "mlabench", "profile", *words]


def _job(asked: Asked) -> Job:
    given: dict[str, Any] = {"model": asked.models, "kernel": (asked.kernel,), "device": asked.device}
    given = {name: value for name, value in given.items() if value not in (None, (), (None,))}
    # A trace is of no method: one that the project prefers need not fit the device.
    given |= {"method": "auto", "cache": "auto"}
    settings = resolve(None, merge_axes(map(parse_axis, asked.axes)), given)
    names: Sequence[str] = settings.kernel
    check_selection(names)
    if asked.case is None:
        if asked.run:
            raise UsageError("--run goes with a CASE of that run: name one, or leave it away")
        case = _only_case(settings)
    elif asked.axes or asked.models:
        raise UsageError("a CASE of a run has all its sizes: leave -a, --dtype and --model away")
    else:
        case, measured_by = _stored_case(asked.case, asked.run or newest_run(find_project().runs_folder))
        names = names or measured_by
    return Job(case, _only_kernel(case, settings.device, names), settings.device, asked.calls, asked.seed)


def _only_case(settings: SweepConfig) -> Case:
    cases = chosen_cases(settings)
    if len(cases) == 1:
        return cases[0]
    chosen = {**settings.axes, "--model": settings.model}
    several = {name: values[0] for name, values in chosen.items() if len(values) > 1}
    words = [f"{name} {value}" if name == "--model" else f"-a {name}={value}" for name, value in several.items()]
    raise UsageError(
        f"{format_exact(len(cases))} cases are left, and a trace is of one: choose it, as with {' '.join(words)}"
    )


def _stored_case(text: str, path: Path) -> tuple[Case, tuple[str, ...]]:
    """The case of a run whose id begins so, and the kernels that measured it."""
    found = [record for record in load_sweep(path).records if record.case.case_id.startswith(text)]
    ids = dict.fromkeys(record.case.case_id for record in found)
    if not ids:
        raise UsageError(f"{path} holds no case {text!r}: `mlabench export {path}` lists their ids")
    if len(ids) > 1:
        raise UsageError(
            f"{path} holds {len(ids)} cases that begin with {text!r}: {', '.join(list(ids)[:3])}: add digits"
        )
    return found[0].case, tuple(dict.fromkeys(record.kernel for record in found if record.kernel))


def _only_kernel(case: Case, device: str, names: Sequence[str]) -> Kernel:
    kernels = [kernel for kernel in kernels_for(case, device, names) if names or not kernel.missing()]
    if len(kernels) == 1:
        return kernels[0]
    if not kernels:
        who = " or ".join(names) or "no kernel here"
        raise UsageError(f"{who} does not take {case.label} ({case.contract}): `mlabench list kernels` says who does")
    names = [kernel.name for kernel in kernels]
    raise UsageError(f"{len(names)} kernels take the case, and a trace is of one: add --kernel {' or '.join(names)}")


def _check_counted(job: Job, asked: Asked) -> None:
    if job.device != "cuda":
        raise UsageError("--no-trace makes calls for ncu to look at, on a GPU: leave it away for a trace on a CPU")
    if asked.out:
        raise UsageError("--no-trace writes nothing: leave --out away")


@contextmanager
def _staying() -> Iterator[None]:
    """A kernel that leaves the process, which is this one, ends as one that could not run."""
    try:
        yield
    except SystemExit as left:
        print(f"error: the kernel called for the end of the process (SystemExit: {left})")
        raise typer.Exit(ExitCode.NOTHING_MEASURED) from None


def _tell(record: Record) -> None:
    """Say what became of the point, and end with its exit code unless it is fine."""
    if record.status == "ok":
        return
    print(f"{record.status}: {record.reason}")
    raise typer.Exit(ExitCode.INCORRECT if record.status == "incorrect" else ExitCode.NOTHING_MEASURED)
