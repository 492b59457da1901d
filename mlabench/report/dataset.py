"""The page's one copy of its numbers, from which its script fills the table, the charts and what hovering shows.

A column holds each distinct text once, in the order in which it sorts, and for every row the place of its text, -1
where nothing was measured: small, ready to sort by, and without arithmetic or wording of its own in the browser.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlabench.cases.axes import INTEGER_AXES
from mlabench.records.store import Run
from mlabench.report.cells import CHARTED, COLUMNS, COMMAND, MOST_ROWS, TOLD, Column, column_values
from mlabench.report.samples import with_samples
from mlabench.report.warnings import with_disturbances

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


def with_details(table: "pandas.DataFrame", runs: Sequence[Run]) -> "pandas.DataFrame":
    """The table of all records of the runs, in their order, with the samples, doubts and device of each."""
    devices = [run.manifest.fingerprint.device for run in runs for _ in run.records]
    records = [record for run in runs for record in run.records]
    return with_disturbances(with_samples(table, records), runs).assign(device=devices)


def records_data(table: "pandas.DataFrame", shown: Sequence[Column]) -> dict[str, Any]:
    """At most `MOST_ROWS` records of a table `with_details`: how many, its headings, and every column by its field.

    Of the fields in `command` is made what measures a record again.
    """
    kept = table.head(MOST_ROWS)
    known = {column.field: column for column in (*COLUMNS, *shown, *CHARTED, *TOLD)}
    others = {field: Column(field, field, numeric=field in INTEGER_AXES) for field in COMMAND if field not in known}
    return {
        "rows": len(kept),
        "shown": [[column.field, column.heading, column.numeric, column.drawn] for column in shown],
        "command": COMMAND,
        "columns": {
            field: coded(column_values(kept, field), column.text, numeric=column.numeric)
            for field, column in (known | others).items()
        },
    }


def _rounded(value: float) -> float:
    """Counts stay exact."""
    if isinstance(value, int):
        return value
    number = float(f"{value:.{DIGITS}g}")
    return int(number) if number.is_integer() else number
