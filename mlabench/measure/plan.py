"""From a configuration to the points of a sweep, with what each needs before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError
from mlabench.machine.datasheet import find_datasheet
from mlabench.measure.check import point_bytes
from mlabench.measure.config import SweepConfig
from mlabench.measure.kernels import Kernel, check_selection, kernels_for
from mlabench.measure.timing.cuda_sustained import SETTLE_S, WINDOW_S
from mlabench.records.record import PointKey

NOMINAL_CPU = {"flops_per_s": 50e9, "memory_bytes_per_s": 10e9}
"""A laptop core or two, for estimates alone."""

NOMINAL_GPU = {"flops_per_s": 100e12, "memory_bytes_per_s": 1e12}
"""A GPU that `gpus.toml` does not know, for estimates alone."""

OVERHEAD_S = {"cpu": 0.05, "cuda": 0.5}
"""Inputs, binding and compilation of a point, for estimates alone."""

REFERENCE_COST = 10
"""How much longer the float64 reference takes than the floor, for estimates alone."""


@dataclass(frozen=True, slots=True)
class Point:
    """One case on one kernel; `kernel` is None where no chosen kernel takes the case."""

    case: Case
    kernel: Kernel | None

    def key(self, method: str) -> PointKey:
        """The key of the record that this point gives."""
        return self.case.case_id, self.kernel.name if self.kernel else "", method


def make_points(config: SweepConfig, device: str) -> tuple[Point, ...]:
    """Every point of the sweep, the kernels of a case next to one another. Raises `UsageError` where none is left."""
    check_selection(config.kernel)
    return tuple(point for case in chosen_cases(config) for point in _points_of(case, device, config.kernel))


def chosen_cases(config: SweepConfig) -> tuple[Case, ...]:
    """The cases of the axes and models that `where` keeps. Raises `UsageError` where none is left."""
    cases = make_cases(config.axes, config.model, config.where)
    if not cases:
        raise UsageError(f"--where {config.where!r} leaves no case: loosen it")
    return cases


def estimate_point_s(point: Point, config: SweepConfig, device: str, device_name: str) -> float:
    """A rough time for one point, in seconds, from published peaks; 0 where no kernel takes it."""
    if point.kernel is None:
        return 0.0
    nominal = _nominal(device, device_name)
    case = point.case
    floor_s = max(case.flops / nominal["flops_per_s"], case.bytes_moved / nominal["memory_bytes_per_s"])
    sampling_s = max(3 * floor_s, min(config.sampling_s, 100 * floor_s))
    if config.method == "sustained":
        sampling_s = SETTLE_S + max(config.sampling_s, WINDOW_S)
        if case.scope == "layer":
            sampling_s *= 1 + len(case.parts)
    elif case.scope == "layer":  # the parts alone take as long again
        sampling_s *= 2
    return OVERHEAD_S[device] + REFERENCE_COST * floor_s + sampling_s


def estimate_memory_bytes(point: Point) -> int:
    """Bytes that one point needs, a kernel's workspace apart; 0 where no kernel takes it."""
    return point_bytes(point.case) if point.kernel else 0


def _points_of(case: Case, device: str, names: Sequence[str]) -> list[Point]:
    return [Point(case, kernel) for kernel in kernels_for(case, device, names)] or [Point(case, None)]


def _nominal(device: str, device_name: str) -> Mapping[str, float]:
    if device == "cpu":
        return NOMINAL_CPU
    if gpu := find_datasheet(device_name):
        return {"flops_per_s": gpu["bfloat16_flops_per_s"], "memory_bytes_per_s": gpu["memory_bytes_per_s"]}
    return NOMINAL_GPU
