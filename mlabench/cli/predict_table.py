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


def print_columns(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print the rows under their headers."""
    headers, cells = [name for name, _ in columns], [[text(row) for _, text in columns] for row in rows]
    if len(rows) > MOST_LAID_OUT:
        typer.echo(_plain(headers, cells))
        return
    print_table(headers, cells)


def _plain(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [headers, *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["─" * (sum(widths) + len(_GAP) * (len(widths) - 1))]
    text = [_GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([*text[:1], *rule, *text[1:]])
