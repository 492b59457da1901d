"""`mlabench export`: a run's records as a table for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from mlabench.cli.show import warn
from mlabench.errors import NothingMeasuredError, UsageError

FORMAT_HELP = "One of csv, json, parquet, md; by default what the name of --output ends in, else csv."


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    kind: Annotated[str | None, typer.Option("--format", "-f", help=FORMAT_HELP)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; by default standard output.")
    ] = None,
) -> None:
    """Write all records of a run as CSV, JSON, Parquet or Markdown.

    One row a record; numbers in the units that the column's name gives, empty (null) where nothing was measured. Exit
    codes: 0 done, 2 bad input, 6 the run holds no record.

    Example: mlabench export results/runs/first --format csv -o first.csv
    """
    from mlabench.records.export import FORMATS, export_bytes, write_atomically
    from mlabench.records.store import load_run

    suffix = output.suffix.lstrip(".") if output else ""
    if kind is None and suffix and suffix not in FORMATS:
        raise UsageError(f"--output {output} ends in no known format: name one with --format {'|'.join(FORMATS)}")
    kind = kind or suffix or "csv"
    if kind == "parquet" and output is None:
        raise UsageError("parquet is binary and needs a file: add -o FILE.parquet")
    loaded = load_run(run)
    for warning in loaded.warnings:
        warn(warning)
    if not loaded.records:
        raise NothingMeasuredError(f"{loaded.name}: there are no records to export")
    content = export_bytes(loaded, kind)
    if output is None:
        typer.echo(content.decode(), nl=False)
    else:
        write_atomically(output, content)
