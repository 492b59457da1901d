"""`mlabench report`: figures and a page from stored runs."""

from pathlib import Path
from typing import Annotated

import typer

from mlabench.cli import options

NAMES = (
    *("latency", "kv_bytes", "speedup", "crossover", "energy", "forms", "roofline", "rates", "floor", "kernels"),
    *("load", "moved"),
)
"""What --figures takes; written down here, so that the help needs nothing that draws."""


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Runs of `mlabench sweep` or `mlabench ab`; several are put in one report.",
            show_default="newest in results/runs",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write to; by default `report` in the first run.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Any of html,png,svg,md, with commas; md links the pictures written with it.",
            show_default="html,png",
        ),
    ] = None,
    figures: Annotated[
        str | None,
        typer.Option(
            help=f"Draw these alone, with commas: {', '.join(NAMES)}.",
            show_default="all that the runs have data for",
            autocompletion=lambda: list(NAMES),
        ),
    ] = None,
    where: options.Where = None,
) -> None:
    """Draw the figures of one or more runs and write one self-contained HTML page.

    Where runs timed the same points, it says what moved from the earlier named to the later, as `mlabench compare`
    does. Prints the paths written. Nothing is measured, and nothing is fetched from a network. Exit codes: 0 done, 2
    bad input, 6 the runs hold no measured point (what can be drawn without any is written all the same).

    Example: mlabench report results/runs/first -o report --format html,png,svg

    Example: mlabench report results/runs/first --format md,png --figures latency,roofline --where 'batch == 1'
    """
    from mlabench.cli.project import find_project
    from mlabench.cli.report_steps import keep_cases, moved_between
    from mlabench.errors import NothingMeasuredError
    from mlabench.records.store import newest_run
    from mlabench.report.interleaved import load_measured
    from mlabench.report.write import write_report

    project = find_project()
    asked = project.values.get("report_format", "html,png") if formats is None else formats
    chosen = runs or [newest_run(project.runs_folder)]
    loaded = load_measured(chosen)
    loaded = keep_cases(loaded, where) if where else loaded
    folder, moved = out or chosen[0] / "report", moved_between(loaded)
    for path in write_report(loaded, folder, _words(asked), title, figures=_words(figures or ""), moved=moved):
        typer.echo(path)
    if not any(record.timing for run in loaded for record in run.records):
        names = ", ".join(run.name for run in loaded)
        raise NothingMeasuredError(f"{names}: nothing was measured, so the report shows no time; its table says why")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
