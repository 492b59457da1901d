"""From what a run measured to latencies of what it did not: efficiencies of its kernels, with what they get wrong."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.machine.ceilings import Ceilings
from mlabench.predict.demand import Demand, demand_of
from mlabench.predict.efficiency import Efficiency, Measured, fit_efficiency
from mlabench.predict.hardware import Gpu
from mlabench.predict.latency import UNKNOWN, Latency
from mlabench.records.metrics import latency_us
from mlabench.records.record import Record
from mlabench.records.store import Run

LEAST_POINTS = 16
"""Fewer measured cases of a contract are not fitted: there are six parameters, and halves of it are held out."""

INTERVAL = 0.9
"""Share of held-out points that the interval of a latency holds."""

Kernels = Mapping[str, Efficiency]
"""Kernels of one contract by name; a case is taken by the one that is predicted to be the fastest."""


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
    """The kernels of one contract, the factors from their latency to the interval's ends, and their errors.

    `contract` is that of `Case.contract`, with ` layer` behind it where whole layers were measured. `blind` are the
    kernels as fitted without the cases of half 0, and without those of half 1.
    """

    contract: str
    kernels: Kernels
    blind: tuple[Kernels, Kernels]
    low: float
    high: float
    errors: tuple[RegimeError, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a run tells about one GPU: its measured ceilings, and a fit for each contract with enough points.

    `measured_us` has the fastest kernel's median for each case that was fitted, `errors` those of all of them.
    """

    run: str
    gpu: str
    ceilings: Ceilings
    processors: int
    fits: Mapping[str, Fit]
    measured_us: Mapping[Case, float]
    errors: tuple[RegimeError, ...]
    left_out: Mapping[str, int]

    @property
    def points(self) -> int:
        """Cases that were fitted."""
        return len(self.measured_us)

    @property
    def mean_absolute_error(self) -> float:
        """Over all of them, each predicted from the half that it is not in."""
        return sum(error.points * error.mean_absolute_error for error in self.errors) / self.points

    def latency_us(self, case: Case, gpu: Gpu) -> Latency:
        """The time of a call and its interval; None on another GPU, and for what was not fitted."""
        fit, demand = self.fits.get(fitted_contract(case)), demand_of(case, self.ceilings, self.processors)
        if gpu.name != self.gpu or fit is None or demand is None:
            return UNKNOWN
        latency = _fastest(fit.kernels, demand).latency_us(demand)
        return latency, latency * fit.low, latency * fit.high

    def blind_latency_us(self, case: Case) -> float | None:
        """The time of a call as the half of the run tells it that the case is not in; None for what was not fitted."""
        fit, demand = self.fits.get(fitted_contract(case)), demand_of(case, self.ceilings, self.processors)
        if fit is None or demand is None:
            return None
        return _fastest(fit.blind[_half(case)], demand).latency_us(demand)


def fitted_contract(case: Case) -> str:
    """What is fitted together: cases of one contract, attention alone and whole layers apart."""
    return f"{case.contract} layer" if case.scope == "layer" else case.contract


def calibrate(run: Run, gpu: Gpu) -> Calibration:
    """Fit the fastest kernel of each measured case of the run. Raises `UsageError` for too little to fit,
    and for a run under lasting load.

    Errors and intervals come from cases that a fit did not see: the cases are split in two by their ids, each half is
    predicted from the other. The fits that predict see all of them.
    """
    if any(record.method == "sustained" for record in run.records):
        raise UsageError(
            f"{run.name} was measured under lasting load, where power sets the clock of each point: calibrate by a run "
            "of bursts (--method graph); docs/tradeoff.md#sustained tables what lasting load changes"
        )
    ceilings, processors = run.manifest.ceilings, run.manifest.fingerprint.processors
    if ceilings is None:
        raise UsageError(f"{run.name} holds no measured ceilings: it cannot calibrate")
    points = _points(run, ceilings, processors)
    enough = {contract: held for contract, held in points.items() if _can_fit(held.values())}
    if not enough:
        most = max((len(held) for held in points.values()), default=0)
        raise UsageError(
            f"{run.name} has at most {most} measured cases of one kind of kernel: it takes {LEAST_POINTS} to calibrate"
        )
    fits = {contract: _fit(contract, list(held.values())) for contract, held in enough.items()}
    measured_us = {case: point.latency_us for held in enough.values() for case, point in held.items()}
    errors = _pooled([error for fit in fits.values() for error in fit.errors])
    left_out = {contract: len(held) for contract, held in points.items() if contract not in enough}
    return Calibration(run.name, gpu.name, ceilings, processors, fits, measured_us, errors, left_out)


