"""What a calibration adds to a row: the latency, what the run measured of it, and how it stands to other variants."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mlabench.cases.case import VARIANTS, Case
from mlabench.cases.variant import Variant
from mlabench.errors import UsageError
from mlabench.predict.hardware import Gpu
from mlabench.predict.latency import UNKNOWN, Latency, speedup

if TYPE_CHECKING:
    from mlabench.predict.calibrate import Calibration

LATENCY_COLUMNS = ("latency_us", "latency_us_low", "latency_us_high")
LATENCY_SPEEDUPS: Mapping[str, tuple[str, str, str]] = {
    name: (f"latency_speedup_vs_{name}", f"latency_speedup_vs_{name}_low", f"latency_speedup_vs_{name}_high")
    for name in VARIANTS
}
"""By variant, the columns of how many times longer it takes, and of that number's interval."""


def calibrated_columns(
    calibration: "Calibration", case: Case, others: Mapping[str, Variant], gpu: Gpu, *, in_dtype: bool
) -> dict[str, float | None]:
    """The columns of one rank's case, `others` being the other variants at its size, by name.

    None on other GPUs than the run's, for what none of its kernels took, a cache that is not `in_dtype` among it, and
    `measured_us` where the run does not hold the case.
    """
    known = in_dtype and gpu.name == calibration.gpu
    own = calibration.latency_us(case, gpu) if known else UNKNOWN
    row = dict(zip(LATENCY_COLUMNS, own, strict=True))
    row["measured_us"] = calibration.measured_us.get(case) if known else None
    for name, columns in LATENCY_SPEEDUPS.items():
        ratio = _speedup(calibration, case, own, others[name], gpu) if known and name in others else UNKNOWN
        row |= dict(zip(columns, ratio, strict=True))
    return row


def _speedup(calibration: "Calibration", case: Case, own: Latency, variant: Variant, gpu: Gpu) -> Latency:
    if variant == case.variant and own != UNKNOWN:
        # One call has no error beside itself: on eight ranks GQA-8 is MQA.
        return 1.0, 1.0, 1.0
    try:
        return speedup(own, calibration.latency_us(replace(case, variant=variant), gpu))
    except UsageError:
        # A layer that the variant cannot be in.
        return UNKNOWN
