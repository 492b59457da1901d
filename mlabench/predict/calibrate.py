"""From what a run measured to latencies of what it did not: efficiencies by contract, with what they get wrong."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.machine.ceilings import Ceilings
from mlabench.predict.costs import costs_of, counts_of
from mlabench.predict.efficiency import Efficiency, Measured, fit_efficiency
from mlabench.predict.hardware import Gpu
from mlabench.records.metrics import latency_us
from mlabench.records.record import Record
from mlabench.records.store import Run

LEAST_POINTS = 16
"""Fewer measured cases of a contract are not fitted: there are four parameters, and halves of it are held out."""

INTERVAL = 0.9
"""Share of held-out points that the interval of a latency holds."""

Latency = tuple[float | None, float | None, float | None]
"""A latency in microseconds, and the ends of its interval."""


@dataclass(frozen=True, slots=True)
class RegimeError:
    """How far predictions of points that were held out are from the measured times, in one regime.

    The regime is `launch` where the fixed time is over half of the predicted one, else what binds: `memory`, `compute`.
    """

    regime: str
    points: int
    mean_absolute_error: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The efficiency of one contract's kernels, the factors from its latency to the interval's ends, and its errors."""

    contract: str
    kernels: tuple[str, ...]
    efficiency: Efficiency
    low: float
    high: float
    errors: tuple[RegimeError, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a run tells about one GPU: its measured ceilings, and a fit for each contract with enough points."""

    run: str
    gpu: str
    ceilings: Ceilings
    fits: Mapping[str, Fit]
    points: int
    mean_absolute_error: float
    left_out: Mapping[str, int]

    def latency_us(self, case: Case, gpu: Gpu) -> Latency:
        """The time of a call and its interval; None on another GPU, and for what was not fitted."""
        fit = self.fits.get(case.contract) if gpu.name == self.gpu and case.scope == "core" else None
        times = _roofline_us(case, self.ceilings)
        if fit is None or times is None:
            return None, None, None
        latency = fit.efficiency.latency_us(*times)
        return latency, latency * fit.low, latency * fit.high


def calibrate(run: Run, gpu: Gpu) -> Calibration:
    """Fit the fastest kernel of each measured case of the run. Raises `UsageError` for too little to fit.

    Errors and intervals come from cases that a fit did not see: the cases are split in two by their ids, each half is
    predicted from the other. The fits that predict see all of them.
    """
    ceilings = run.manifest.ceilings
    if ceilings is None:
        raise UsageError(f"{run.name} holds no measured ceilings: it cannot calibrate")
    points = {contract: _measured(records, ceilings) for contract, records in _fastest(run).items()}
    enough = {contract: held for contract, held in points.items() if _can_fit(held)}
    if not enough:
        most = max((len(held) for held in points.values()), default=0)
        raise UsageError(
            f"{run.name} has at most {most} measured cases of one kind of kernel: it takes {LEAST_POINTS} to calibrate"
        )
    kernels = {contract: tuple(sorted({r.kernel for r in records})) for contract, records in _fastest(run).items()}
    fits = {contract: _fit(contract, kernels[contract], held) for contract, held in enough.items()}
    errors = [(error.points, error.mean_absolute_error) for fit in fits.values() for error in fit.errors]
    total = sum(count for count, _ in errors)
    mean = sum(count * error for count, error in errors) / total
    left_out = {contract: len(held) for contract, held in points.items() if contract not in enough}
    return Calibration(run.name, gpu.name, ceilings, fits, total, mean, left_out)


def _fastest(run: Run) -> dict[str, list[Record]]:
    """By contract the fastest record of each case of attention alone."""
    best: dict[Case, Record] = {}
    for record in run.records:
        if record.timing and record.case.scope == "core":
            known = best.get(record.case)
            if known is None or (latency_us(record) or 0) < (latency_us(known) or 0):
                best[record.case] = record
    contracts = defaultdict(list)
    for record in best.values():
        contracts[record.case.contract].append(record)
    return dict(contracts)


def _measured(records: Sequence[Record], ceilings: Ceilings) -> list[Measured]:
    points = []
    for record in records:
        times, latency = _roofline_us(record.case, ceilings), latency_us(record)
        if times is not None and latency is not None:
            points.append(Measured(*times, latency, int(record.case.case_id, 16) % 2))
    return points


def _can_fit(points: Sequence[Measured]) -> bool:
    return len(points) >= LEAST_POINTS and {point.half for point in points} == {0, 1}


def _roofline_us(case: Case, ceilings: Ceilings) -> tuple[float, float] | None:
    work = costs_of(case).work(counts_of(case))
    compute_us = ceilings.compute_us(work.flops, case.dtype)
    return None if compute_us is None else (ceilings.memory_us(work.bytes_moved), compute_us)


def _fit(contract: str, kernels: tuple[str, ...], points: Sequence[Measured]) -> Fit:
    import numpy as np

    off: list[float] = []
    regimes = defaultdict(list)
    for half in (0, 1):
        blind = fit_efficiency([point for point in points if point.half != half])
        for point in points:
            if point.half != half:
                continue
            predicted_us = blind.latency_us(point.memory_us, point.compute_us)
            off.append(math.log(point.latency_us / predicted_us))
            regimes[_regime(blind, point, predicted_us)].append(abs(predicted_us / point.latency_us - 1))
    low, high = np.exp(np.quantile(off, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]))
    errors = tuple(RegimeError(name, len(held), fmean(held)) for name, held in sorted(regimes.items()))
    return Fit(contract, kernels, fit_efficiency(points), min(1.0, float(low)), max(1.0, float(high)), errors)


def _regime(efficiency: Efficiency, point: Measured, predicted_us: float) -> str:
    if efficiency.overhead_us > predicted_us / 2:
        return "launch"
    return "compute" if point.compute_us > point.memory_us else "memory"
