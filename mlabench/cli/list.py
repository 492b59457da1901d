"""`mlabench list`: what a sweep can be asked for, and the runs that there are."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mlabench.cli import options
from mlabench.cli.show import print_table, warn
from mlabench.errors import UsageError, near_names
from mlabench.units import (
    NOT_MEASURED,
    format_bandwidth,
    format_bytes,
    format_exact,
    format_exact_bytes,
    format_flop_rate,
    format_number,
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of things: its rows as plain values, which are its JSON, and the table's columns made of them."""

    rows: Callable[[], Sequence[Row]]
    columns: Mapping[str, Callable[[Row], str]]


def list_things(
    what: Annotated[
        str,
        typer.Argument(
            metavar="axes|kernels|models|gpus|metrics|runs",
            help="Which names to list.",
            show_default=False,
            autocompletion=lambda: list(LISTINGS),
        ),
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="Of runs: where they lie, at any depth.", show_default="results/runs")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the axes, kernels, models, GPUs or metrics by name, or the runs in a folder, the newest first.

    Exit codes: 0 done, 2 bad input.

    Example: mlabench list models
    """
    if what not in LISTINGS:
        raise UsageError(f"there is no list of {what!r}: {near_names(what, LISTINGS)}")
    if folder is not None and what != "runs":
        raise UsageError(
            f"a folder goes with `mlabench list runs`, not with `mlabench list {what}`: leave {folder} away"
        )
    listing = LISTINGS[what]
    rows = _runs(folder) if what == "runs" else listing.rows()
    if as_json:
        print(json.dumps(rows, indent=1, allow_nan=False))
        return
    print_table(list(listing.columns), [[text(row) for text in listing.columns.values()] for row in rows])


def _axes() -> list[Row]:
    from mlabench.cases.axes import INTEGER_AXES
    from mlabench.cases.case import ALLOWED
    from mlabench.cases.grid import DEFAULT_SHAPE

    names: dict[str, Sequence[str] | None] = {**ALLOWED, **dict.fromkeys(INTEGER_AXES)}
    return [
        {"axis": name, "values": list(values) if values else None, "default": DEFAULT_SHAPE.get(name)}
        for name, values in names.items()
    ]


def _default_of_axis(row: Row) -> str:
    if row["default"] is None:
        return "the model's, for scope=layer"
    return f"{row['default']}, in prefill kv_len" if row["axis"] == "q_len" else str(row["default"])


def _kernels() -> list[Row]:
    from mlabench.measure.kernels import PEERS, all_kernels, broken_entry_points, is_own

    kernels: list[Row] = [
        {
            "kernel": kernel.name,
            "backend": kernel.backend,
            "contract": kernel.contract,
            "devices": list(kernel.devices),
            "by_default": kernel.by_default and not kernel.peer,
            "unused_slots": "finite" if kernel.reads_unused_slots else "NaN",
            "missing": kernel.missing() or ("" if is_own(kernel) or kernel in PEERS else kernel.unresolved()),
        }
        for kernel in all_kernels()
    ]
    unknown = dict.fromkeys(("backend", "contract", "devices", "by_default", "unused_slots"))
    return kernels + [{"kernel": name, **unknown, "missing": why} for name, why in broken_entry_points().items()]


def _models() -> list[Row]:
    from mlabench.cases.grid import make_cases
    from mlabench.cases.models import load_presets, num_attention_layers

    def row(name: str, preset: Mapping[str, Any]) -> Row:
        per_layer, layers = make_cases({}, [name])[0].kv_cache_bytes_per_token, num_attention_layers(name)
        return {
            "model": name,
            "variant": preset["variant"],
            "num_q_heads": preset["num_q_heads"],
            "num_attention_layers": layers,
            "kv_cache_bytes_per_token_per_layer": per_layer,
            "kv_cache_bytes_per_token_full_attention": per_layer * layers,
        }

    return [row(name, preset) for name, preset in load_presets().items()]


def _gpus() -> list[Row]:
    from mlabench.machine.datasheet import load_gpus

    return [
        {
            "gpu": name,
            "memory_bytes_per_s": gpu["memory_bytes_per_s"],
            "bfloat16_flops_per_s": gpu["bfloat16_flops_per_s"],
            "ridge_flops_per_byte": gpu["bfloat16_flops_per_s"] / gpu["memory_bytes_per_s"],
            "memory_bytes": gpu["memory_bytes"],
            "source": gpu["source"],
        }
        for name, gpu in load_gpus().items()
    ]


def _metrics() -> list[Row]:
    from mlabench.records.metrics import METRICS

    return [{"metric": metric.name, "meaning": metric.meaning} for metric in METRICS]


def _runs(folder: Path | None = None) -> list[Row]:
    from mlabench.cli.project import find_project
    from mlabench.records.listing import list_runs

    where = folder or find_project().runs_folder
    runs, complaints = list_runs(where)
    for complaint in complaints:
        warn(complaint)
    if not runs:
        raise UsageError(f"there is no run in {where}: name another folder, or make one with `mlabench sweep`")
    return [run.to_json() for run in runs]


def _commit(row: Row) -> str:
    """The commit's start, marked where the sources were changed since: `1a2b3c4+`."""
    return f"{row['commit'][:7]}{'+' if row['dirty'] else ''}" if row["commit"] else NOT_MEASURED


def _columns(*names: str) -> Iterator[tuple[str, Callable[[Row], str]]]:
    """Columns that show a value as it is, under its own name."""
    for name in names:
        yield name, lambda row, name=name: str(NOT_MEASURED if row[name] is None else row[name])  # type: ignore[misc]


LISTINGS: Mapping[str, Listing] = {
    "axes": Listing(
        _axes,
        {
            **dict(_columns("axis")),
            "values": lambda row: "|".join(row["values"]) if row["values"] else "whole number",
            "default": _default_of_axis,
        },
    ),
    "kernels": Listing(
        _kernels,
        {
            **dict(_columns("kernel", "backend")),
            "takes": lambda row: row["contract"] or NOT_MEASURED,
            "devices": lambda row: ", ".join(row["devices"] or (NOT_MEASURED,)),
            "unused slots": lambda row: row["unused_slots"] or NOT_MEASURED,
            "available": lambda row: row["missing"] or "yes",
        },
    ),
    "models": Listing(
        _models,
        {
            **dict(_columns("model", "variant")),
            "query heads": lambda row: str(row["num_q_heads"]),
            "layers": lambda row: str(row["num_attention_layers"]),
            "cache/token/layer": lambda row: format_exact_bytes(row["kv_cache_bytes_per_token_per_layer"]),
            "cache/token, full attention": lambda row: format_bytes(
                row["kv_cache_bytes_per_token_full_attention"], digits=4
            ),
        },
    ),
    "gpus": Listing(
        _gpus,
        {
            **dict(_columns("gpu")),
            "memory traffic": lambda row: format_bandwidth(row["memory_bytes_per_s"]),
            "dense bfloat16": lambda row: format_flop_rate(row["bfloat16_flops_per_s"]),
            "ridge": lambda row: f"{format_number(row['ridge_flops_per_byte'])} FLOP/B",
            "memory": lambda row: format_bytes(row["memory_bytes"]),
            **dict(_columns("source")),
        },
    ),
    "metrics": Listing(_metrics, dict(_columns("metric", "meaning"))),
    "runs": Listing(
        _runs,
        {
            "begun (UTC)": lambda row: str(row["created_at"])[:16].replace("T", " "),
            "device": lambda row: str(row["device_name"]),
            "timed": lambda row: ", ".join(word for word in (row["method"], row["cache"]) if word),
            "points": lambda row: format_exact(row["points"]) + (" in turns" if row["made_by"] == "ab" else ""),
            "commit": _commit,
            "run": lambda row: str(row["path"]),
        },
    ),
}
"""Every list, by the name that asks for it."""
