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


FORMATS: Mapping[str, Callable[[Rows], str]] = {"json": _json, "csv": _csv}
"""What each format writes of one row or more."""
