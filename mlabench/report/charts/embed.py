"""Charts as what a page holds of them: JSON for its script, and Bokeh's own script without its widgets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from mlabench.report.cells import CHARTED, COLUMNS
from mlabench.report.charts import CHARTS, ChartRow
from mlabench.report.charts.chart import Chart
from mlabench.report.charts.looks import series_looks
from mlabench.report.charts.tables import Places, point_table
from mlabench.report.names import FIGURE_NAMES
from mlabench.report.series import View

if TYPE_CHECKING:
    import pandas

HEADINGS = {
    **{column.field: column.heading for column in (*COLUMNS, *CHARTED)},
    "series": "variant",
    "over": "over",
    "ratio": "ratio",
    "floor_ratio": "as the ceilings allow",
    "name": "variant",
    "bytes": "bytes",
    "held": "held by a GB, one layer",
    "label": "against MHA",
    "rival.latency_us": "its latency",
    "rival.kernel": "its kernel",
    "rival.energy_j_per_token": "its energy/token",
}
"""Of the tables behind the charts."""


def bokeh_script() -> str:
    """BokehJS itself, which draws plots and nothing else, from the installed package."""
    from bokeh.resources import Resources

    return str(Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a panel goes in the page: the id of its element, and its title."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Frame:
    """What the page writes around a chart: its id, heading and caption, the places of its panels, and its figure."""

    id: str
    name: str
    title: str
    caption: str
    panels: tuple[Place, ...]
    wide: bool


@dataclass(frozen=True, slots=True)
class Charts:
    """The charts of a view: what the page writes around them, and what its script fills them from."""

    frames: tuple[Frame, ...]
    controls: Sequence[dict[str, Any]]
    series: Sequence[dict[str, Any]]
    data: dict[str, Any]


def make_charts(
    view: View, drawn: Collection[str], table: "pandas.DataFrame", number: int, chosen: Collection[str] = FIGURE_NAMES
) -> Charts:
    """The charts of a view whose figures are named in `drawn`, and those `chosen` without a figure that the data fits.

    `table` holds the page's records; `number` tells the views apart.
    """
    places = Places(view, table)
    frames, charts = [], []
    tables: dict[str, Any] = {"points": point_table(places)}
    for row in CHARTS if len(places.rows) else ():
        if row.name not in drawn and not (row.name in chosen and row.fits(places.rows)):
            continue
        chart = row.make(view, places)
        frame = _frame(row, chart, view, f"view{number}-{row.name}")
        frames.append(frame)
        charts.append(_chart(row, chart, frame))
        tables |= ({chart.table: chart.rows} if chart.rows is not None else {}) | dict(chart.others)
    controls, series = _controls(view, places.rows), series_looks(view.context.series)
    setting = f"{view.context.dtype}, {view.context.device_name}"
    data = {
        "id": f"view{number}",
        "controls": controls,
        "series": series,
        "setting": setting,
        "tables": tables,
        "charts": charts,
    }
    return Charts(_in_pairs(frames), controls, series, data)


def _frame(row: ChartRow, chart: Chart, view: View, name: str) -> Frame:
    places = tuple(Place(f"{name}-{place}", panel.title) for place, panel in enumerate(chart.panels))
    wide = len(places) > 1 or row.wide
    return Frame(name, row.name, row.heading(view.context), row.explanation(view.context), places, wide)


def _in_pairs(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """The frames; the last narrow one of an odd number is wide too, lest it leave a gap."""
    narrow = [frame for frame in frames if not frame.wide]
    last = narrow[-1] if len(narrow) % 2 else None
    return tuple(replace(frame, wide=True) if frame is last else frame for frame in frames)


def _chart(row: ChartRow, chart: Chart, frame: Frame) -> dict[str, Any]:
    panels = [
        {"id": place.id, "item": plot_item(panel.plot, place.id), "spec": panel.spec}
        for place, panel in zip(frame.panels, chart.panels, strict=True)
    ]
    listed = [[column, HEADINGS[column]] for column in row.listed]
    return {"id": frame.id, "title": frame.title, "table": chart.table, "panels": panels, "listed": listed}


def _controls(view: View, rows: "pandas.DataFrame") -> list[dict[str, Any]]:
    """What the reader can choose: the field, its options as the records' texts, and the one to start with.

    That is the one with most lines, then points.
    """
    context = view.context
    drawn = rows[rows["num_q_heads"] == context.num_q_heads]
    counts = {value: drawn[drawn[context.panel] == value]["series"] for value in context.all_panels}
    start = max(counts, key=lambda value: (counts[value].nunique(), len(counts[value]), value))
    texts = {column.field: column.text for column in (*COLUMNS, *CHARTED)}
    choices = (
        ("num_q_heads", context.all_num_q_heads, context.num_q_heads),
        (context.panel, context.all_panels, start),
    )
    return [
        {
            "field": field,
            "label": HEADINGS[field],
            "options": [texts[field](value) for value in options],
            "start": texts[field](chosen),
        }
        for field, options, chosen in choices
    ]


def plot_item(plot: Any, name: str) -> dict[str, Any]:
    """A plot as `Bokeh.embed.embed_item` takes it, with ids that do not change from one writing to the next."""
    from bokeh.embed import json_item

    item = cast(dict[str, Any], json_item(plot))
    ids: dict[str, str] = {}
    return cast(dict[str, Any], _renamed(item, ids, name)) | {"root_id": ids[item["root_id"]], "target_id": None}


def _renamed(value: Any, ids: dict[str, str], name: str) -> Any:
    if isinstance(value, dict):
        return {
            key: ids.setdefault(own, f"{name}-{len(ids)}") if key == "id" else _renamed(own, ids, name)
            for key, own in value.items()
        }
    return [_renamed(one, ids, name) for one in value] if isinstance(value, list) else value
