"""What `mlabench predict` does with its options: the points, the rows, and how they are shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from mlabench.cases.axes import Value, merge_axes, parse_axis
from mlabench.cases.case import VARIANTS
from mlabench.cli.predict_calibration import tell_calibration, tell_nothing_fits
from mlabench.cli.predict_crossovers import show_crossovers, show_measured_crossovers
from mlabench.cli.predict_table import Column, print_columns
from mlabench.cli.project import find_project
from mlabench.errors import UsageError
from mlabench.predict.cache_formats import parse_cache_formats
from mlabench.predict.crossovers import find_crossovers
from mlabench.predict.export import FORMATS
from mlabench.predict.hardware import Gpu, choose_gpus, gpu_of_device
from mlabench.predict.presets import NO_MODEL, Model, choose_models
from mlabench.predict.ranks import MOST_RANKS
from mlabench.predict.rows import SPEEDUPS, Point, Row, lacks_gqa, make_points, predict_rows
from mlabench.units import (
    NOT_MEASURED,
    format_bytes,
    format_exact_bytes,
    format_latency,
    format_number,
    format_ratio,
    format_tokens,
)

if TYPE_CHECKING:
    from mlabench.predict.calibrate import Calibration


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that say what is predicted, as they were given."""

    axis_texts: tuple[str, ...]
    models: tuple[str, ...]
    gpus: tuple[str, ...]
    tps: tuple[str, ...]
    dps: tuple[str, ...]
    where: str
    models_file: Path | None
    gpus_file: Path | None
    calibrate: Path | None
    cache_formats: tuple[str, ...] = ()


class Chosen(Protocol):
    """The models and GPUs that were asked for, by name and by file."""

    @property
    def models(self) -> tuple[str, ...]:
        """Presets, or paths."""
        ...

    @property
    def gpus(self) -> tuple[str, ...]:
        """Names of data sheets."""
        ...

    @property
    def models_file(self) -> Path | None:
        """Models of the user's own."""
        ...

    @property
    def gpus_file(self) -> Path | None:
        """GPUs of the user's own."""
        ...

    @property
    def calibrate(self) -> Path | None:
        """A run, whose GPU is meant where none is named."""
        ...


def project_choice(asked: Chosen) -> dict[str, Any]:
    """The project's models and GPUs where none were asked for, by the names of the fields."""
    own = find_project().values
    models = () if asked.models_file else own.get("model", ())
    gpus = () if asked.gpus_file or asked.calibrate else own.get("gpu", ())
    return {
        "models": asked.models or models,
        "gpus": asked.gpus or gpus,
        "models_file": asked.models_file or own.get("models"),
        "gpus_file": asked.gpus_file or own.get("gpus"),
    }


def run(asked: Asked, kind: str, *, crossovers: bool, plot: Path | None) -> None:
    """Print the rows, or the crossovers, and draw the plot. Raises `UsageError`."""
    asked = replace(asked, **project_choice(asked))
    if crossovers:
        _run_crossovers(asked, kind, plot)
        return
    if plot:
        from mlabench.report.predicted import check_plot_path

        check_plot_path(plot)
    points = _points(asked)
    gpus, calibration = gpus_and_calibration(asked.gpus, asked.gpus_file, asked.calibrate)
    rows = list(predict_rows(points, gpus, calibration))
    if calibration and all(row["latency_us"] is None for row in rows):
        tell_nothing_fits(calibration, [point.rank_case for point in points])
    if plot:
        from mlabench.report.predicted import plot_rows

        plot_rows(rows, plot)
        typer.echo(f"mlabench: drew {plot}", err=True)
    if kind == "table":
        _print_rows(rows)
    else:
        typer.echo(FORMATS[kind](rows), nl=False)


def _run_crossovers(asked: Asked, kind: str, plot: Path | None) -> None:
    """Print the crossovers of the floors, or with a run to calibrate by those that it measured."""
    if plot:
        raise UsageError("--crossovers have no plot: leave --plot away")
    if asked.cache_formats:
        raise UsageError("--crossovers are of caches in the dtype: leave --cache-format away")
    if not asked.calibrate:
        show_crossovers(find_crossovers(_points(asked), choose_gpus(asked.gpus, asked.gpus_file)), kind)
        return
    if asked.axis_texts or asked.models or asked.models_file or asked.tps or asked.dps:
        raise UsageError(
            "--crossovers with --calibrate are of the cases that the run measured: choose among them with --where"
        )
    _, calibration = gpus_and_calibration(asked.gpus, asked.gpus_file, asked.calibrate)
    if calibration:
        show_measured_crossovers(calibration, asked.where, kind)


def _points(asked: Asked) -> tuple[Point, ...]:
    axes: dict[str, tuple[Value, ...]] = merge_axes(parse_axis(text) for text in asked.axis_texts)
    models = choose_models(asked.models, asked.models_file) or (NO_MODEL,)
    if models == (NO_MODEL,) and not {"variant", "form"} & set(axes):
        axes["variant"] = tuple(VARIANTS)
    tell_left_out(models, axes)
    tps, dps = parse_counts("--tp", asked.tps), parse_counts("--dp", asked.dps)
    formats = parse_cache_formats(asked.cache_formats)
    if points := make_points(models, axes, asked.where, tps, dps, formats):
        return points
    raise UsageError(f"--where {asked.where!r} keeps nothing: ask for less")


