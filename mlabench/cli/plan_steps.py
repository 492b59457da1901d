"""What `mlabench plan` does with its options: the setups, the rows, and how they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import typer

from mlabench.cases.axes import Value, merge_axes, parse_axis
from mlabench.cases.case import Case
from mlabench.cli.predict_columns import what
from mlabench.cli.predict_notes import print_too_large, tell_beyond, tell_left_out, tell_over_context
from mlabench.cli.predict_steps import gpus_and_calibration, held_points, parse_counts, project_choice
from mlabench.cli.predict_table import Column, print_columns
from mlabench.errors import UsageError
from mlabench.predict.cache_formats import parse_cache_formats
from mlabench.predict.capacity import DEFAULT_RESERVE, Setup, attended_cases, check_some_fit, plan_row
from mlabench.predict.export import FORMATS
from mlabench.predict.hardware import Gpu
from mlabench.predict.presets import choose_models
from mlabench.predict.room import too_large_of
from mlabench.predict.rows import Row, make_points
from mlabench.predict.weights import weights_of
from mlabench.units import (
    NOT_MEASURED,
    format_bytes,
    format_exact,
    format_latency,
    format_number,
    format_tokens,
    format_usd,
)

NO_AXES = ("phase", "scope", "q_len", "kv_len_dist", "page_size")
"""What a plan does not vary: every request of a step has `kv_len` tokens and gains one."""

MOST = 1e12
"""Over any price and any number of gigabytes, so that no product of them is too large for a float."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options, as they were given."""

    models: tuple[str, ...]
    gpus_counts: tuple[str, ...]
    gpus: tuple[str, ...]
    tps: tuple[str, ...]
    dps: tuple[str, ...]
    axis_texts: tuple[str, ...]
    cache_formats: tuple[str, ...]
    weights_gb: float | None
    weights_dtype: str | None
    reserve: float | None
    price: float | None
    models_file: Path | None
    gpus_file: Path | None
    calibrate: Path | None
    verbose: bool = False


def run(asked: Asked, kind: str) -> None:
    """Print the rows. Raises `UsageError`."""
    asked = replace(asked, **project_choice(asked))
    _check(asked)
    gpus, calibration = gpus_and_calibration(asked)
    setups = _setups(asked, gpus)
    check_some_fit(setups)
    rows = [plan_row(setup, calibration) for setup in setups]
    tell_over_context([setup.point for setup in setups])
    if calibration:
        tell_beyond(calibration, _calibrated_cases(setups, rows))
    if kind in FORMATS:
        typer.echo(FORMATS[kind](rows), nl=False)
    else:
        _print_rows(rows, kind)
        mend = "More GPUs, or fewer bytes with --weights-dtype, make room."
        print_too_large(too_large_of(setups), setups[0].reserve, mend)


def _check(asked: Asked) -> None:
    if asked.reserve is not None and not 0 <= asked.reserve < 1:
        raise UsageError(f"--reserve {asked.reserve} is no share of the memory: from 0 up to, not including, 1")
    for option, value in (("--weights-gb", asked.weights_gb), ("--price", asked.price)):
        if value is not None and not 0 < value <= MOST:
            raise UsageError(f"{option} {value} is no number above zero, of at most {MOST:g}")
    if asked.weights_gb is not None and asked.weights_dtype is not None:
        raise UsageError("--weights-gb and --weights-dtype both say how many bytes the weights are: take one")


def _setups(asked: Asked, gpus: Sequence[Gpu]) -> list[Setup]:
    axes: dict[str, tuple[Value, ...]] = merge_axes(parse_axis(text) for text in asked.axis_texts)
    for name in NO_AXES:
        if name in axes:
            raise UsageError(f"-a {name}=... is nothing that a plan varies: leave it away, or use mlabench predict")
    models = choose_models(asked.models, asked.models_file)
    if not models:
        raise UsageError("a plan is of a model: add --model deepseek-v3")
    tell_left_out(models, axes)
    reserve = DEFAULT_RESERVE if asked.reserve is None else asked.reserve
    formats, layouts = parse_cache_formats(asked.cache_formats), _layouts(asked)
    weights = {model.name: weights_of(model, asked.weights_gb, asked.weights_dtype) for model in models}
    points = [
        point
        for model, (tp, dp) in product(models, layouts)
        for point in make_points([model], axes, "", (tp,), (dp,), formats)
    ]
    return [
        Setup(
            point, gpu, weights[point.model.name], point.case.batch if "batch" in axes else None, reserve, asked.price
        )
        for point, gpu in product(held_points(points), gpus)
    ]


