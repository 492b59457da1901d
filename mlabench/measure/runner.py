"""One point, start to end: inputs, reference, bind, check, measure, check again. Only this file names every step."""

import gc
import math
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlabench.cases.case import Case
from mlabench.machine.memory import Clearing, free_memory_bytes
from mlabench.machine.telemetry import Sensors, Telemetry
from mlabench.measure.bound import Bound, NotMeasured, Prepared
from mlabench.measure.check import CheckResult, Expected, check, point_bytes, reference
from mlabench.measure.failure import describe_failure
from mlabench.measure.inputs import FINITE, fill_unused_slots, make_inputs, make_outputs, negate
from mlabench.measure.kernels import Kernel, workspace_bytes
from mlabench.measure.layers import LAYER_MODULE, bind_layer, layer_reference, time_parts
from mlabench.measure.timing.method import Budget, Timer, nothing
from mlabench.records.record import PartTime, Record, are_times
from mlabench.units import format_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from mla_kernels.layer import Layer

CUDA_FAULT = re.compile(
    r"CUDA error|CUBLAS_STATUS_EXECUTION_FAILED|illegal memory access|unspecified launch failure", re.I
)
"""Errors after which every further CUDA call of the process fails."""

AFTER_BINDING = (
    "right in the first call, wrong in later ones, whose inputs hold other values: "
    "take nothing from `bind` or an earlier call"
)
"""What it says of a kernel that passed the first check and not that of the timed calls."""


