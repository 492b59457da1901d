"""One point, start to end: inputs, reference, bind, check, measure, check again. Only this file names every step."""

import math
import re
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlabench.cases.case import Case
from mlabench.machine.memory import free_memory_bytes
from mlabench.machine.nvml import Nvml
from mlabench.measure.check import CheckResult, Expected, check, reference
from mlabench.measure.inputs import make_inputs, make_outputs, negate, poison
from mlabench.measure.kernels import Kernel, launch_config, workspace_bytes
from mlabench.measure.timing.method import Budget, Timer
from mlabench.records.record import Record, Status
from mlabench.units import format_bytes

if TYPE_CHECKING:
    from torch import Tensor

CUDA_FAULT = re.compile(
    r"CUDA error|CUBLAS_STATUS_EXECUTION_FAILED|illegal memory access|unspecified launch failure", re.I
)
"""Errors after which every further CUDA call of the process fails."""


class NotMeasured(Exception):  # noqa: N818
    """Ends a point with a status other than `ok`."""

    def __init__(self, status: Status, reason: str, **values: Any) -> None:
        super().__init__(reason)
        self.status: Status = status
        self.values = values


@dataclass(frozen=True, slots=True)
class Prepared:
    """A case's inputs on the device, and what its outputs must be."""

    case: Case
    inputs: Mapping[str, "Tensor"]
    expected: Expected


@dataclass(slots=True)
class Runner:
    """Measures points on one device, one after the other; consecutive points of a case share its inputs."""

    device: str
    timer: Timer
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    nvml: Nvml | None = None
    spoiled: bool = False
    _prepared: Prepared | None = None
    _phases_s: dict[str, float] = field(default_factory=dict)

    def run(self, case: Case, kernel: Kernel) -> Record:
        """Measure one point. Never raises for what a kernel does: that becomes the record's status and reason.

        Sets `spoiled` where the process can measure nothing more.
        """
        started_at, start = datetime.now(UTC).isoformat(timespec="milliseconds"), time.perf_counter()
        record = Record(
            case, kernel.name, kernel.backend, self.timer.method, "error", seed=self.seed, started_at=started_at
        )
        self._phases_s = {}
        try:
            record = self._measure(record, kernel)
        except NotMeasured as outcome:
            record = replace(record, status=outcome.status, reason=str(outcome), **outcome.values)
        except Exception as error:
            traceback.print_exc()
            record = replace(record, **_failure(error))
            self.spoiled = record.status == "error" and CUDA_FAULT.search(record.reason) is not None
        if record.status != "ok":
            self._prepared = None
        return replace(record, wall_s=time.perf_counter() - start, phases_s=self._phases_s)

    def _measure(self, record: Record, kernel: Kernel) -> Record:
        case = record.case
        if reason := kernel.missing():
            raise NotMeasured("unavailable", reason)
        if self.device not in kernel.devices:
            devices = " and ".join(kernel.devices)
            raise NotMeasured("unsupported", f"{kernel.name} runs on {devices}, not on {self.device}")
        prepared = self._prepare(case)
        outputs = make_outputs(case, self.device)
        with self._phase("bind"):
            scale = case.variant.softmax_scale
            launch = kernel.load()(**prepared.inputs, **outputs, softmax_scale=scale)
            launch()
        with self._phase("check"):
            poison(outputs)
            launch()
            self._check(prepared.expected, kernel, outputs, case, "")
        before = self._sensors()
        # The timed calls see other values than bind did, so that none of the work can lie there.
        negate(case, prepared.inputs)
        with self._phase("measure"):
            timing = self.timer.measure(launch, lambda: poison(outputs), self.budget)
        after = self._sensors()
        with self._phase("check"):
            expected = Expected(-prepared.expected.out, prepared.expected.lse)
            result = self._check(expected, kernel, outputs, case, "the timed call's ")
            negate(case, prepared.inputs)
        return replace(
            record,
            status="ok",
            timing=timing,
            relative_error=result.relative_error,
            lse_error=result.lse_error,
            workspace_bytes=workspace_bytes(launch),
            kernel_config=launch_config(launch),
            telemetry={"before": before, "after": after} if self.nvml else None,
        )

    def _prepare(self, case: Case) -> Prepared:
        if self._prepared is None or self._prepared.case != case:
            self._prepared = None
            free = free_memory_bytes(self.device)
            if free is not None and case.memory_bytes > free:
                need = f"the tensors need {format_bytes(case.memory_bytes)}, {format_bytes(free)} are free"
                raise NotMeasured("oom", need)
            with self._phase("inputs"):
                inputs = make_inputs(case, self.seed, self.device)
            with self._phase("reference"):
                self._prepared = Prepared(case, inputs, reference(case, inputs))
        return self._prepared

    def _check(
        self, expected: Expected, kernel: Kernel, outputs: Mapping[str, "Tensor"], case: Case, whose: str
    ) -> CheckResult:
        self._synchronize()
        result = check(case, outputs, expected, with_lse=kernel.writes_lse)
        if result.failure:
            error = result.relative_error if math.isfinite(result.relative_error) else None
            raise NotMeasured("incorrect", whose + result.failure, relative_error=error)
        return result

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
            self._synchronize()
        finally:
            self._phases_s[name] = self._phases_s.get(name, 0.0) + time.perf_counter() - start

    def _sensors(self) -> dict[str, Any] | None:
        return self.nvml.sensors() if self.nvml else None

    def _synchronize(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


def _failure(error: Exception) -> dict[str, Any]:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    if isinstance(error, NotImplementedError):
        return {"status": "unsupported", "reason": text or "the kernel does not do this shape"}
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return {"status": "oom", "reason": text or "out of memory"}
    return {"status": "error", "reason": f"{type(error).__name__}: {text}" if text else type(error).__name__}
