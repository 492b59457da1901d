"""How `mlabench predict --crossovers` shows what it found: of floors, of latencies, or of a run beside its fit."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from mlabench.cli.predict_columns import what
from mlabench.cli.predict_table import print_cells
from mlabench.errors import UsageError
from mlabench.predict.crossovers import Crossover
from mlabench.predict.export import FORMATS
from mlabench.units import NOT_MEASURED, format_number, format_percent, format_tokens, format_whole

if TYPE_CHECKING:
    from mlabench.predict.calibrate import Calibration
    from mlabench.predict.hardware import Gpu
    from mlabench.predict.latency_crossovers import LatencyCrossover
    from mlabench.predict.measured_crossovers import MeasuredCrossover
    from mlabench.predict.rows import Point


def show_crossovers(found: Sequence[Crossover], kind: str) -> None:
    """Print crossovers of the floors. Raises `UsageError` without any."""
    if not found:
        raise UsageError("nothing crosses over: no GPU gives a rate for the dtype, and no variant a cache to compare")
    if kind in FORMATS:
        typer.echo(FORMATS[kind]([crossover.to_json() for crossover in found]), nl=False)
        return
    rows = [
        (
            crossover.model or NOT_MEASURED,
            crossover.gpu or "any",
            crossover.phase or "any",
            _or_any(crossover.batch),
            _or_any(crossover.q_len),
            _or_any(crossover.tp),
            crossover.axis,
            _at(crossover),
            crossover.meaning,
        )
        for crossover in found
    ]
    print_cells(("model", "gpu", "phase", "batch", "q_len", "tp", "what is varied", "at", "meaning"), rows, kind)
    if any(crossover.axis == "kv_len" for crossover in found):
        print("kv_len: where floors cross, which leave out what every call takes; times cross at far longer ones where")
        print("calls are short: --calibrate RUN says where, as a run of that GPU tells it.")


def show_latency_crossovers(points: "Sequence[Point]", calibration: "Calibration", gpu: "Gpu", kind: str) -> None:
    """Print where the times of the points' variants cross, as the run tells them. Raises `UsageError` without any."""
    from mlabench.predict.latency_crossovers import find_latency_crossovers

    found = find_latency_crossovers(points, calibration, gpu)
    if not found:
        raise UsageError(
            f"{calibration.run} tells no two variants' latencies of these cases: it was fitted to "
            f"{', '.join(calibration.fits)}"
        )
    if kind in FORMATS:
        typer.echo(FORMATS[kind]([crossover.to_json() for crossover in found]), nl=False)
    else:
        _print_latencies(found, kind)


def show_measured_crossovers(calibration: "Calibration", where: str, kind: str) -> None:
    """Print the crossovers of a run's cases that the expression keeps. Raises `UsageError` without any."""
    from mlabench.cases.where import keep_where
    from mlabench.predict.measured_crossovers import LEAST_LENGTHS, find_measured_crossovers

    cases = tuple(calibration.measured_us)
    found = find_measured_crossovers(calibration, keep_where(cases, where) if where else cases)
    if not found:
        raise UsageError(
            f"{calibration.run} has no absorbed MLA beside another variant at {LEAST_LENGTHS} lengths or more"
            + (f" where {where}" if where else "")
        )
    crossing = [crossover for crossover in found if crossover.measured]
    typer.echo(
        f"mlabench: {_agreeing(found)} pairs agree within a grid step"
        + (f", {_agreeing(crossing)} of those that cross" if crossing else ""),
        err=True,
    )
    if kind in FORMATS:
        typer.echo(FORMATS[kind]([crossover.to_json() for crossover in found]), nl=False)
    else:
        _print_measured(found, kind)


def _agreeing(found: "Sequence[MeasuredCrossover]") -> str:
    agreeing = sum(crossover.agrees for crossover in found)
    return f"{agreeing} of {len(found)} ({format_percent(agreeing / len(found), 1)})"


def _print_measured(found: "Sequence[MeasuredCrossover]", kind: str) -> None:
    rows = [
        (
            f"{crossover.variant} {crossover.form} vs {crossover.against}",
            f"{crossover.phase} {crossover.scope}",
            str(crossover.num_q_heads),
            str(crossover.batch),
            "varied" if crossover.q_len is None else format_tokens(crossover.q_len),
            "varied" if crossover.kv_len is None else format_tokens(crossover.kv_len),
            _ahead(crossover.predicted, crossover.predicted_leads_first),
            _ahead(crossover.measured, crossover.leads_first),
            NOT_MEASURED if crossover.steps_apart is None else format_number(crossover.steps_apart, 2),
        )
        for crossover in found
    ]
    headers = ("pair", "of", "heads", "batch", "q_len", "kv_len", "ahead as predicted", "as measured", "steps apart")
    print_cells(headers, rows, kind)
    print(
        "Of measured times, in which each call has a fixed part: floors, without --calibrate, cross at shorter lengths."
    )


def _print_latencies(found: "Sequence[LatencyCrossover]", kind: str) -> None:
    rows = [
        (
            crossover.model or NOT_MEASURED,
            f"{what(crossover.to_json())} vs {crossover.against}",
            f"{crossover.phase} {crossover.scope}",
            str(crossover.num_q_heads),
            str(crossover.batch),
            "varied" if crossover.q_len is None else format_tokens(crossover.q_len),
            str(crossover.tp),
            _ahead(crossover.predicted, crossover.leads_first),
            _unsure(crossover),
            NOT_MEASURED
            if crossover.measured is None
            else _ahead(crossover.measured, bool(crossover.measured_leads_first)),
        )
        for crossover in found
    ]
    headers = ("model", "pair", "of", "heads", "batch", "q_len", "tp", "the first is ahead", "unsure", "as measured")
    print_cells(headers, rows, kind)
    shortest, longest = (
        format_tokens(end(getattr(crossover, name) for crossover in found))
        for name, end in (("shortest", min), ("longest", max))
    )
    print(f"Of one layer and rank, {found[0].gpu}, in a burst, at kv_len from {shortest} to {longest}, as the run has.")
    print(
        "unsure: the lengths at which the ratio's 90% interval holds 1. as measured: – where the run has no such pair."
    )


def _unsure(crossover: "LatencyCrossover") -> str:
    """The lengths at which either may be ahead."""
    start, stop = crossover.unsure_from, crossover.unsure_to
    if start is None or stop is None:
        return "nowhere"
    at_first, at_last = start == crossover.shortest, stop == crossover.longest
    if at_first:
        return "everywhere" if at_last else f"up to {format_number(stop)}"
    return f"from {format_number(start)}" if at_last else f"{format_number(start)} to {format_number(stop)}"


def _ahead(lengths: Sequence[float], leads_first: bool) -> str:
    """Along which lengths the first of a pair is the faster one."""
    if not lengths:
        return "always" if leads_first else "never"
    starts = "up to" if leads_first else "from"
    return f"{starts} {', '.join(map(format_whole, lengths))}"


def _at(crossover: Crossover) -> str:
    """Where it is: of tokens the last whole one before, of what is counted from a number on that number."""
    if crossover.at is None:
        return NOT_MEASURED
    whole = math.floor if crossover.axis in ("kv_len", "q_len") else math.ceil
    return format_whole(whole(crossover.at))


def _or_any(value: int | None) -> str:
    return "any" if value is None else str(value)
