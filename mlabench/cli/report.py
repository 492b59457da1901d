"""`mlabench report`: figures and a page from stored runs."""

from pathlib import Path
from typing import Annotated

import typer

from mlabench.errors import UsageError
from mlabench.records.store import is_run, load_run
from mlabench.report.write import DEFAULT_FORMATS, FORMATS, write_report

RUNS_FOLDER = Path("results/runs")
"""Where `mlabench sweep` puts runs that are given no other place."""


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run directories; several are put in one report.", show_default="newest in results/runs"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write to; by default `report` in the first run.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    formats: Annotated[str, typer.Option("--format", help=f"Any of {','.join(FORMATS)}, with commas.")] = ",".join(
        DEFAULT_FORMATS
    ),
) -> None:
    """Draw the figures of one or more runs and write one self-contained HTML page.

    Prints the paths written. Nothing is measured, and nothing is fetched from a network.

    Example: mlabench report results/runs/first -o report --format html,png,svg
    """
    kinds = [word.strip() for word in formats.split(",") if word.strip()]
    chosen = runs or [_newest_run()]
    for path in write_report([load_run(run) for run in chosen], out or chosen[0] / "report", kinds, title):
        typer.echo(path)


def _newest_run() -> Path:
    """The run whose name, which begins with its date, sorts last."""
    runs = sorted(path for path in RUNS_FOLDER.glob("*") if is_run(path))
    if not runs:
        raise UsageError(f"there is no run under {RUNS_FOLDER}: name one, or make one with `mlabench sweep`")
    return runs[-1]