@dataclass(slots=True)
class Runner:
    """Measures points on one device, one after the other; consecutive points of a case share its inputs.

    Each step is done within what `annotate` makes of its name: for a profiler a range.
    """

    device: str
    timer: Timer
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    sensors: Sensors | None = None
    spoiled: bool = False
    annotate: Callable[[str], AbstractContextManager[object]] = nullcontext
    phases_s: dict[str, float] = field(default_factory=dict)
    _prepared: Prepared | None = None
    _clearing: Clearing = field(default_factory=Clearing)

    def run(self, case: Case, kernel: Kernel) -> Record:
        """Measure one point. Never raises for what a kernel does: that becomes the record's status and reason.

        Sets `spoiled` where the process can measure nothing more.
        """
        started_at, start = datetime.now(UTC).isoformat(timespec="milliseconds"), time.perf_counter()
        record = Record(
            case, kernel.name, kernel.backend, self.timer.method, "error", seed=self.seed, started_at=started_at
        )
        self.phases_s = {}
        try:
            record = self._measure(record, kernel)
        except Exception as error:
            record = replace(record, **self.outcome(error))
        return replace(record, wall_s=time.perf_counter() - start, phases_s=self.phases_s)

    def _measure(self, record: Record, kernel: Kernel) -> Record:
        case = record.case
        self.require(kernel)
        prepared = self.prepare(case)
        bound = self.bind(kernel, prepared)
        telemetry = Telemetry(self.sensors) if self.sensors else None
        # The timed calls see other values than bind did, so that none of the work can lie there.
        negate(case, prepared.inputs)
        with self.phase("measure"):
            observe = telemetry.read if telemetry else nothing
            timing = self.timer.measure(bound.launch, bound.poison, self.budget, observe)
            if telemetry:
                telemetry.keep()
        with self.phase("check"):
            result = self.check_timed(bound, prepared)
        parts = self.time_parts(bound, prepared)
        negate(case, prepared.inputs)
        if not are_times(timing.samples_us):
            raise NotMeasured("error", "a sample is no positive number")
        return replace(
            record,
            status="ok",
            timing=timing,
            relative_error=result.relative_error,
            lse_error=result.lse_error,
            workspace_bytes=workspace_bytes(bound.launch),
            kernel_config=bound.config,
            parts=parts,
            telemetry=telemetry.to_json() if telemetry else None,
        )

    def time_parts(self, bound: Bound, prepared: Prepared) -> tuple[PartTime, ...]:
        """Time each part of a layer by itself, and check what they made of the inputs; a core has none.

        Raises `NotMeasured`.
        """
        if bound.layer is None:
            return ()
        with self.phase("parts"):
            bound.poison()
            parts = time_parts(self.timer, bound.layer, prepared.case, self.budget)
        with self.phase("check"):
            self._check(bound, prepared.case, prepared.expected.negated(), "its parts' ")
        if not are_times([part.latency_us for part in parts]):
            raise NotMeasured("error", "the time of a part is no positive number")
        return parts

    def outcome(self, error: Exception) -> dict[str, Any]:
        """The status, reason and further values of what went wrong with a point, whose inputs are then forgotten.

        Sets `spoiled` where the process can measure nothing more.
        """
        self._prepared = None
        if isinstance(error, NotMeasured):
            return {"status": error.status, "reason": str(error), **error.values}
        traceback.print_exception(error)
        values = describe_failure(error)
        self.spoiled |= values["status"] == "error" and CUDA_FAULT.search(values["reason"]) is not None
        return values

    def require(self, kernel: Kernel) -> None:
        """Raise `NotMeasured` for a kernel that is not installed, or not for this device."""
        if reason := kernel.missing():
            raise NotMeasured("unavailable", reason)
        if self.device not in kernel.devices:
            devices = " and ".join(kernel.devices)
            raise NotMeasured("unsupported", f"{kernel.name} runs on {devices}, not on {self.device}")

    def prepare(self, case: Case) -> Prepared:
        """The case's inputs and what must come of them, kept for the next point, on a device at rest.

        Raises `NotMeasured`.
        """
        if self._prepared is None or self._prepared.case != case:
            self._prepared = None
            need, free = point_bytes(case), free_memory_bytes(self.device)
            if free is not None and need > free:
                # What failed before may still be held by the frames of its exception.
                gc.collect()
                free = free_memory_bytes(self.device) or 0
            if free is not None and need > free:
                reason = f"the tensors need {format_bytes(need)} with those of the check, {format_bytes(free)} are free"
                raise NotMeasured("oom", reason)
            with self.phase("inputs"):
                inputs = make_inputs(case, self.seed, self.device)
            with self.phase("reference"):
                whole = layer_reference if case.scope == "layer" else reference
                self._prepared = Prepared(case, inputs, whole(case, inputs))
            if self.device == "cuda":
                with self.phase("clearing"):
                    self._clearing.wait()
        return self._prepared

    def bind(self, kernel: Kernel, prepared: Prepared, outputs: "Mapping[str, Tensor] | None" = None) -> Bound:
        """Bind a kernel to these outputs or to new ones, and check what it writes. Sets the unused cache slots for it.

        Raises `NotMeasured`, or whatever the kernel raises.
        """
        case = prepared.case
        outputs = outputs or make_outputs(case, self.device)
        self.fill_unused_slots(prepared, finite=kernel.reads_unused_slots)
        with self.phase("bind"):
            layer = _bind_layer(kernel, prepared, outputs) if case.scope == "layer" else None
            launch = layer or kernel.load()(**prepared.inputs, **outputs, softmax_scale=case.variant.softmax_scale)
            if not callable(launch):
                reason = f"{kernel.target} returned {type(launch).__name__}, and not a callable that launches the work"
                raise NotMeasured("error", reason)
            launch()
        bound = Bound(kernel, launch, outputs, layer)
        with self.phase("check"):
            bound.poison()
            bound.require_poison()
            launch()
            self._check(bound, case, prepared.expected, "")
        return bound

    def fill_unused_slots(self, prepared: Prepared, *, finite: bool) -> None:
        """Put NaN behind the last token of each request, or a finite value for what reads those slots."""
        fill_unused_slots(prepared.case, prepared.inputs, FINITE if finite else math.nan)

    def check_timed(self, bound: Bound, prepared: Prepared) -> CheckResult:
        """Check what the last timed call wrote, which saw the inputs negated. Raises `NotMeasured`."""
        try:
            return self._check(bound, prepared.case, prepared.expected.negated(), "the timed call's ")
        except NotMeasured as wrong:
            if wrong.status != "incorrect":
                raise
            raise NotMeasured("incorrect", f"{wrong}: {AFTER_BINDING}", **wrong.values) from None

    def _check(self, bound: Bound, case: Case, expected: Expected, whose: str) -> CheckResult:
        self._synchronize()
        for outputs in bound.fresh_outputs():
            result = check(case, outputs, expected, with_lse=bound.kernel.writes_lse)
            if result.failure:
                error = result.relative_error if math.isfinite(result.relative_error) else None
                raise NotMeasured("incorrect", whose + result.failure, relative_error=error)
        return result

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what the block takes to the point's time of this name."""
        start = time.perf_counter()
        try:
            with self.annotate(name):
                yield
                self._synchronize()
        finally:
            self.phases_s[name] = self.phases_s.get(name, 0.0) + time.perf_counter() - start

    def _synchronize(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


def _bind_layer(kernel: Kernel, prepared: Prepared, outputs: "Mapping[str, Tensor]") -> "Layer":
    """Raises `NotMeasured` for kernels of a commit that has none to build layers of, and whatever the kernel raises."""
    try:
        return bind_layer(kernel, prepared.case, prepared.inputs, outputs)
    except ModuleNotFoundError as error:
        if error.name != LAYER_MODULE:
            raise
        raise NotMeasured("unavailable", f"these sources have no {LAYER_MODULE}, which binds a layer") from None
