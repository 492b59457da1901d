"""`mlabench sweep`: the options; `sweep_steps` does the work, and is loaded for it alone."""

from pathlib import Path
from typing import Annotated

import typer

from mlabench.cli import options


def sweep(
    axis: Annotated[
        list[str] | None,
        typer.Option(
            "--axis", "-a", help="NAME=VALUES: a list 1,8,32, a range 1:128:8, or exponents NAME[pow2]=10:17."
        ),
    ] = None,
    model: options.Models = None,
    kernel: options.Kernels = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with the same settings; options override it.")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    method: Annotated[
        str | None,
        typer.Option(help="Timing method: graph, events or sustained on a GPU, cpu on a CPU.", show_default="auto"),
    ] = None,
    cache: options.Cache = None,
    where: options.Where = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the random inputs.", show_default="0")] = None,
    sampling_s: Annotated[
        float | None, typer.Option(help="Longest sampling of one point, in seconds.", show_default="1.0")
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="Stop sampling at this relative half-width of the median's interval.", show_default="0.005"),
    ] = None,
    timeout_s: options.TimeoutS = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to make.", show_default="results/runs/DATE-TIME-DEVICE")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, or with the newest one.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the cases, the memory they need and a rough time.")
    ] = False,
    quiet: options.Quiet = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Show of each point its interval, samples, error, and where its time went."
        ),
    ] = False,
) -> None:
    """Measure every combination of the axes on every kernel that takes it, and store each as it comes.

    Without axes or models it runs a small sweep that suits the device. A kernel that is not the suite's must first get
    a small ragged batch of odd lengths right.

    Exit codes: 0 at least one point was measured and no kernel was incorrect, though others may have ended in an error,
    which the table and the last line tell; 2 bad input, 5 a kernel was incorrect, 6 nothing could be measured, 130
    interrupted.

    Example: mlabench sweep --model deepseek-v3 --model llama-3.1-70b -a batch=1,8,32 -a "kv_len[pow2]=10:14"
    """
    settings = {
        "model": tuple(model) if model else None,
        "kernel": tuple(kernel) if kernel else None,
        "device": device,
        "method": method,
        "cache": cache,
        "where": where,
        "seed": seed,
        "sampling_s": sampling_s,
        "precision": precision,
        "timeout_s": timeout_s,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    # Here, so that the help of any command stays quick.
    from mlabench.cli.sweep_steps import Talk, run

    texts = (*(axis or ()), *([f"dtype={dtype}"] if dtype else ()))
    run(texts, given, config=config, out=out, resume=resume, dry_run=dry_run, talk=Talk(quiet, verbose))
