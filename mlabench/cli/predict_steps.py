"""What `mlabench predict` does with its options: the points, the rows, and how they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from mlabench.cases.axes import Value, merge_axes, parse_axis
from mlabench.cases.case import VARIANTS
from mlabench.cases.mla import Mla
from mlabench.cli.predict_calibration import tell_calibration, tell_nothing_fits
from mlabench.cli.predict_columns import print_rows
from mlabench.cli.predict_crossovers import show_crossovers, show_latency_crossovers, show_measured_crossovers
from mlabench.cli.predict_notes import (
    print_too_large,
    tell_beyond,
    tell_left_out,
    tell_not_held,
    tell_over_context,
)
from mlabench.cli.project import find_project
from mlabench.cli.show import warn
from mlabench.errors import UsageError
from mlabench.predict.cache_formats import parse_cache_formats
from mlabench.predict.crossovers import find_crossovers
from mlabench.predict.export import FORMATS
from mlabench.predict.hardware import Gpu, choose_gpus, gpu_of_device
from mlabench.predict.presets import NO_MODEL, choose_models
from mlabench.predict.ranks import MOST_RANKS
from mlabench.predict.room import too_large
from mlabench.predict.rows import Point, make_points, predict_rows, split_by_format

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
    verbose: bool = False


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

    @property
    def verbose(self) -> bool:
        """Whether all of what was fitted is told."""
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
    of_run = not (asked.axis_texts or asked.models or asked.models_file or asked.tps or asked.dps)
    asked = replace(asked, **project_choice(asked))
    if crossovers:
        _run_crossovers(asked, kind, plot, of_run=of_run)
        return
    if plot:
        from mlabench.report.predicted import check_plot_path

        check_plot_path(plot)
    points = _points(asked)
    gpus, calibration = gpus_and_calibration(asked)
    rows = list(predict_rows(points, gpus, calibration))
    tell_over_context(points)
    if calibration:
        cases = [point.rank_case for point in points]
        if all(row["latency_us"] is None for row in rows):
            tell_nothing_fits(calibration, cases)
        tell_beyond(calibration, cases)
    if plot:
        from mlabench.report.predicted import plot_rows

        plot_rows(rows, plot)
        typer.echo(f"mlabench: drew {plot}", err=True)
    if kind in FORMATS:
        typer.echo(FORMATS[kind](rows), nl=False)
    else:
        print_rows(rows, kind)
        print_too_large(too_large(points, gpus))


def _run_crossovers(asked: Asked, kind: str, plot: Path | None, *, of_run: bool) -> None:
    """Print the crossovers of the floors; with a run to calibrate by those of latencies, or with `of_run` its own."""
    if plot:
        raise UsageError("--crossovers have no plot: leave --plot away")
    if asked.cache_formats:
        raise UsageError("--crossovers are of caches in the dtype: leave --cache-format away")
    points = () if of_run and asked.calibrate else _points(asked)
    # Of a prefix some of the floors' crossovers say how long it is.
    prefixed = [] if asked.calibrate else [point for point in points if isinstance(point.case.variant, Mla)]
    tell_over_context(prefixed)
    if "kv_len" in _axes(asked) and not prefixed:
        warn("-a kv_len=... is ignored: it is what --crossovers solve for")
    if not asked.calibrate:
        show_crossovers(find_crossovers(points, choose_gpus(asked.gpus, asked.gpus_file)), kind)
        return
    gpus, calibration = gpus_and_calibration(asked)
    assert calibration
    if of_run:
        show_measured_crossovers(calibration, asked.where, kind)
        return
    tell_beyond(calibration, [point.rank_case for point in points], solved=True)
    (gpu,) = (gpu for gpu in gpus if gpu.name == calibration.gpu)
    show_latency_crossovers(points, calibration, gpu, kind)


def _axes(asked: Asked) -> dict[str, tuple[Value, ...]]:
    return merge_axes(parse_axis(text) for text in asked.axis_texts)


def _points(asked: Asked) -> tuple[Point, ...]:
    axes = _axes(asked)
    models = choose_models(asked.models, asked.models_file) or (NO_MODEL,)
    if models == (NO_MODEL,) and not {"variant", "form"} & set(axes):
        axes["variant"] = tuple(VARIANTS)
    tell_left_out(models, axes)
    tps, dps = parse_counts("--tp", asked.tps), parse_counts("--dp", asked.dps)
    formats = parse_cache_formats(asked.cache_formats)
    if points := make_points(models, axes, asked.where, tps, dps, formats):
        return held_points(points)
    raise UsageError(f"--where {asked.where!r} keeps nothing: ask for less")


def held_points(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points whose cache its format can hold, after a warning of the others. Raises `UsageError` without any."""
    if all(point.cache_format is None for point in points):
        return tuple(points)
    held, others = split_by_format(points)
    if not held:
        raise others[0][1]
    tell_not_held([point for point, _ in others])
    return held


def parse_counts(option: str, texts: Sequence[str]) -> tuple[int, ...]:
    """Numbers of GPUs, each once, of lists like `1,2,4,8`; 1 without any. Raises `UsageError` with the option."""
    words = [word.strip() for text in texts for word in text.split(",")] or ["1"]
    for word in words:
        if not (word.isascii() and word.isdigit()) or not 1 <= int(word) <= MOST_RANKS:
            raise UsageError(f"{option} {word!r} is no whole number from 1 to {MOST_RANKS}, or a list like 1,2,4,8")
    return tuple(dict.fromkeys(int(word) for word in words))


def gpus_and_calibration(asked: Chosen) -> "tuple[tuple[Gpu, ...], Calibration | None]":
    """The named GPUs, or that of a run to calibrate by, and what the run tells. Raises `UsageError`."""
    names, file, run_path = asked.gpus, asked.gpus_file, asked.calibrate
    if not run_path:
        return choose_gpus(names, file), None
    from mlabench.predict.calibrate import calibrate
    from mlabench.records.store import load_run

    measured = load_run(run_path)
    for warning in measured.warnings:
        warn(warning)
    own = gpu_of_device(measured.manifest.fingerprint.device_name, file)
    gpus = choose_gpus(names, file) if names else (own,)
    calibration = calibrate(measured, own)
    if own not in gpus:
        raise UsageError(
            f"{run_path} was measured on {own.name}, and says nothing of another GPU: add --gpu {own.name}, or leave "
            "--calibrate away for floors"
        )
    tell_calibration(calibration, verbose=asked.verbose)
    return gpus, calibration
