"""`mlabench compare`: two stored runs side by side, without a judgement."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlabench.cli import options


class Sort(StrEnum):
    """The order of the table's rows."""

    RATIO = "ratio"
    NAME = "name"


def compare(
    base: Annotated[Path, typer.Argument(help="The run directory to compare with.")],
    current: Annotated[Path, typer.Argument(help="The run directory that is compared.")],
    sort: Annotated[Sort, typer.Option(help="The worst first, or by kernel and case.")] = Sort.RATIO,
    show_all: Annotated[bool, typer.Option("--all", help="Also list the points that did not change.")] = False,
    json_path: options.JsonPath = None,
    markdown_path: Annotated[
        str | None,
        typer.Option("--markdown", metavar="FILE", help="Write what moved as Markdown; - is standard output."),
    ] = None,
) -> None:
    """Show how the times of two runs differ: ratio with its interval, verdict, warnings.

    The statistics are the gate's, and nothing fails: runs of other machines or versions are compared with a warning.
    Exit codes: 0 something was compared, 2 bad input, 6 nothing was.

    Example: mlabench compare results/baselines/nvidia-h200/decode results/runs/today --sort name --all
    """
    # Here, so that the help of any command stays quick.
    from mlabench.cli.outputs import check_targets, deliver
    from mlabench.verdict.comparison import compare_two
    from mlabench.verdict.outputs import FORMATS

    targets = {"json": json_path, "markdown": markdown_path}
    check_targets(targets)
    result = compare_two(base, current)
    deliver(result, FORMATS, targets, show_all, sort)
    raise typer.Exit(result.exit_code.value)