def _points(run: Run, ceilings: Ceilings, processors: int) -> dict[str, dict[Case, Measured]]:
    """By contract, each case with its fastest record; a kernel that chooses among several goes by the chosen one."""
    best: dict[Case, tuple[float, Record]] = {}
    for record in run.records:
        time_us = latency_us(record)
        if time_us is not None and (record.case not in best or time_us < best[record.case][0]):
            best[record.case] = time_us, record
    points: dict[str, dict[Case, Measured]] = defaultdict(dict)
    for case, (time_us, record) in best.items():
        if demand := demand_of(case, ceilings, processors):
            kernel = str(record.kernel_config.get("kernel", record.kernel))
            points[fitted_contract(case)][case] = Measured(demand, time_us, kernel, _half(case))
    return dict(points)


def _half(case: Case) -> int:
    return int(case.case_id, 16) % 2


def _can_fit(points: Iterable[Measured]) -> bool:
    halves = Counter(point.half for point in points)
    return len(halves) == 2 and sum(halves.values()) >= LEAST_POINTS


def _fit(contract: str, points: Sequence[Measured]) -> Fit:
    import numpy as np

    groups = _by_kernel(points)
    blind = _fit_kernels(groups, unseen=0), _fit_kernels(groups, unseen=1)
    off: list[float] = []
    regimes = defaultdict(list)
    for point in points:
        efficiency = _fastest(blind[point.half], point.demand)
        predicted_us = efficiency.latency_us(point.demand)
        off.append(math.log(point.latency_us / predicted_us))
        regimes[_regime(efficiency, point.demand)].append(abs(predicted_us / point.latency_us - 1))
    low, high = np.exp(np.quantile(off, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]))
    errors = tuple(RegimeError(name, len(held), fmean(held)) for name, held in sorted(regimes.items()))
    return Fit(contract, _fit_kernels(groups), blind, min(1.0, float(low)), max(1.0, float(high)), errors)


def _by_kernel(points: Sequence[Measured]) -> dict[str, list[Measured]]:
    """The points of each kernel; all in one where a kernel has too few for a fit of its own."""
    groups = defaultdict(list)
    for point in points:
        groups[point.kernel].append(point)
    if all(map(_can_fit, groups.values())):
        return dict(groups)
    return {", ".join(sorted(groups)): list(points)}


def _fit_kernels(groups: Mapping[str, Sequence[Measured]], unseen: int | None = None) -> Kernels:
    return {
        name: fit_efficiency([point for point in points if point.half != unseen]) for name, points in groups.items()
    }


def _fastest(kernels: Kernels, demand: Demand) -> Efficiency:
    return min(kernels.values(), key=lambda efficiency: efficiency.latency_us(demand))


def _regime(efficiency: Efficiency, demand: Demand) -> str:
    if efficiency.fixed_us(demand) > efficiency.latency_us(demand) / 2:
        return "launch"
    return "compute" if demand.compute_us + demand.expand_us > demand.memory_us else "memory"


def _pooled(errors: Sequence[RegimeError]) -> tuple[RegimeError, ...]:
    """Errors of several contracts by regime."""
    totals: dict[str, tuple[int, float]] = {}
    for error in sorted(errors, key=lambda error: error.regime):
        points, total = totals.get(error.regime, (0, 0.0))
        totals[error.regime] = points + error.points, total + error.points * error.mean_absolute_error
    return tuple(RegimeError(regime, points, total / points) for regime, (points, total) in totals.items())
