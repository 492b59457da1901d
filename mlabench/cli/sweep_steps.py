"""What `mlabench sweep` does with its options: the settings, the plan, the measuring and the summary."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from mlabench.cases.axes import merge_axes, parse_axis
from mlabench.cases.case import Case
from mlabench.cases.grid import DEFAULT_SHAPE
from mlabench.cases.models import load_presets, preset_shape
from mlabench.cli.contexts import warn_over_context
from mlabench.cli.device_state import device_warnings
from mlabench.cli.project import Project, find_project
from mlabench.cli.show import print_table, progress, warn
from mlabench.errors import ExitCode, UsageError
from mlabench.machine.detect import choose_device, device_name
from mlabench.measure.config import SweepConfig, load_config
from mlabench.measure.kernels import broken_entry_points, check_selection
from mlabench.measure.plan import Point, estimate_memory_bytes, estimate_point_s, make_points
from mlabench.measure.sweep import open_sweep, run_sweep
from mlabench.measure.timing.methods import choose_cache, choose_method
from mlabench.records.metrics import latency_us
from mlabench.records.pairs import load_sweep
from mlabench.records.record import Record
from mlabench.records.store import is_run, load_run, newest_run, refuse_used
from mlabench.stats import median_interval
from mlabench.units import format_bytes, format_error, format_latency, format_seconds
from mlabench.verdict.comparison import format_points


@dataclass(frozen=True, slots=True)
class Talk:
    """How much is told while a sweep runs: nothing, a line for each point, or all about each point."""

    quiet: bool = False
    verbose: bool = False


def run(
    axis_texts: Sequence[str],
    given: Mapping[str, Any],
    *,
    config: Path | None,
    out: Path | None,
    resume: bool,
    dry_run: bool,
    talk: Talk = Talk(),
) -> None:
    """Measure what was asked for, or show the plan of it; `given` are the settings that were given as options.

    Raises `UsageError`, and `typer.Exit` with the sweep's exit code.
    """
    if talk.quiet and talk.verbose:
        raise UsageError("--quiet and --verbose contradict each other: take one")
    if out and not (resume or dry_run):
        refuse_used(out)
    axes = merge_axes(parse_axis(text) for text in axis_texts)
    runs_folder = find_project().runs_folder
    resuming = (out or newest_run(runs_folder)) if resume else None
    if resuming and not (axes or config or given):
        asked = _stored_config(resuming)
    else:
        asked = resolve(config, axes, given)
        if resuming:
            _check_same(asked, resuming)
    points = make_points(asked, asked.device)
    warn_over_context(
        (name, load_presets()[name].get("max_context"), point.case.kv_len)
        for point in points
        for name in point.case.models
    )
    if not asked.kernel:
        for reason in broken_entry_points().values():
            warn(f"{reason}; its kernel is left out")
    if dry_run:
        _print_plan(points, asked)
        return
    path = resuming or out or runs_folder / f"{datetime.now():%Y%m%d-%H%M%S}-{asked.device}"
    _measure(path, asked, points, resume=resume, talk=talk)
    _summarise(path)


def resolve(config: Path | None, axes: Mapping[str, Any], given: Mapping[str, Any]) -> SweepConfig:
    """The settings of a file, overridden by those given as options, with `auto` resolved. Raises `UsageError`.

    Without a file they are the project's: a file alone says what is measured, wherever it is.
    """
    if config:
        return _resolve(load_config(config), axes, given)
    project = find_project()
    _check_names(project)
    try:
        return _resolve(replace(SweepConfig(), **project.sweep_settings()), axes, given)
    except UsageError as error:
        raise UsageError(f"{error}{project.told(given)}") from None


def _resolve(base: SweepConfig, axes: Mapping[str, Any], given: Mapping[str, Any]) -> SweepConfig:
    asked = replace(base, axes={**base.axes, **axes}, **given)
    for name in ("sampling_s", "precision", "timeout_s"):
        if not 0 < getattr(asked, name) < math.inf:
            raise UsageError(f"{name.replace('_', '-')} {getattr(asked, name):g} must be above zero, and finite")
    device = choose_device(asked.device)
    method = choose_method(asked.method, device)
    return asked.resolved(device, method, choose_cache(asked.cache, method, device))


def _check_names(project: Project) -> None:
    for name, check in (("kernel", check_selection), ("model", _check_models)):
        if name not in project.values:
            continue
        try:
            check(project.values[name])
        except UsageError as error:
            raise UsageError(f"{project.place(name)}: {error}") from None


def _check_models(names: Sequence[str]) -> None:
    for name in names:
        preset_shape(name)


def _stored_config(path: Path) -> SweepConfig:
    run = load_sweep(path)
    for warning in run.warnings:
        warn(warning)
    stored = SweepConfig.from_json(run.manifest.config)
    choose_device(stored.device)
    return stored


def _check_same(asked: SweepConfig, path: Path) -> None:
    if differences := _stored_config(path).differences(asked):
        raise UsageError(
            f"{path} was begun with another {' and '.join(differences)}: "
            f"`mlabench sweep --resume --out {path}` goes on with its own settings"
        )


def _measure(path: Path, config: SweepConfig, points: Sequence[Point], *, resume: bool, talk: Talk) -> None:
    begin = "" if resume else "; first its ceilings"
    if not talk.quiet:
        typer.echo(f"mlabench: {format_points(len(points))} on the {config.device} device{begin}", err=True)
    for warning in device_warnings(config.device):
        warn(warning)
    tell = _whole_line if talk.verbose else _line
    try:
        with (
            open_sweep(path, config, points, resume=resume) as opened,
            progress(opened.total, opened.done, quiet=talk.quiet) as shown,
        ):
            run_sweep(opened, lambda point: shown.start(_title(point)), lambda _, record: shown.finish(tell(record)))
    except KeyboardInterrupt:
        how = f"go on with: mlabench sweep --resume --out {path}" if is_run(path) else "nothing was measured yet"
        typer.echo(f"mlabench: interrupted; {how}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _title(point: Point) -> str:
    return f"{_name(point.case)} · {point.kernel.name if point.kernel else 'no kernel'}"


def _name(case: Case) -> str:
    """The case's label, and its page size where that is not everyone's."""
    usual = case.page_size == DEFAULT_SHAPE["page_size"]
    return case.label if usual else f"{case.label} page_size {case.page_size}"


def _line(record: Record) -> str:
    outcome = format_latency(latency_us(record)) if record.status == "ok" else f"{record.status}: {record.reason}"
    return f"{_name(record.case)} · {record.kernel or 'no kernel'}: {outcome}"


def _whole_line(record: Record) -> str:
    """All about a point: the interval and what ended the sampling, the error, and where the wall time went."""
    told = [_line(record)]
    if record.timing:
        _, low, high = median_interval(record.timing.samples_us)
        told.append(f"95% from {format_latency(low)} to {format_latency(high)}")
        told.append(f"{len(record.timing.samples_us)} samples, ended by {record.timing.stop}")
    if record.relative_error is not None:
        told.append(f"error {format_error(record.relative_error)}")
    told += [f"{name} {format_latency(1e6 * seconds)}" for name, seconds in record.phases_s.items()]
    return ", ".join(told)


def _print_plan(points: Sequence[Point], config: SweepConfig) -> None:
    name = device_name(config.device)
    seconds = [estimate_point_s(point, config, config.device, name) for point in points]
    needs = [estimate_memory_bytes(point) for point in points]
    rows = [
        (
            point.case.case_id,
            _name(point.case),
            point.kernel.name if point.kernel else "no kernel",
            format_bytes(need_bytes) if point.kernel else "none",
            _about(need_s, config.timeout_s) if point.kernel else "none",
        )
        for point, need_bytes, need_s in zip(points, needs, seconds, strict=True)
    ]
    print_table(("case", "what", "kernel", "memory, the check's included", "time"), rows)
    most, total = format_bytes(max(needs)), format_seconds(sum(seconds))
    print(f"{format_points(len(points))} on {name}: at most {most} at a time, about {total}")


def _about(need_s: float, timeout_s: float) -> str:
    over = f", over the timeout of {format_seconds(timeout_s)}" if need_s > timeout_s else ""
    return f"about {format_seconds(need_s)}{over}"


def _summarise(path: Path) -> None:
    run = load_run(path)
    counts = Counter(record.status for record in run.records)
    problems = [record for record in run.records if record.status != "ok"]
    if problems:
        rows = [(record.status, _name(record.case), record.kernel, record.reason) for record in problems]
        print_table(("status", "case", "kernel", "reason"), rows)
    for warning in run.warnings:
        warn(warning)
    print(f"{path}: " + ", ".join(f"{count} {status}" for status, count in counts.most_common()))
    print(f"next: mlabench report {path}")
    if counts["incorrect"]:
        raise typer.Exit(ExitCode.INCORRECT)
    if not counts["ok"]:
        raise typer.Exit(ExitCode.NOTHING_MEASURED)
