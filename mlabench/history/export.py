"""A history as plain values for its JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlabench.history.series import Gathered, Reading
from mlabench.history.steps import Step, Trend, changed_terms

SCHEMA_VERSION = 1
"""Of the values that `to_json` gives; raised when one changes its meaning or goes."""


def to_json(folder: Path, gathered: Gathered, trends: Sequence[Trend]) -> dict[str, Any]:
    """Every series with its readings and steps, the largest step first. Times are in microseconds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "folder": folder.as_posix(),
        "runs": gathered.runs,
        "points_of_one_run": gathered.single,
        "warnings": list(gathered.warnings),
        "series": [_series(trend) for trend in trends],
    }


def _series(trend: Trend) -> dict[str, Any]:
    series = trend.series
    return {
        **asdict(series.setting),
        "case_id": series.case.case_id,
        "case": series.case.to_fields(),
        "label": series.case.label,
        "kernel": series.kernel,
        "change": trend.change,
        "readings": [_reading(reading) for reading in series.readings],
        "steps": [_step(trend, step) for step in trend.steps],
    }


def _reading(reading: Reading) -> dict[str, Any]:
    return {
        "run": reading.run,
        "created_at": reading.at.isoformat(timespec="milliseconds"),
        "latency_us": reading.latency_us,
        "latency_us_low": reading.low_us,
        "latency_us_high": reading.high_us,
        **reading.terms,
        "warnings": list(reading.disturbances),
    }


def _step(trend: Trend, step: Step) -> dict[str, Any]:
    return {
        "run": trend.series.readings[step.index].run,
        "index": step.index,
        "before_us": step.before_us,
        "after_us": step.after_us,
        "ratio": step.ratio,
        "ratio_low": step.low,
        "ratio_high": step.high,
        "p": step.p,
        "min_effect": step.min_effect,
        "changed": {name: list(pair) for name, pair in changed_terms(trend, step).items()},
    }