def tell_left_out(models: Sequence[Model], axes: Mapping[str, Sequence[Value]]) -> None:
    """Name the models that have no GQA among the variants asked for."""
    if names := [str(model.name) for model in models if lacks_gqa(model, axes)]:
        hint = "8 KV heads do not split its heads evenly, give -a num_kv_heads"
        typer.echo(f"mlabench: warning: no gqa of {', '.join(names)}: {hint}", err=True)


def parse_counts(option: str, texts: Sequence[str]) -> tuple[int, ...]:
    """Numbers of GPUs, each once, of lists like `1,2,4,8`; 1 without any. Raises `UsageError` with the option."""
    words = [word.strip() for text in texts for word in text.split(",")] or ["1"]
    for word in words:
        if not (word.isascii() and word.isdigit()) or not 1 <= int(word) <= MOST_RANKS:
            raise UsageError(f"{option} {word!r} is no whole number from 1 to {MOST_RANKS}, or a list like 1,2,4,8")
    return tuple(dict.fromkeys(int(word) for word in words))


def gpus_and_calibration(
    names: Sequence[str], file: Path | None, run_path: Path | None
) -> "tuple[tuple[Gpu, ...], Calibration | None]":
    """The named GPUs, or that of a run to calibrate by, and what the run tells. Raises `UsageError`."""
    if not run_path:
        return choose_gpus(names, file), None
    from mlabench.predict.calibrate import calibrate
    from mlabench.records.store import load_run

    measured = load_run(run_path)
    for warning in measured.warnings:
        typer.echo(f"mlabench: warning: {warning}", err=True)
    own = gpu_of_device(measured.manifest.fingerprint.device_name, file)
    gpus = choose_gpus(names, file) if names else (own,)
    calibration = calibrate(measured, own)
    if own not in gpus:
        raise UsageError(f"{run_path} was measured on {own.name}: add --gpu {own.name}")
    tell_calibration(calibration)
    return gpus, calibration


_VARIED: Mapping[str, tuple[Any, Callable[[Any], str]]] = {
    "phase": ("decode", str),
    "scope": ("core", str),
    "batch": (None, str),
    "q_len": (1, format_tokens),
    "kv_len": (None, format_tokens),
    "kv_len_dist": ("uniform", str),
    "page_size": (64, str),
    "dtype": ("bfloat16", str),
    "tp": (1, str),
    "dp": (1, str),
}
"""Columns of a table that are left out where every row has the usual value, and how each is written."""


def _print_rows(rows: Sequence[Row]) -> None:
    columns = _columns(rows)
    print_columns(columns, rows)
    if "latency_us" in rows[0]:
        print("Of one layer and rank, in a burst: lasting load takes the clock down where arithmetic binds.")
        return
    print("Of one layer and rank; vs: how many times longer the floor of that variant is, at its size.")
    print("A floor is no time: short calls take ten microseconds and more. --calibrate RUN adds latencies.")


def _columns(rows: Sequence[Row]) -> list[Column]:
    """The columns of a table that the rows make worth showing: name, and a row's text."""
    calibrated = "latency_us" in rows[0]
    of_models = any(row["model"] for row in rows)
    varied = [name for name, (usual, _) in _VARIED.items() if any(row[name] != usual for row in rows)]
    formats: Column = ("cache", lambda row: row["cache_format"])
    in_formats = any(row["cache_format"] != row["dtype"] for row in rows)
    speedups = [name for name, column in SPEEDUPS.items() if any(row[column] is not None for row in rows)]
    cached: Column = ("cache/token, all layers", lambda row: format_bytes(row["kv_cache_bytes_per_token"], digits=6))
    return [
        *([("model", lambda row: row["model"] or NOT_MEASURED)] if of_models else []),
        ("gpu", lambda row: row["gpu"]),
        ("what", what),
        ("heads", lambda row: str(row["num_q_heads"])),
        *((name, _text_of(name, _VARIED[name][1])) for name in varied),
        *([formats] if in_formats else []),
        ("cache/token/layer", lambda row: format_exact_bytes(row["kv_cache_bytes_per_token_per_layer"])),
        *([cached] if of_models else []),
        ("moved", lambda row: format_bytes(row["bytes_moved"])),
        ("FLOP", lambda row: format_number(row["flops"])),
        ("FLOP/B", lambda row: format_number(row["arithmetic_intensity_flops_per_byte"])),
        ("floor", _text_of("floor_us", format_latency)),
        ("bound", lambda row: row["bound"] or NOT_MEASURED),
        *(_CALIBRATED if calibrated else [(f"vs {name}", _text_of(SPEEDUPS[name], format_ratio)) for name in speedups]),
    ]


def _text_of(name: str, text: Callable[[Any], str]) -> Callable[[Row], str]:
    return lambda row: text(row[name])


def what(row: Row) -> str:
    """A row's attention: `gqa-8`, `mla absorbed`."""
    if row["variant"] == "gqa":
        return f"gqa-{row['num_kv_heads']}"
    return f"{row['variant']} {row['form']}" if row["form"] else str(row["variant"])


def _interval(row: Row) -> str:
    if row["latency_us"] is None:
        return NOT_MEASURED
    return f"{format_latency(row['latency_us_low'])} to {format_latency(row['latency_us_high'])}"


_CALIBRATED: tuple[Column, ...] = (("latency", _text_of("latency_us", format_latency)), ("90% interval", _interval))