def _calibrated_cases(setups: Sequence[Setup], rows: Sequence[Row]) -> list[Case]:
    """What the calibration was asked for, as far as it told a time."""
    told = [(setup, row["batch"]) for setup, row in zip(setups, rows, strict=True) if row["attention_us"] is not None]
    return [case for setup, batch in told for _, case in attended_cases(setup, batch)]


def _layouts(asked: Asked) -> tuple[tuple[int, int], ...]:
    """Pairs of `tp` and `dp` that make use of all GPUs; the one that is not given follows from the other."""
    counts = parse_counts("--gpus-count", asked.gpus_counts)
    tps, dps = parse_counts("--tp", asked.tps), parse_counts("--dp", asked.dps)
    found = []
    for count in counts:
        if asked.tps and asked.dps:
            pairs = [(tp, dp) for tp, dp in product(tps, dps) if tp * dp == count]
        elif asked.tps:
            pairs = [(tp, count // tp) for tp in tps if count % tp == 0]
        else:
            pairs = [(count // dp, dp) for dp in dps if count % dp == 0]
        if not pairs:
            raise UsageError(_no_layout(count, asked))
        found += pairs
    return tuple(dict.fromkeys(found))


def _no_layout(count: int, asked: Asked) -> str:
    """Why the GPUs cannot be shared out as asked."""
    if asked.tps and asked.dps:
        return f"--gpus-count {count} is no --tp times --dp of those given: leave one of the two away"
    option, given = ("--tp", asked.tps) if asked.tps else ("--dp", asked.dps)
    divisors = ", ".join(str(value) for value in range(1, count + 1) if count % value == 0)
    return f"--gpus-count {count} is no multiple of {option} {','.join(given)}: choose among {divisors}"


def _print_rows(rows: Sequence[Row], kind: str) -> None:
    columns = _columns(rows)
    print_columns(columns, rows, kind)
    of_run = "attention as the run's kernels take it, with a 90% interval"
    attention = of_run if "attention_us" in rows[0] else "attention at its floor"
    print("Tokens and requests are of all GPUs together; longest: tokens of a request.")
    print(f"tokens/s: {attention}, plus the weights at their floor, and nothing else of a step.")
    if any(row["batch"] > row["requests"] for row in rows):
        print("No speed where the batch does not fit: more GPUs, --dp, --weights-dtype or --cache-format make room.")


def _columns(rows: Sequence[Row]) -> list[Column]:
    """The columns of a table that the rows make worth showing: name, and a row's text."""
    calibrated = "attention_us" in rows[0]
    attention, speed = ("attention_us", "calibrated") if calibrated else ("attention_floor_us", "floor")
    of_formats = any(row["cache_format"] != row["dtype"] for row in rows)
    of_batch = any(row["batch"] != row["requests"] for row in rows)
    cost = f"{speed}_usd_per_million_tokens"
    batch: tuple[Column, ...] = (
        ("batch", lambda row: format_exact(row["batch"])),
        ("longest each", lambda row: _length(row["longest_kv_len"])),
    )
    rates: Column = ("90% interval", _rates)
    formats: Column = ("cache", lambda row: row["cache_format"])
    price: Column = ("$/M tokens", lambda row: format_usd(row[cost]))
    return [
        ("model", lambda row: row["model"]),
        ("GPUs", lambda row: f"{row['gpus_count']} {row['gpu']}"),
        ("tp x dp", lambda row: f"{row['tp']} x {row['dp']}"),
        ("what", what),
        *([formats] if of_formats else []),
        ("weights/GPU", lambda row: format_bytes(row["weights_bytes_per_gpu"])),
        ("free/GPU", lambda row: format_bytes(max(0, row["free_bytes_per_gpu"]))),
        ("kv_len", lambda row: format_tokens(row["kv_len"])),
        ("tokens", lambda row: format_number(row["tokens"])),
        ("requests", lambda row: format_exact(row["requests"])),
        ("longest alone", lambda row: _length(row["longest_request"])),
        *(batch if of_batch else ()),
        ("attention", lambda row: format_latency(row[attention])),
        ("weights", lambda row: format_latency(row["weights_floor_us"])),
        ("tokens/s", lambda row: format_number(row[f"{speed}_tokens_per_s"])),
        *([rates] if calibrated else []),
        *([price] if any(row[cost] for row in rows) else []),
    ]


def _rates(row: Row) -> str:
    slow, fast = row["calibrated_slow_tokens_per_s"], row["calibrated_fast_tokens_per_s"]
    return NOT_MEASURED if slow is None else f"{format_number(slow)} to {format_number(fast)}"


def _length(tokens: int | None) -> str:
    return "any" if tokens is None else format_number(tokens)
