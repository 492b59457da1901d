"""The report as one HTML page without any outside resource."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mlabench.records.manifest import Manifest
from mlabench.records.store import Run
from mlabench.report.cells import MOST_ROWS, columns, table_rows, unmeasured
from mlabench.report.claimed import claim_table
from mlabench.report.findings import findings
from mlabench.report.parts import layer_rows
from mlabench.report.render import Picture
from mlabench.report.series import View
from mlabench.report.warnings import warnings
from mlabench.units import (
    NOT_MEASURED,
    format_bandwidth,
    format_bytes,
    format_flop_rate,
    format_power,
)

if TYPE_CHECKING:
    import pandas


def render_page(
    runs: Sequence[Run],
    table: "pandas.DataFrame",
    sections: Sequence[tuple[View, Sequence[Picture]]],
    notes: Sequence[str],
    title: str,
) -> str:
    """The page's text. `table` holds all records, `sections` the drawn views, `notes` what was left out of them."""
    import jinja2

    package = files("mlabench.report") / "templates"
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((package / "report.html.j2").read_text(encoding="utf-8"))
    shown = columns(len(runs) > 1)
    return template.render(
        title=title,
        style=(package / "report.css").read_text(encoding="utf-8"),
        script=(package / "report.js").read_text(encoding="utf-8"),
        summary=_summary(runs, table),
        sections=_sections(sections),
        warnings=(*warnings(runs, table), *notes),
        unmeasured=unmeasured(table),
        layers=layer_rows(table),
        claims=claim_table(runs),
        columns=shown,
        rows=table_rows(table, shown),
        hidden_rows=max(0, len(table) - MOST_ROWS),
        cards=[(run.name, card(run, table)) for run in runs],
    )


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


def _sections(drawn: Sequence[tuple[View, Sequence[Picture]]]) -> list[dict[str, Any]]:
    """A section for each view; a sentence that holds for several stands in the first."""
    told: set[str] = set()
    sections = []
    for view, pictures in drawn:
        section = _section(view, pictures)
        section["findings"] = [sentence for sentence in section["findings"] if sentence not in told]
        told.update(section["findings"])
        sections.append(section)
    return sections


def _section(view: View, pictures: Sequence[Picture]) -> dict[str, Any]:
    drawn = [picture for picture in pictures if picture.files]
    return {
        "title": view.title,
        "findings": findings(view),
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
