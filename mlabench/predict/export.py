"""Predictions as text for other tools: the rows as they are, null or empty where a number is not known."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def _csv(rows: Rows) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json(rows: Rows) -> str:
    # The lines between the rows keep the file readable, and the faster encoder that has no indent.
    return "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n"


def _markdown(rows: Rows) -> str:
    from tabulate import tabulate

    cells = [[_cell(value) for value in row.values()] for row in rows]
    # Text that is laid out as it is: telling numbers apart takes longer than all predictions.
    plain = {"disable_numparse": True, "stralign": None}
    return str(tabulate(cells, headers=list(rows[0]), tablefmt="pipe", **plain)) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


FORMATS: Mapping[str, Callable[[Rows], str]] = {"json": _json, "csv": _csv, "md": _markdown}
"""What each format writes of one row or more."""
