"""`mlabench profile`: the options; `profile_steps` does the work, and is loaded for it alone."""

from pathlib import Path
from typing import Annotated

import typer

from mlabench.cli import options


def profile(
    case: Annotated[
        str | None,
        typer.Argument(metavar="[CASE]", help="A case's id, or its start, from a run; instead of axes and a model."),
    ] = None,
    axis: Annotated[
        list[str] | None, typer.Option("--axis", "-a", help="NAME=VALUE, as in `mlabench sweep`; repeat it.")
    ] = None,
    model: options.Models = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            "-k",
            help="A kernel or backend.",
            show_default="the only one",
            autocompletion=options.kernel_names,
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run that CASE is from.", show_default="newest in results/runs")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    calls: Annotated[int, typer.Option(min=1, help="Calls in the trace.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Trace to write.", show_default="KERNEL-CASE.trace.json")
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace/--no-trace", help="Without: only make the calls, between CUDA's profiler marks.")
    ] = True,
) -> None:
    """Write a trace of one case on one kernel, to be opened in Perfetto (ui.perfetto.dev) or chrome://tracing.

    The steps of a sweep are named ranges in it: inputs, reference, bind, check and measure, and within that calls, each
    a call. On a GPU, where ncu is installed, it also prints the command that looks at the calls' kernels with hardware
    counters. The times in a trace hold what tracing costs: `mlabench sweep` measures.

    Exit codes: 0 done, 2 bad input, 5 the kernel was incorrect, 6 it could not run.

    Example: mlabench profile --model deepseek-v3 -a batch=2 -a kv_len=1024 --kernel torch -o trace.json
    """
    # Here, so that the help of any command stays quick.
    from mlabench.cli.profile_steps import Asked, run_profile

    run_profile(
        Asked(
            case=case,
            axes=(*(axis or ()), *([f"dtype={dtype}"] if dtype else ())),
            models=tuple(model or ()),
            kernel=kernel,
            run=run,
            device=device,
            calls=calls,
            seed=seed,
            out=out,
            trace=trace,
        )
    )
