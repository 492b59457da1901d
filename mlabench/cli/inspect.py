"""`mlabench inspect`: what the kernels compile to, without a GPU."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlabench.cli import options
from mlabench.cli.show import print_table, progress
from mlabench.errors import ExitCode
from mlabench.units import NOT_MEASURED, format_exact

if TYPE_CHECKING:
    from mlabench.machine_code.inspect import Job
    from mlabench.machine_code.rows import Inspection, Row
    from mlabench.measure.kernels import Kernel

HEADERS = (
    "kernel", "configuration", "arch", "registers", "spills", "in loops", "stack B", "shared B", "matrix", "async",
    "CTAs/SM", "warps/SM", "instructions",
)  # fmt: skip


def inspect(
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel",
            "-k",
            help="A kernel or backend; repeatable.",
            show_default="all Triton kernels",
            autocompletion=options.kernel_names,
        ),
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option("--arch", help="sm_80, sm_90 or sm_100; repeatable.", show_default="all three"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, which `mlabench gate --static` takes as its baseline.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Compile the kernels and tell registers, spills, shared memory, matrix instructions and occupancy; no GPU needed.

    Each kernel is bound in a fixed set of configurations as it would be on an A100, H200 and B200, and what it would
    launch there is compiled. "spills" are stores and loads of local memory, "in loops" those in the innermost loops
    with matrix instructions. What does not compile or fit is a row with the reason.

    Exit codes: 0 something was compiled; 2 usage error; 6 nothing was.

    Example: mlabench inspect --kernel mla_decode_triton --arch sm_90
    """
    # Here, so that the help of any command stays quick.
    from mlabench.machine_code.archs import find_archs
    from mlabench.machine_code.inspect import make_jobs, select_kernels

    archs = find_archs(arch or ())
    jobs = [job for each in select_kernels(kernel or ()) for job in _worth_while(make_jobs([each], archs), each)]
    inspection = inspect_with_progress(jobs, quiet=quiet)
    if as_json:
        sys.stdout.write(inspection.to_text())
    else:
        print_table(HEADERS, (tuple(_cells(row)) for row in inspection.rows))
    if not any(row.compiled for row in inspection.rows):
        raise typer.Exit(ExitCode.NOTHING_MEASURED)


def _worth_while(jobs: "Sequence[Job]", kernel: "Kernel") -> "Sequence[Job]":
    """The jobs; of a kernel whose backend need not be Triton, and whose first job shows nothing, that alone."""
    from mlabench.machine_code.inspect import BACKENDS, LAUNCHES_NONE, READS_VALUES, inspect_kernels

    if kernel.backend in (*BACKENDS, "chosen") or not jobs:
        return jobs
    (row, *_) = inspect_kernels(jobs[:1]).rows
    if row.status != "unavailable" and row.reason not in (LAUNCHES_NONE, READS_VALUES):
        return jobs
    typer.echo(f"mlabench: {kernel.name} compiles nothing that could be shown: {row.reason}", err=True)
    return jobs[:1]


def inspect_with_progress(jobs: "Sequence[Job]", *, quiet: bool = False) -> "Inspection":
    """Do the jobs in parallel, showing on standard error how far they are unless it is to be quiet."""
    from mlabench.machine_code.inspect import inspect_kernels

    with progress(len(jobs), quiet=quiet) as shown:

        def done(job: "Job", rows: "Sequence[Row]") -> None:
            outcome = ", ".join(dict.fromkeys(row.status for row in rows))
            shown.finish(f"{job.kernel}, {job.configuration.name}, {job.arch.name}: {outcome}")

        return inspect_kernels(jobs, done)


def _cells(row: "Row") -> Iterator[str]:
    yield f"{row.kernel}: {row.function}" if row.function else row.kernel
    yield f"{row.configuration} ({row.status}: {row.reason})" if row.reason else row.configuration
    yield row.arch
    yield _count(row.registers)
    yield f"{_count(row.spill_stores)} + {_count(row.spill_loads)}" if row.compiled else NOT_MEASURED
    yield from map(_count, (row.loop_spills, row.stack_bytes, row.shared_bytes))
    yield from map(_tally, (row.matrix_instructions, row.async_copies))
    yield from map(_count, (row.ctas_an_sm, row.warps_an_sm, row.instructions))


def _count(value: int | None) -> str:
    return NOT_MEASURED if value is None else format_exact(value)


def _tally(counts: Mapping[str, int] | None) -> str:
    if counts is None:
        return NOT_MEASURED
    return ", ".join(f"{format_exact(count)} {name}" for name, count in counts.items()) or "0"
