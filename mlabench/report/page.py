"""The report as one HTML page without any outside resource."""

import gzip
import json
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlabench.report.cells import MOST_ROWS, columns, shared, unmeasured
from mlabench.report.charts import can_draw
from mlabench.report.charts.embed import bokeh_script, make_charts
from mlabench.report.charts.looks import DARK, series_looks
from mlabench.report.charts.moved import moved_data
from mlabench.report.claimed import claim_table
from mlabench.report.content import Content, DrawnMove, DrawnView
from mlabench.report.dataset import records_data, with_details
from mlabench.report.facts import card, summary
from mlabench.report.findings import Finding, findings
from mlabench.report.moved import CAPTION as MOVED_CAPTION
from mlabench.report.moved import SERIES
from mlabench.report.parts import MOST_LAYERS, layer_rows
from mlabench.report.warnings import warnings
from mlabench.units import format_exact

if TYPE_CHECKING:
    import jinja2
    import pandas


def render_page(content: Content) -> str:
    """The page's text."""
    runs, table = content.runs, with_details(content.table, content.runs)
    shown = columns(table, len(runs) > 1)
    records = records_data(table, shown)
    sections = _sections(content, table)
    moved = [_moved(one, place, why_pictures(table)) for place, one in enumerate(content.moves)]
    views = [section["charts"].data for section in sections if section["charts"]]
    data = {"records": records, "dark": DARK, "views": [*(one["data"] for one in moved if one["data"]), *views]}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=content.title,
            summary=summary(runs, table),
            sections=sections,
            moved=moved,
            bokeh=bokeh_script() if data["views"] else "",
            data=_packed(data),
            shown_rows=records["rows"],
            without_charts=why_pictures(table),
            warnings=(*warnings(runs, table), *content.notes),
            unmeasured=unmeasured(table),
            layers=layer_rows(table),
            claims=claim_table(runs),
            hidden_layers=max(0, int(table["parts"].notna().sum()) - MOST_LAYERS),
            columns=shown,
            shared=[f"{column.heading} {text}" for column, text in shared(table)],
            hidden_rows=max(0, len(table) - records["rows"]),
            cards=[(run.name, card(run, table)) for run in runs],
        )
    )


def why_pictures(table: "pandas.DataFrame") -> str:
    """Why the page holds pictures and no interactive charts; empty where it holds charts."""
    if not can_draw():
        return "interactive charts need the Python package bokeh (pip install bokeh) where the report is written"
    if len(table) > MOST_ROWS:
        return f"interactive charts are drawn of at most {format_exact(MOST_ROWS)} records; report fewer runs at a time"
    return ""


def _environment() -> "jinja2.Environment":
    """Templates that escape what they are given, and include one another, styles and scripts."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("mlabench.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _packed(data: Any) -> str:
    """The page's numbers in a third of their size, as its script unpacks them; the same numbers give the same text."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _sections(content: Content, table: "pandas.DataFrame") -> list[dict[str, Any]]:
    """A section for each view; a finding that holds for several stands in the first."""
    told: set[Finding] = set()
    sections = []
    for place, drawn in enumerate(content.views):
        section = _section(drawn, table, place, content.chosen)
        section["findings"] = [finding for finding in section["findings"] if finding not in told]
        told.update(section["findings"])
        sections.append(section)
    return sections


def _section(drawn: DrawnView, table: "pandas.DataFrame", place: int, chosen: Sequence[str]) -> dict[str, Any]:
    view, pictures = drawn.view, [picture for picture in drawn.pictures if picture.files]
    charts = None
    if not why_pictures(table):
        charts = make_charts(view, {picture.row.name for picture in pictures}, table, place, chosen)
        pictures = [picture for picture in pictures if picture.row.name not in {frame.name for frame in charts.frames}]
    return {
        "id": f"view{place}",
        "title": view.title,
        "files": drawn.beside,
        "findings": findings(view),
        "charts": charts if charts and charts.frames else None,
        "figures": [(picture, b64encode(picture.files["png"]).decode()) for picture in pictures],
        "missing": [picture.missing for picture in drawn.pictures if picture.missing],
        "left_out": view.context.left_out,
    }


def _moved(drawn: DrawnMove, place: int, why_picture: str) -> dict[str, Any]:
    moved, name = drawn.moved, f"moved{place}"
    return {
        "id": name,
        "moved": moved,
        "caption": MOVED_CAPTION,
        "files": drawn.beside,
        "looks": [look for look in series_looks(SERIES) if look["name"] in {one.verdict for one in moved.points}],
        "data": moved_data(moved, name) if drawn.files and not why_picture else None,
        "png": b64encode(drawn.files["png"]).decode() if drawn.files else "",
    }
