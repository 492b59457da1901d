"""`mlabench doctor`: can this machine measure, and can the numbers from it be trusted."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlabench.cli.show import console, progress
from mlabench.errors import UsageError
from mlabench.units import format_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from mlabench.doctor.examine import Diagnosis, Examined

STYLES = {"good": "green", "warning": "yellow", "bad": "bold red", "not here": "dim"}


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Sample less: done in some 15 seconds.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Which device to examine.")] = "auto",
    cross_check: Annotated[
        bool,
        typer.Option("--cross-check", help="Time the same launches with CUPTI, NVBench, Proton and do_bench (GPU)."),
    ] = False,
    counters: Annotated[
        bool, typer.Option("--counters", help="Prove with hardware counters, through ncu, that cold is cold (GPU).")
    ] = False,
    json_path: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all raw numbers as JSON; - is standard output."),
    ] = None,
) -> None:
    """Say what machine this is, what is missing, whether the kernels are correct, and test the timer.

    Exit codes: 0 nothing is bad (there may be warnings); 1 something is bad: numbers from here are not to be trusted;
    2 usage error.

    Example: mlabench doctor --quick
    """
    # Here, so that the help of any command stays quick.
    from mlabench.doctor.examine import choose_sections, diagnose
    from mlabench.machine.detect import choose_device

    chosen = choose_device(device)
    _check_target(json_path)
    sections = choose_sections({"cross_check": cross_check, "counters": counters})
    with progress(len(sections)) as shown:
        diagnosis = diagnose(
            chosen,
            quick,
            sections,
            lambda section: shown.start(section.title),
            lambda examined: shown.finish(f"{examined.section.title}: {format_seconds(examined.wall_s)}"),
        )
    if json_path is not None:
        _write_json(diagnosis, json_path)
    if json_path == "-":
        print(_outcome(diagnosis), file=sys.stderr)
    else:
        _print(diagnosis)
    raise typer.Exit(diagnosis.exit_code)


def _check_target(json_path: str | None) -> None:
    """Before anything is measured. Raises `UsageError`."""
    if json_path not in (None, "-") and not Path(str(json_path)).absolute().parent.is_dir():
        raise UsageError(f"cannot write to {json_path}: its folder is not there; choose another --json")


def _write_json(diagnosis: "Diagnosis", target: str) -> None:
    text = json.dumps(diagnosis.to_json(), indent=1, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {target}: {error.strerror or error}; choose another --json") from None


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
