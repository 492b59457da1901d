"""`mlabench report`: figures and a page from stored runs."""

from pathlib import Path
from typing import Annotated

import typer


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
        str | None, typer.Option("--format", help="Any of html,png,svg, with commas.", show_default="html,png")
    ] = None,
) -> None:
    """Draw the figures of one or more runs and write one self-contained HTML page.

    Prints the paths written. Nothing is measured, and nothing is fetched from a network. Exit codes: 0 done, 2 bad
    input, 6 the runs hold no measured point (what can be drawn without any is written all the same).

    Example: mlabench report results/runs/first -o report --format html,png,svg
    """
    from mlabench.cli.project import find_project
    from mlabench.errors import NothingMeasuredError
    from mlabench.records.store import newest_run
    from mlabench.report.interleaved import load_measured
    from mlabench.report.write import write_report

    project = find_project()
    asked = project.values.get("report_format", "html,png") if formats is None else formats
    kinds = [word.strip() for word in asked.split(",") if word.strip()]
    chosen = runs or [newest_run(project.runs_folder)]
    loaded = load_measured(chosen)
    for path in write_report(loaded, out or chosen[0] / "report", kinds, title):
        typer.echo(path)
    if not any(record.timing for run in loaded for record in run.records):
        names = ", ".join(run.name for run in loaded)
        raise NothingMeasuredError(f"{names}: nothing was measured, so the report shows no time; its table says why")
