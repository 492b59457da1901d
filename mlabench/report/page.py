"""The report as one HTML page without any outside resource."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlabench.records.manifest import Manifest
from mlabench.records.store import Run
from mlabench.report.cells import MOST_ROWS, columns, shared, unmeasured
from mlabench.report.charts import can_draw
from mlabench.report.charts.embed import bokeh_script, make_charts
from mlabench.report.charts.looks import DARK
from mlabench.report.claimed import claim_table
from mlabench.report.dataset import records_data
from mlabench.report.findings import Finding, findings
from mlabench.report.parts import MOST_LAYERS, layer_rows
from mlabench.report.render import Picture
from mlabench.report.series import View
from mlabench.report.warnings import warnings
from mlabench.units import (
    NOT_MEASURED,
    format_bandwidth,
    format_bytes,
    format_exact,
    format_flop_rate,
    format_power,
)

if TYPE_CHECKING:
    import jinja2
    import pandas


def render_page(
    runs: Sequence[Run],
    table: "pandas.DataFrame",
    sections: Sequence[tuple[View, Sequence[Picture]]],
    notes: Sequence[str],
    title: str,
    beside: Sequence[Mapping[str, str]],
) -> str:
    """The page's text.

    `table` holds all records, `sections` the drawn views, `notes` what was left out of them, and `beside` holds for
    each section the files beside the page by the names of their figures.
    """
    shown = columns(table, len(runs) > 1)
    records = records_data(table, shown)
    parts = _sections(sections, table, beside)
    data = {"records": records, "dark": DARK, "views": [part["charts"].data for part in parts if part["charts"]]}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            summary=_summary(runs, table),
            sections=parts,
            bokeh=bokeh_script() if data["views"] else "",
            data=data,
            without_charts=why_pictures(table),
            warnings=(*warnings(runs, table), *notes),
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

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mlabench.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    return environment


def card(run: Run, table: "pandas.DataFrame") -> list[tuple[str, str]]:
    """The environment of a run as names and values."""
    manifest, machine = run.manifest, run.manifest.fingerprint
    own = table[table["run"] == run.name]
    provenance = manifest.provenance
    dirty = {True: "with uncommitted changes", False: "clean", None: "git could not say"}[provenance.get("dirty")]
    facts = [
        ("machine", f"{machine.device_name}, {machine.processors} processors" + _memory(machine.memory_bytes)),
        ("power limit", format_power(machine.power_limit_w)),
        ("driver", machine.driver),
        ("CUDA", machine.cuda),
        ("PyTorch", machine.torch),
        ("Triton", machine.triton),
        ("Python", f"{machine.python} on {machine.system}"),
        ("mlabench", provenance.get("version")),
        ("commit", f"{provenance.get('commit') or 'unknown'} ({dirty})"),
        ("source digest", provenance.get("source_digest")),
        ("started", manifest.created_at),
        ("timing method", _values(own, "method")),
        ("last-level cache", _values(own, "cache")),
        *_ceilings(manifest),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "", NOT_MEASURED)]


def _ceilings(manifest: Manifest) -> list[tuple[str, str]]:
    if manifest.ceilings is None:
        return [("ceilings", "not measured")]
    ceilings = manifest.ceilings
    rates = ", ".join(
        f"{format_flop_rate(rate)} {dtype}" for dtype, rate in sorted(ceilings.matmul_flops_per_s.items())
    )
    return [
        ("measured read", format_bandwidth(ceilings.read_bytes_per_s)),
        ("measured write", format_bandwidth(ceilings.write_bytes_per_s)),
        ("measured copy", format_bandwidth(ceilings.copy_bytes_per_s)),
        ("measured matmul", rates or NOT_MEASURED),
    ]


def _summary(runs: Sequence[Run], table: "pandas.DataFrame") -> list[tuple[str, str]]:
    ok = int((table["status"] == "ok").sum())
    versions = {f"{run.manifest.provenance.get('commit') or 'unknown'}"[:12] for run in runs}
    devices = {run.manifest.fingerprint.device_name for run in runs}
    return [
        ("compared", ", ".join(dict.fromkeys(_variant(row) for row in table.to_dict("records"))) or "nothing"),
        ("machine", ", ".join(sorted(devices))),
        ("commit", ", ".join(sorted(versions))),
        ("points", f"{ok} measured of {len(table)} records in {', '.join(run.name for run in runs)}"),
    ]


def _sections(
    drawn: Sequence[tuple[View, Sequence[Picture]]], table: "pandas.DataFrame", beside: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]]:
    """A section for each view; a finding that holds for several stands in the first."""
    told: set[Finding] = set()
    sections = []
    for place, (view, pictures) in enumerate(drawn):
        section = _section(view, pictures, table, place)
        section["files"] = beside[place]
        section["findings"] = [finding for finding in section["findings"] if finding not in told]
        told.update(section["findings"])
        sections.append(section)
    return sections


def _section(view: View, pictures: Sequence[Picture], table: "pandas.DataFrame", place: int) -> dict[str, Any]:
    drawn = [picture for picture in pictures if picture.files]
    charts = None
    if not why_pictures(table):
        charts = make_charts(view, {picture.row.name for picture in drawn}, table, place)
        drawn = [picture for picture in drawn if picture.row.name not in {frame.name for frame in charts.frames}]
    return {
        "id": f"view{place}",
        "title": view.title,
        "findings": findings(view),
        "charts": charts if charts and charts.frames else None,
        "figures": [(picture, b64encode(picture.files["png"]).decode()) for picture in drawn],
        "missing": [picture.missing for picture in pictures if picture.missing],
        "left_out": view.context.left_out,
    }


def _variant(row: Mapping[Any, Any]) -> str:
    return f"MLA {row['form']}" if row["variant"] == "mla" else str(row["label"]).partition(" (")[0]


def _values(rows: "pandas.DataFrame", column: str) -> str:
    return ", ".join(sorted(rows[column].dropna().unique()))


def _memory(memory_bytes: int | None) -> str:
    return f", {format_bytes(memory_bytes)} of memory" if memory_bytes else ""
