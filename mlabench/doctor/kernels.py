"""Every kernel on a small case: there, compiled, correct."""

from collections.abc import Mapping

from mlabench.cases.axes import Value
from mlabench.cases.grid import make_cases
from mlabench.doctor.finding import Examination, Finding, Status
from mlabench.measure.kernels import Kernel, all_kernels
from mlabench.measure.runner import Runner
from mlabench.measure.timing.method import Budget
from mlabench.measure.timing.methods import choose_method, make_timer
from mlabench.records.metrics import latency_us
from mlabench.records.record import Record
from mlabench.units import format_error, format_latency

SMALL_SHAPE: Mapping[str, Value] = {"batch": 2, "kv_len": 200, "kv_len_dist": "ragged", "num_q_heads": 16}

SMALL_CASES: Mapping[str, Mapping[str, Value]] = {
    "grouped": {"variant": "gqa", "num_kv_heads": 4},
    "mla_absorbed": {"variant": "mla", "form": "absorbed"},
    "mla_recompute": {"variant": "mla", "form": "recompute"},
    "grouped_prefill": {"phase": "prefill", "variant": "gqa", "num_kv_heads": 4, "q_len": 50},
    "mla_absorbed_prefill": {"phase": "prefill", "variant": "mla", "form": "absorbed", "q_len": 50},
    "mla_recompute_prefill": {"phase": "prefill", "variant": "mla", "form": "recompute", "q_len": 50},
}
"""For each contract the axes that its kernels are tried on, beside `SMALL_SHAPE`."""

BUDGET = Budget(max_s=0.05, min_samples=5, max_samples=20)


def examine_kernels(examination: Examination) -> list[Finding]:
    """Bind, run and check every kernel on this device, those of other packages aside."""
    device = examination.device
    runner = Runner(device, make_timer(choose_method("auto", device), device), budget=BUDGET)
    findings = []
    for kernel in (each for each in all_kernels() if not each.peer):
        if runner.spoiled:
            findings.append(Finding(kernel.name, "not here", "not tried: a kernel before it spoiled the process"))
            continue
        axes = {**SMALL_SHAPE, **SMALL_CASES[kernel.contract]}
        (case,) = make_cases({name: (value,) for name, value in axes.items()})
        findings.append(judge_kernel(kernel, runner.run(case, kernel), device))
    return findings


def judge_kernel(kernel: Kernel, record: Record, device: str) -> Finding:
    """What the record of a small case says of its kernel."""
    bind_s = record.phases_s.get("bind")
    data = {
        "status": record.status,
        "reason": record.reason,
        "case_id": record.case.case_id,
        "relative_error": record.relative_error,
        "bind_s": bind_s,
        "latency_us": latency_us(record),
    }
    if record.status == "ok":
        bound = format_latency(None if bind_s is None else bind_s * 1e6)
        error = format_error(record.relative_error)
        text = f"correct (relative error {error}); bound and compiled in {bound}; {format_latency(latency_us(record))}"
        return Finding(kernel.name, "good", text, data=data)
    if record.status == "unavailable":
        return Finding(kernel.name, "not here", "its package is not installed", record.reason, data)
    if device not in kernel.devices or (record.status == "unsupported" and not kernel.by_default):
        return Finding(kernel.name, "not here", record.reason, data=data)
    status: Status = "warning" if record.status == "unsupported" else "bad"
    mend = "" if status == "warning" else "do not use it here; see the traceback above, and report it"
    return Finding(kernel.name, status, f"{record.status} on {record.case.label}: {record.reason}", mend, data)
