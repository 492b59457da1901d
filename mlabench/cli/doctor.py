"""`mlabench doctor`: can this machine measure, and can the numbers from it be trusted."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlabench.cli import options
from mlabench.cli.show import console, progress
from mlabench.units import format_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from mlabench.doctor.examine import Diagnosis, Examined

STYLES = {"good": "green", "warning": "yellow", "bad": "bold red", "not here": "dim"}


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Sample less: done in some 15 seconds.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Which device to examine.")] = "auto",
    method: Annotated[
        str, typer.Option(help="Timing method to test: graph or events on a GPU, cpu on a CPU; sustained cannot be.")
    ] = "auto",
    cross_check: Annotated[
        bool,
        typer.Option("--cross-check", help="Time the same launches with CUPTI, NVBench, Proton and do_bench (GPU)."),
    ] = False,
    counters: Annotated[
        bool, typer.Option("--counters", help="Prove with hardware counters, through ncu, that cold is cold (GPU).")
    ] = False,
    json_path: options.JsonPath = None,
    quiet: options.Quiet = False,
) -> None:
    """Say what machine this is, what is missing, whether the kernels are correct, and test the timer.

    Exit codes: 0 nothing is bad (there may be warnings); 1 something is bad: numbers from here are not to be trusted,
    or --cross-check or --counters could not be done; 2 usage error.

    Example: mlabench doctor --quick
    """
    # Here, so that the help of any command stays quick.
    from mlabench.cli.outputs import STANDARD_OUTPUT, check_targets, write_output
    from mlabench.doctor.examine import choose_sections, diagnose
    from mlabench.doctor.timer import choose_tested
    from mlabench.machine.detect import choose_device

    chosen = choose_device(device)
    tested = choose_tested(method, chosen)
    check_targets({"json": json_path})
    sections = choose_sections({"cross_check": cross_check, "counters": counters})
    with progress(len(sections), quiet=quiet) as shown:
        diagnosis = diagnose(
            chosen,
            quick,
            sections,
            lambda section: shown.start(section.title),
            lambda examined: shown.finish(f"{examined.section.title}: {format_seconds(examined.wall_s)}"),
            tested,
        )
    if json_path == STANDARD_OUTPUT:
        print(_outcome(diagnosis), file=sys.stderr)
    else:
        _print(diagnosis)
    if json_path is not None:
        write_output("json", json_path, json.dumps(diagnosis.to_json(), indent=1, allow_nan=False) + "\n")
    raise typer.Exit(diagnosis.exit_code)


def _print(diagnosis: "Diagnosis") -> None:
    for examined in diagnosis.sections:
        console().print(_table(examined))
    console().print(_outcome(diagnosis), style="bold red" if diagnosis.exit_code else "bold green", markup=False)


def _outcome(diagnosis: "Diagnosis") -> str:
    counts = {status: sum(f.status == status for f in diagnosis.findings) for status in STYLES}
    text = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    outcome = "something is bad: do not trust numbers from here" if diagnosis.exit_code else "nothing is bad"
    return f"{outcome} ({text})"


def _table(examined: "Examined") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{examined.section.title} ({format_seconds(examined.wall_s)})", "bold")
    table = Table(box=box.SIMPLE, show_header=False, title=title, title_justify="left", pad_edge=False)
    table.add_column(no_wrap=True, min_width=max(map(len, STYLES)))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in examined.findings:
        mend = f"\nmend: {finding.mend}" if finding.mend else ""
        status = Text(finding.status, STYLES[finding.status])
        table.add_row(status, Text(finding.name), Text(finding.found + mend))
    return table
