"""What `mlabench sweep` does with its options: the settings, the plan, the measuring and the summary."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from mlabench.cases.axes import merge_axes, parse_axis
from mlabench.cli.show import print_table, progress
from mlabench.errors import ExitCode, UsageError
from mlabench.machine.detect import choose_device, device_name
from mlabench.measure.config import SweepConfig, load_config
from mlabench.measure.plan import Point, estimate_memory_bytes, estimate_point_s, make_points
from mlabench.measure.sweep import open_sweep, run_sweep
from mlabench.measure.timing.methods import choose_cache, choose_method
from mlabench.records.metrics import latency_us
from mlabench.records.pairs import load_sweep
from mlabench.records.record import Record
from mlabench.records.store import RUNS_FOLDER, is_run, load_run, newest_run
from mlabench.units import format_bytes, format_latency, format_seconds


def run(
    axis_texts: Sequence[str],
    given: Mapping[str, Any],
    *,
    config: Path | None,
    out: Path | None,
    resume: bool,
    dry_run: bool,
) -> None:
    """Measure what was asked for, or show the plan of it; `given` are the settings that were given as options.

    Raises `UsageError`, and `typer.Exit` with the sweep's exit code.
    """
    axes = merge_axes(parse_axis(text) for text in axis_texts)
    resuming = (out or newest_run()) if resume else None
    if resuming and not (axes or config or given):
        asked = _stored_config(resuming)
    else:
        asked = resolve(config, axes, given)
        if resuming:
            _check_same(asked, resuming)
    points = make_points(asked, asked.device)
    if dry_run:
        _print_plan(points, asked)
        return
    path = resuming or out or RUNS_FOLDER / f"{datetime.now():%Y%m%d-%H%M%S}-{asked.device}"
    _measure(path, asked, points, resume=resume)
    _summarise(path)


def resolve(config: Path | None, axes: Mapping[str, Any], given: Mapping[str, Any]) -> SweepConfig:
    """The settings of a file, overridden by those given as options, with `auto` resolved. Raises `UsageError`."""
    base = load_config(config) if config else SweepConfig()
    asked = replace(base, axes={**base.axes, **axes}, **given)
    for name in ("sampling_s", "precision", "timeout_s"):
        if not 0 < getattr(asked, name) < math.inf:
            raise UsageError(f"{name.replace('_', '-')} {getattr(asked, name):g} must be above zero, and finite")
    device = choose_device(asked.device)
    method = choose_method(asked.method, device)
    return asked.resolved(device, method, choose_cache(asked.cache, method, device))


def _stored_config(path: Path) -> SweepConfig:
    run = load_sweep(path)
    for warning in run.warnings:
        typer.echo(f"mlabench: warning: {warning}", err=True)
    stored = SweepConfig.from_json(run.manifest.config)
    choose_device(stored.device)
    return stored


def _check_same(asked: SweepConfig, path: Path) -> None:
    if differences := _stored_config(path).differences(asked):
        raise UsageError(
            f"{path} was begun with another {' and '.join(differences)}: "
            f"`mlabench sweep --resume --out {path}` goes on with its own settings"
        )


def _measure(path: Path, config: SweepConfig, points: Sequence[Point], *, resume: bool) -> None:
    begin = "" if resume else "; first its ceilings"
    typer.echo(f"mlabench: {len(points)} points on the {config.device} device{begin}", err=True)
    try:
        with open_sweep(path, config, points, resume=resume) as opened, progress(opened.total, opened.done) as shown:
            run_sweep(opened, lambda point: shown.start(_title(point)), lambda _, record: shown.finish(_line(record)))
    except KeyboardInterrupt:
        how = f"go on with: mlabench sweep --resume --out {path}" if is_run(path) else "nothing was measured yet"
        typer.echo(f"mlabench: interrupted; {how}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _title(point: Point) -> str:
    return f"{point.case.label} · {point.kernel.name if point.kernel else 'no kernel'}"


def _line(record: Record) -> str:
    outcome = format_latency(latency_us(record)) if record.status == "ok" else f"{record.status}: {record.reason}"
    return f"{record.case.label} · {record.kernel or 'no kernel'}: {outcome}"


def _print_plan(points: Sequence[Point], config: SweepConfig) -> None:
    name = device_name(config.device)
    seconds = [estimate_point_s(point, config, config.device, name) for point in points]
    needs = [estimate_memory_bytes(point) for point in points]
    rows = [
        (
            point.case.case_id,
            point.case.label,
            point.kernel.name if point.kernel else "no kernel",
            format_bytes(need_bytes) if point.kernel else "none",
            _about(need_s, config.timeout_s) if point.kernel else "none",
        )
        for point, need_bytes, need_s in zip(points, needs, seconds, strict=True)
    ]
    print_table(("case", "what", "kernel", "memory, the check's included", "time"), rows)
    most, total = format_bytes(max(needs)), format_seconds(sum(seconds))
    print(f"{len(points)} points on {name}: at most {most} at a time, about {total}")


def _about(need_s: float, timeout_s: float) -> str:
    over = f", over the timeout of {format_seconds(timeout_s)}" if need_s > timeout_s else ""
    return f"about {format_seconds(need_s)}{over}"


def _summarise(path: Path) -> None:
    run = load_run(path)
    counts = Counter(record.status for record in run.records)
    problems = [record for record in run.records if record.status != "ok"]
    if problems:
        rows = [(record.status, record.case.label, record.kernel, record.reason) for record in problems]
        print_table(("status", "case", "kernel", "reason"), rows)
    for warning in run.warnings:
        typer.echo(f"mlabench: warning: {warning}", err=True)
    print(f"{path}: " + ", ".join(f"{count} {status}" for status, count in counts.most_common()))
    print(f"next: mlabench report {path}")
    if counts["incorrect"]:
        raise typer.Exit(ExitCode.INCORRECT)
    if not counts["ok"]:
        raise typer.Exit(ExitCode.NOTHING_MEASURED)
