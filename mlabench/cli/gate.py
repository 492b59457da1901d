"""`mlabench gate`: hold a run against a stored baseline and answer with an exit code."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlabench.verdict.noise import NOISE

_DEFAULT_EFFECTS = ", ".join(f"{noise.min_effect} on {device}" for device, noise in NOISE.items())


def gate(
    current: Annotated[
        Path | None, typer.Argument(help="The run directory to judge.", show_default="newest in results/runs")
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            "--baseline",
            "-b",
            help="A run to compare with; repeat it for several.",
            show_default="the one under results/baselines/DEVICE",
        ),
    ] = None,
    min_effect: Annotated[
        float | None,
        typer.Option(help="Least change of a time that counts, as a fraction.", show_default=_DEFAULT_EFFECTS),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Only report the baseline's points that the run does not hold.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Also list the points that did not change.")] = False,
    json_path: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write every point as JSON; - is standard output.")
    ] = None,
) -> None:
    """Fail if a run is slower than its baseline, wrong, or cannot be judged.

    Exit codes: 0 pass; 1 regression (slower, missing, no longer measured, or an exact count changed); 2 usage error;
    3 inconclusive, or a kernel without a baseline fails; 4 baseline missing, or of another machine, software or method;
    5 a kernel is incorrect; 6 nothing was measured. Where several apply, the first of 2, 4, 5, 6, 1, 3, 0.

    Example: mlabench gate results/runs/today --baseline results/baselines/nvidia-h200/decode
    """
    # Here, so that the help of any command stays quick.
    from mlabench.cli.gate_table import print_result, write_json
    from mlabench.records.store import newest_run
    from mlabench.verdict.gate import run_gate

    result = run_gate(current or newest_run(), baseline or (), min_effect, allow_missing)
    if json_path is not None:
        write_json(result, json_path)
    if json_path == "-":
        print(result.summary, file=sys.stderr)
    else:
        print_result(result, show_all)
    raise typer.Exit(result.exit_code.value)
