"""Tables of predictions, which may have tens of thousands of rows and names that a user chose."""

from collections.abc import Callable, Sequence

import typer

from mlabench.cli.show import print_table
from mlabench.predict.rows import Row

Column = tuple[str, Callable[[Row], str]]
"""A header, and the text of a row below it."""

MOST_LAID_OUT = 500
"""Rows over which a table is plain text: laying it out for a terminal would take a second a thousand."""

_GAP = "   "


def print_columns(columns: Sequence[Column], rows: Sequence[Row], kind: str = "table") -> None:
    """Print the rows under their headers, `kind` being `table` or `md`."""
    print_cells([name for name, _ in columns], [[text(row) for _, text in columns] for row in rows], kind)


def print_cells(headers: Sequence[str], cells: Sequence[Sequence[str]], kind: str = "table") -> None:
    """Print cells under their headers: as a table, or as Markdown that reads as one."""
    if kind == "md":
        typer.echo(_markdown(headers, cells))
    elif len(cells) > MOST_LAID_OUT:
        typer.echo(_plain(headers, cells))
    else:
        print_table(headers, cells)


def _markdown(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table, and the line that has to part it from a text below."""
    from tabulate import tabulate

    # A bar in a model's name would begin another column. Text is laid out as it is: telling numbers apart takes longer
    # than all predictions.
    barred = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    plain = {"disable_numparse": True, "stralign": None}
    return f"{tabulate(barred, headers=list(headers), tablefmt='pipe', **plain)}\n"


def _plain(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [headers, *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["─" * (sum(widths) + len(_GAP) * (len(widths) - 1))]
    text = [_GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([*text[:1], *rule, *text[1:]])
