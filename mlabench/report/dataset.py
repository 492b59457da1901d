"""The page's one copy of its numbers, from which its script fills the table, the charts and what hovering shows.

A column holds each distinct text once, in the order in which it sorts, and for every row the place of its text, -1
where nothing was measured: small, ready to sort by, and without arithmetic or wording of its own in the browser.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlabench.report.cells import CHARTED, COLUMNS, MOST_ROWS, Column, column_values

if TYPE_CHECKING:
    import pandas

Coded = dict[str, Any]
"""`texts` and, of numbers, `values` to four digits; `codes`, a list with a place for each row or one place for all."""

DIGITS = 4
"""Of plotted values: finer than a pixel."""


def coded(values: Sequence[Any], text: Callable[[Any], str] = str, *, numeric: bool = False) -> Coded:
    """A column with its distinct texts; numbers that read alike count as one. None is what was not measured."""
    distinct = {value: text(value) for value in set(values) if value is not None}
    order = sorted(distinct) if numeric else sorted(distinct, key=lambda value: (str(value).lower(), str(value)))
    first: dict[str, Any] = {}
    for value in order:
        first.setdefault(distinct[value], value)
    place = {name: number for number, name in enumerate(first)}
    codes = [-1 if value is None else place[distinct[value]] for value in values]
    column: Coded = {"texts": list(first), "codes": codes[0] if codes and len(set(codes)) == 1 else codes}
    return column | {"values": [_rounded(value) for value in first.values()]} if numeric else column


def records_data(table: "pandas.DataFrame", shown: Sequence[Column]) -> dict[str, Any]:
    """At most `MOST_ROWS` records: how many, the table's headings, and every column by its field."""
    kept = table.head(MOST_ROWS)
    fields = {column.field: column for column in (*COLUMNS, *shown, *CHARTED)}
    return {
        "rows": len(kept),
        "shown": [[column.field, column.heading, column.numeric] for column in shown],
        "columns": {
            field: coded(column_values(kept, field), column.text, numeric=column.numeric)
            for field, column in fields.items()
        },
    }


def _rounded(value: float) -> float:
    """Counts stay exact."""
    if isinstance(value, int):
        return value
    number = float(f"{value:.{DIGITS}g}")
    return int(number) if number.is_integer() else number
