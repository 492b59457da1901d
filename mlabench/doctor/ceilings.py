"""The measured ceilings beside the datasheet's numbers."""

from collections.abc import Mapping
from typing import Any

from mlabench.doctor.finding import Examination, Finding
from mlabench.machine.ceilings import Ceilings
from mlabench.machine.datasheet import find_datasheet
from mlabench.measure.probe import probe_ceilings
from mlabench.units import format_bandwidth, format_flop_rate, format_percent

LEAST_FRACTION = 0.75
"""Share of the datasheet's number under which a ceiling is a warning."""

DTYPES = ("bfloat16", "float16", "float32")

QUICK_DTYPES = ("bfloat16",)


def examine_ceilings(examination: Examination) -> list[Finding]:
    """Measure the ceilings and hold them against the datasheet where the GPU is known."""
    device = examination.device
    ceilings = probe_ceilings(device, QUICK_DTYPES if examination.quick else DTYPES)
    datasheet = find_datasheet(examination.fingerprint.device_name) if device == "cuda" else {}
    return judge_ceilings(ceilings, datasheet)


def judge_ceilings(ceilings: Ceilings, datasheet: Mapping[str, Any]) -> list[Finding]:
    """One finding a ceiling."""
    peak_traffic = datasheet.get("memory_bytes_per_s")
    findings = [
        _judge(f"memory {kind}", rate, peak_traffic, format_bandwidth(rate), format_bandwidth(peak_traffic))
        for kind, rate in (
            ("read", ceilings.read_bytes_per_s),
            ("write", ceilings.write_bytes_per_s),
            ("copy", ceilings.copy_bytes_per_s),
        )
    ]
    for dtype, rate in ceilings.matmul_flops_per_s.items():
        peak = datasheet.get(f"{dtype}_flops_per_s")
        findings.append(_judge(f"products in {dtype}", rate, peak, format_flop_rate(rate), format_flop_rate(peak)))
    return findings


def _judge(name: str, rate: float, peak: float | None, rate_text: str, peak_text: str) -> Finding:
    data = {"measured_per_s": rate, "datasheet_per_s": peak}
    if peak is None:
        return Finding(name, "good", rate_text, data=data)
    fraction = rate / peak
    text = f"{rate_text}, {format_percent(fraction, 1)} of the datasheet's {peak_text}"
    if fraction >= LEAST_FRACTION:
        return Finding(name, "good", text, data=data)
    mend = "see the power limit, the clocks and other processes above"
    return Finding(name, "warning", f"{text}: under {format_percent(LEAST_FRACTION)}", mend, data)
