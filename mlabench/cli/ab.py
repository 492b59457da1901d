"""`mlabench ab`: kernels, or one at two commits, measured side by side; `ab_steps` does the work."""

from pathlib import Path
from typing import Annotated

import typer

from mlabench.cli import options


def ab(
    base: Annotated[
        str,
        typer.Argument(
            metavar="SIDE_A", help="The base: KERNEL, or KERNEL@COMMIT.", autocompletion=options.kernel_names
        ),
    ],
    candidates: Annotated[
        list[str],
        typer.Argument(
            metavar="SIDE_B",
            help="What is held against it: named likewise, by its backend, or as peers.",
            autocompletion=options.kernel_names,
        ),
    ],
    axis: Annotated[
        list[str] | None, typer.Option("--axis", "-a", help="NAME=VALUES, as in `mlabench sweep`; repeat it.")
    ] = None,
    model: options.Models = None,
    config: Annotated[
        Path | None, typer.Option(help="A sweep's TOML file: its cases and settings, without its kernels.")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    method: Annotated[
        str | None, typer.Option(help="Timing method: graph or events on a GPU, cpu on a CPU.", show_default="auto")
    ] = None,
    cache: options.Cache = None,
    where: options.Where = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the inputs and of the order.", show_default="0")] = None,
    min_effect: Annotated[
        float | None,
        typer.Option(help="Least change that counts, as a fraction.", show_default="0.01 on cuda, 0.05 on cpu"),
    ] = None,
    max_s: Annotated[
        float | None,
        typer.Option(help="Longest alternating of one case, in seconds.", show_default="5"),
    ] = None,
    timeout_s: options.TimeoutS = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to make.", show_default="results/runs/ab/DATE-TIME-DEVICE")
    ] = None,
    quiet: options.Quiet = False,
    show_all: Annotated[bool, typer.Option("--all", help="Also list the cases that are the same.")] = False,
    json_path: options.JsonPath = None,
    markdown_path: Annotated[
        str | None,
        typer.Option("--markdown", metavar="FILE", help="Write what differs as Markdown; - is standard output."),
    ] = None,
) -> None:
    """Measure two kernels, or one at two commits, on the same inputs in alternating blocks, until their ratio is clear.

    With several SIDE_B all take turns in random order, each is held against SIDE_A, and totals follow the points; one
    that is not installed, or does not do a case, has no time there. A case then takes --max-s for each of them.
    A kernel that is not the suite's must first get a small ragged batch of odd lengths right. A commit's kernels are
    loaded beside the current ones from a temporary git worktree. Exit codes: 0 something was compared, 2 bad input, 5 a
    side was incorrect, 6 nothing was compared, 130 interrupted.

    Example: mlabench ab mla_decode_triton@main mla_decode_triton --model deepseek-v3 -a batch=1,8
    """
    settings = {
        "model": tuple(model) if model else None,
        "device": device,
        "method": method,
        "cache": cache,
        "where": where,
        "seed": seed,
        "timeout_s": timeout_s,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    # Here, so that the help of any command stays quick.
    from mlabench.cli.ab_steps import Asked, run_sides
    from mlabench.cli.outputs import check_targets, deliver
    from mlabench.verdict.interleaved import MAX_S
    from mlabench.verdict.outputs import FORMATS

    targets = {"json": json_path, "markdown": markdown_path}
    check_targets(targets)
    texts = (*(axis or ()), *([f"dtype={dtype}"] if dtype else ()))
    asked = Asked(texts, given, config, min_effect, MAX_S if max_s is None else max_s, out, quiet=quiet)
    result = run_sides(base, candidates, asked)
    deliver(result, FORMATS, targets, show_all)
    raise typer.Exit(result.exit_code.value)
