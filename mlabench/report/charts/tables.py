"""The rows that charts draw: which record each is, and the numbers that belong to no single record."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlabench.report.cells import COLUMNS
from mlabench.report.charts.colours import cell_colour
from mlabench.report.charts.looks import CLEAR, TEXT_ON_CELLS
from mlabench.report.crossovers import Crossover, contradicts, over
from mlabench.report.dataset import coded
from mlabench.report.figures.kv_bytes import bar_label, make_bars
from mlabench.report.series import SHAPE, Context, View, measured
from mlabench.units import format_exact, format_exact_bytes, format_number, format_ratio, format_tokens

if TYPE_CHECKING:
    import pandas

Table = dict[str, Any]
"""How many `rows` there are, and their columns.

`record` and `rival`, where there are such, are places among the page's records; the others are coded columns.
"""

ByteRow = tuple[int, str, int, str, str]

GB = 1_000_000_000
"""Of memory, to say how many tokens it holds."""

KEY = ["run", "case_id", "kernel", "method", "started_at"]
_POINT = ["series", "num_q_heads", *SHAPE]


class Places:
    """Where a view's rows lie among the page's records."""

    def __init__(self, view: View, table: "pandas.DataFrame") -> None:
        """`table` holds the page's records, in its order, and those of the view among them."""
        self._record = {key: place for place, key in enumerate(_keys(table, KEY))}
        order = {one.name: place for place, one in enumerate(view.context.series)}
        rows = measured(view.frame).assign(place=lambda found: found["series"].map(order))
        self.rows = rows.sort_values(["place", "num_q_heads", view.context.panel, view.context.x])
        self._rival = dict(zip(_keys(self.rows, _POINT), self.records(self.rows), strict=True))

    def records(self, rows: "pandas.DataFrame") -> list[int]:
        """The place of each row's record."""
        return [self._record[key] for key in _keys(rows, KEY)]

    def rivals(self, rows: "pandas.DataFrame") -> list[int]:
        """The place of the record that each row's ratio is against."""
        return [self._rival[key] for key in _keys(rows.assign(series=rows["rival"]), _POINT)]


def point_table(places: Places) -> Table:
    """The fastest kernel of each case."""
    return {
        "rows": len(places.rows),
        "record": places.records(places.rows),
        "series": coded(list(places.rows["series"])),
    }


def speed_table(places: Places, baselines: Iterable[str]) -> Table:
    """Every point over the baselines' points of the same shape."""
    import pandas

    tables = [table for name in baselines if len(table := over(places.rows, name))]
    return _ratio_table(places, pandas.concat(tables))


def rival_table(places: Places, rows: "pandas.DataFrame") -> Table:
    """The points of one series over those of its rivals, as `ratios` gives them, with the colours of a map's cells."""
    table = _ratio_table(places, rows)
    pairs = list(zip(rows["ratio"].astype(float), rows["floor_ratio"].astype(float), strict=True))
    colours = [cell_colour(ratio) for ratio, _ in pairs]
    framed = [contradicts(*pair) for pair in pairs]
    floors = [None if math.isnan(floor) else floor for _, floor in pairs]
    return table | {
        "colour": coded(colours),
        "frame": coded([TEXT_ON_CELLS if frame else CLEAR for frame in framed]),
        "floor_ratio": coded(floors, format_ratio, numeric=True),
        "digits": coded(list(rows["ratio"].astype(float)), lambda ratio: format_number(ratio, 2), numeric=True),
    }


def crossing_table(found: Sequence[Crossover], context: Context) -> Table:
    """Where each series becomes level with its rival, at a ratio of 1."""
    level = [(one, length) for one in found for length in one.lengths]
    texts = {column.field: column.text for column in COLUMNS}
    return {
        "rows": len(level),
        "over": coded([one.rival for one, _ in level]),
        "num_q_heads": coded([one.num_q_heads for one, _ in level], numeric=True),
        context.panel: coded([one.panel for one, _ in level], texts[context.panel], numeric=True),
        "x": coded([length for _, length in level], format_tokens, numeric=True),
        "y": coded([1] * len(level), numeric=True),
        "text": coded([format_tokens(round(length)) for _, length in level]),
    }


def byte_rows(view: View) -> list[ByteRow]:
    """Heads, name, bytes, label and series of each variant's and form's bar, at every head count."""
    context, found = view.context, []
    names = {one.style.colour: one.name for one in context.series}
    for heads in context.all_num_q_heads:
        bars = make_bars(view.frame[view.frame["num_q_heads"] == heads], context)
        mha_bytes = next((value for name, value, _ in bars if name == "MHA"), None)
        for name, value, colour in bars:
            found.append((heads, name, value, bar_label(value, mha_bytes), names[colour]))
    return found


def byte_table(rows: Sequence[ByteRow]) -> Table:
    """The bars as columns."""
    heads, names, values, labels, series = zip(*rows, strict=True)
    return {
        "rows": len(rows),
        "num_q_heads": coded(heads, numeric=True),
        "name": coded(names),
        "bytes": coded(values, format_exact_bytes, numeric=True),
        "label": coded(labels),
        "held": coded([f"{format_exact(GB // value)} tokens" for value in values]),
        "series": coded(series),
    }


def _ratio_table(places: Places, rows: "pandas.DataFrame") -> Table:
    return {
        "rows": len(rows),
        "record": places.records(rows),
        "rival": places.rivals(rows),
        "series": coded(list(rows["series"])),
        "over": coded(list(rows["rival"])),
        "ratio": coded(list(rows["ratio"].astype(float)), format_ratio, numeric=True),
    }


def _keys(rows: "pandas.DataFrame", names: list[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(rows[name] for name in names), strict=True)
