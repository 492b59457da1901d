"""Hardware counters: is cold cold, and do the suite's bytes agree with what the memory moved."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mlabench.cases.axes import Value
from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.launches import make_case, split_at_marks
from mlabench.doctor.ncu import METRICS, Counted, most_passes, ncu_command, parse_ncu
from mlabench.errors import UsageError
from mlabench.units import format_bytes, format_change, format_percent

Axes = Mapping[str, Value]

_MHA: Axes = {"variant": "mha", "num_q_heads": 128}
_GQA: Axes = {"variant": "gqa", "num_q_heads": 128, "num_kv_heads": 8}
_MQA: Axes = {"variant": "mqa", "num_q_heads": 128}
_MLA_16: Axes = {"variant": "mla", "num_q_heads": 16}
_MLA_128: Axes = {"variant": "mla", "num_q_heads": 128}

CASES: tuple[Axes, ...] = (
    {**_MHA, "batch": 1, "kv_len": 64},
    {**_MHA, "batch": 1, "kv_len": 512},
    {**_MHA, "batch": 8, "kv_len": 512},
    {**_MHA, "batch": 8, "kv_len": 4096},
    {**_GQA, "batch": 1, "kv_len": 1024},
    {**_GQA, "batch": 2, "kv_len": 4096},
    {**_GQA, "batch": 16, "kv_len": 4096},
    {**_GQA, "batch": 32, "kv_len": 16384},
    {**_MQA, "batch": 1, "kv_len": 8192},
    {**_MQA, "batch": 8, "kv_len": 8192},
    {**_MQA, "batch": 32, "kv_len": 16384},
    {**_MQA, "batch": 128, "kv_len": 32768},
    {**_MLA_16, "batch": 1, "kv_len": 4096},
    {**_MLA_16, "batch": 8, "kv_len": 4096},
    {**_MLA_16, "batch": 32, "kv_len": 8192},
    {**_MLA_16, "batch": 112, "kv_len": 16384},
    {**_MLA_128, "batch": 1, "kv_len": 4096},
    {**_MLA_128, "batch": 8, "kv_len": 4096},
    {**_MLA_128, "batch": 32, "kv_len": 8192},
    {**_MLA_128, "batch": 112, "kv_len": 16384},
)
"""Cold cases: each variant with a KV cache of about 4 MB, 35 MB, 0.3 GB and 2 GB."""

PLANTED: tuple[Axes, ...] = (
    {**_GQA, "batch": 1, "kv_len": 1024, "warm": True},
    {**_MLA_128, "batch": 1, "kv_len": 4096, "warm": True},
)
"""Cases that are called with their cache full, which the counters must show."""

LEAST_COLD = 0.95
"""Share of the KV bytes that a cold call reads from memory at least."""

MOST_APART = 0.05
"""Median difference between the suite's bytes and the memory's, at most."""

TIMEOUT_S = 500


@dataclass(frozen=True, slots=True)
class CountedCase:
    """What the memory moved in one call of a case beside what the suite says, in bytes."""

    label: str
    warm: bool
    kv_cache_bytes: int
    bytes_moved: int
    workspace_bytes: int | None
    dram_read_bytes: float
    dram_write_bytes: float
    l2_read_sectors: float
    kernels: tuple[str, ...]

    @property
    def cold_share(self) -> float:
        """Bytes read from memory over KV bytes."""
        return self.dram_read_bytes / self.kv_cache_bytes

    @property
    def apart(self) -> float:
        """Bytes that the memory moved over those of the suite, less one."""
        return (self.dram_read_bytes + self.dram_write_bytes) / self.bytes_moved - 1

    @property
    def is_workspace(self) -> bool:
        """Whether one writing and one reading of the workspace, or less, explain what is more than `MOST_APART`."""
        return 0 < self.apart * self.bytes_moved <= 2 * (self.workspace_bytes or 0) + MOST_APART * self.bytes_moved


def examine_counters(examination: Examination) -> list[Finding]:
    """Run the cases under ncu and judge what it counted."""
    if examination.device != "cuda":
        return [Finding("counters", "bad", "nothing was proven: they are a GPU's", "ask for them where there is a GPU")]
    ncu = shutil.which("ncu")
    if ncu is None:
        text = "nothing was proven: ncu is not on the PATH"
        return [Finding("counters", "bad", text, "install Nsight Compute, add its folder")]
    asked = (*CASES, *PLANTED)
    log, workspaces = _count(ncu, asked)
    try:
        return judge_counters(asked, parse_ncu(log), most_passes(log), workspaces)
    except UsageError as error:
        text = f"nothing was proven: {error}"
        return [Finding("counters", "bad", text, "see `ncu --version` and the driver")]


def judge_counters(
    asked: Sequence[Axes], counted: Sequence[Counted], passes: int | None, workspaces: Sequence[int | None]
) -> list[Finding]:
    """Whether cold is cold, the planted warm calls show as warm, and the bytes agree; bad, too, if a case is missing.

    `workspaces` are the sizes of what the kernels allocated beside the case's tensors, in bytes.
    """
    groups = list(split_at_marks((kernel.kernel, kernel) for kernel in counted))
    triples = zip(asked, groups, workspaces, strict=False)
    cases = [_counted_case(axes, group, workspace) for axes, group, workspace in triples if group]
    cold, warm = [case for case in cases if not case.warm], [case for case in cases if case.warm]
    findings = [_judge_passes(passes)] if passes != 1 else []
    if len(cases) < len(asked):
        text = f"{len(asked) - len(cases)} of {len(asked)} cases launched nothing"
        findings.append(Finding("cases", "bad", text, "see the child's traceback above"))
    if cold:
        findings += [_judge_cold(cold, sum(not axes.get("warm") for axes in asked)), _judge_bytes(cold)]
    if warm:
        findings.append(_judge_planted(warm))
    return findings


def _judge_passes(passes: int | None) -> Finding:
    if passes is None:
        return Finding("passes", "not here", "ncu does not tell how many passes it made; the planted warm calls do")
    text = f"ncu made {passes} passes a kernel: memory restored in between fills the cache"
    return Finding("passes", "bad", text, "ask for fewer metrics (mlabench/doctor/ncu.py)")


def _judge_cold(cases: Sequence[CountedCase], asked: int) -> Finding:
    warm = [case for case in cases if case.cold_share < LEAST_COLD]
    least = min(cases, key=lambda case: case.cold_share)
    text = (
        f"{len(cases) - len(warm)} of {asked} cases of {_sizes(cases)} KV read at least "
        f"{format_percent(LEAST_COLD)} of it from memory; the least {format_percent(least.cold_share, 1)} "
        f"({least.label})"
    )
    if len(cases) < asked:
        text += f"; {asked - len(cases)} were not counted"
    if not warm and len(cases) == asked:
        return Finding("cold by counters", "good", text, data=_data(cases))
    leaves = "the flush leaves lines in the cache: trust no cold time here"
    mend = leaves if warm else "see why under cases"
    return Finding("cold by counters", "bad", text, mend, _data(cases))


def _judge_planted(cases: Sequence[CountedCase]) -> Finding:
    shares = ", ".join(f"{format_percent(case.cold_share, 1)} ({case.label})" for case in cases)
    text = f"calls with a full cache read from memory: {shares}"
    if all(case.cold_share < LEAST_COLD for case in cases):
        return Finding("planted warm", "good", f"{text}: told apart from cold", data=_data(cases))
    mend = "these counters cannot tell cold from warm here"
    return Finding("planted warm", "bad", f"{text}: taken for cold", mend, _data(cases))


def _judge_bytes(cases: Sequence[CountedCase]) -> Finding:
    middle = median(abs(case.apart) for case in cases)
    exceptions = [case for case in cases if abs(case.apart) > MOST_APART]
    strange = [case for case in exceptions if not case.is_workspace]
    text = (
        f"memory moved {format_percent(middle, 1)} (median over {len(cases)} cases) more or less than bytes_moved "
        f"says; {len(exceptions)} of them by more than {format_percent(MOST_APART)}"
    )
    text += "".join(f"; {case.label} by {format_change(case.apart, 1)}, {_cause(case)}" for case in exceptions)
    data = {"median_apart": middle, "unexplained": [case.label for case in strange]}
    if middle > MOST_APART:
        return Finding("accounting", "bad", text, "bandwidths of the suite are off by as much", data)
    mend = "see what else these kernels read or write" if strange else ""
    return Finding("accounting", "warning" if strange else "good", text, mend, data)


def _cause(case: CountedCase) -> str:
    if case.is_workspace:
        return f"partial results written and read again: a workspace of {format_bytes(case.workspace_bytes or 0)}"
    return "which its workspace does not explain"


def _counted_case(axes: Axes, group: Sequence[Counted], workspace: int | None) -> CountedCase:
    case = make_case({name: value for name, value in axes.items() if name != "warm"})
    read, written, sectors = (sum(kernel.values[metric] for kernel in group) for metric in METRICS)
    names = tuple(kernel.kernel for kernel in group)
    warm = bool(axes.get("warm"))
    sizes = (case.kv_cache_bytes, case.bytes_moved, workspace)
    return CountedCase(case.label, warm, *sizes, read, written, sectors, names)


def _data(cases: Sequence[CountedCase]) -> dict[str, Any]:
    return {"cases": [asdict(case) | {"cold_share": case.cold_share, "apart": case.apart} for case in cases]}


def _sizes(cases: Sequence[CountedCase]) -> str:
    sizes = sorted(case.kv_cache_bytes for case in cases)
    return f"{format_bytes(sizes[0])} to {format_bytes(sizes[-1])}"


def _count(ncu: str, asked: Sequence[Axes]) -> tuple[str, Sequence[int | None]]:
    with tempfile.TemporaryDirectory() as folder:
        cases, workspaces = (Path(folder) / name for name in ("cases.json", "workspaces.json"))
        cases.write_text(json.dumps(list(asked)), encoding="utf-8")
        files = ("--cases", str(cases), "--workspaces", str(workspaces))
        child = [sys.executable, "-m", "mlabench.doctor.counted_calls", *files]
        done = subprocess.run(ncu_command(ncu, child), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        sys.stderr.write(done.stderr)
        sizes = json.loads(workspaces.read_text(encoding="utf-8")) if workspaces.exists() else [None] * len(asked)
        return done.stdout, sizes
