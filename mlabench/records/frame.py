"""Runs as a table: one row a record, the case's fields, the record's own values and every metric as columns.

`parts` is JSON text: what a layer's record holds of each part, in the order in which they run.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlabench.cases.axes import INTEGER_AXES
from mlabench.records.metrics import METRICS
from mlabench.records.record import Record
from mlabench.records.store import Run

if TYPE_CHECKING:
    import pandas

CASE_COLUMNS = ("variant", "form", "phase", "scope", *INTEGER_AXES, "kv_len_dist", "dtype")
RECORD_COLUMNS = ("kernel", "backend", "status", "reason", "method")
CHECK_COLUMNS = ("relative_error", "lse_error", "workspace_bytes", "seed", "started_at", "wall_s")
COLUMNS = (
    *("run", "case_id", "label", "models"),
    *CASE_COLUMNS,
    *RECORD_COLUMNS,
    *(metric.name for metric in METRICS),
    *CHECK_COLUMNS,
    *("bind_s", "measure_s", "commit", "device_name", "parts"),
)
NULLABLE_INTEGERS = (*INTEGER_AXES, "samples", "workspace_bytes", "gpu_processes")
NULLABLE_FLOATS = (
    *("latency_us", "latency_us_low", "latency_us_high", "parts_latency_us", "core_latency_us"),
    *("bandwidth_bytes_per_s", "flops_per_s"),
    *("floor_us", "fraction_of_floor", "sm_clock_mhz", "sm_clock_change", "cycles", "power_w", "energy_j_per_call"),
    *("energy_j_per_token", "temperature_c", "others_share", "relative_error", "lse_error"),
    *("bind_s", "wall_s", "measure_s"),
)
DTYPES: dict[str, Any] = {
    **dict.fromkeys(NULLABLE_INTEGERS, "Int64"),
    **dict.fromkeys(NULLABLE_FLOATS, "float64"),
    "throttled": "boolean",
}
"""Columns that may lack values keep their type, even where a run lacks them all."""


def rows(run: Run) -> list[dict[str, Any]]:
    """One flat dictionary a record; what was not measured is None."""
    return [_row(record, run) for record in run.records]


def frame(runs: Sequence[Run]) -> "pandas.DataFrame":
    """All records of the runs as one table."""
    import pandas

    table = pandas.DataFrame([row for run in runs for row in rows(run)], columns=list(COLUMNS))
    return table.astype(DTYPES)


def joined(tables: "Sequence[pandas.DataFrame]") -> "pandas.DataFrame":
    """Such tables as one."""
    import pandas

    return pandas.concat(tables, ignore_index=True)


def _row(record: Record, run: Run) -> dict[str, Any]:
    case, fields = record.case, record.case.to_fields()
    return {
        "run": run.name,
        "case_id": case.case_id,
        "label": case.variant.label,
        "models": ", ".join(case.models),
        **{name: fields.get(name) for name in CASE_COLUMNS},
        **{name: getattr(record, name) for name in RECORD_COLUMNS},
        **{metric.name: metric.compute(record, run.manifest) for metric in METRICS},
        **{name: getattr(record, name) for name in CHECK_COLUMNS},
        "bind_s": record.phases_s.get("bind"),
        "measure_s": record.phases_s.get("measure"),
        "commit": run.manifest.provenance.get("commit"),
        "device_name": run.manifest.fingerprint.device_name,
        "parts": json.dumps([asdict(part) for part in record.parts]) if record.parts else None,
    }
