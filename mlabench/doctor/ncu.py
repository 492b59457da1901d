"""Nsight Compute's command line: the call, and what it prints."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlabench.errors import UsageError

METRICS = ("dram__bytes_read.sum", "dram__bytes_write.sum", "lts__t_sectors_op_read.sum")
"""Few enough for one pass: between passes ncu restores memory, and with it fills the cache."""

UNITS = {"": 1, "%": 1, "byte": 1, "Kbyte": 10**3, "Mbyte": 10**6, "Gbyte": 10**9, "sector": 1, "ns": 1, "nsecond": 1}
"""Of what ncu prints: bytes, sectors, ns, and shares in percent."""

_PASSES = re.compile(r"^==PROF== .*\b(\d+) pass(?:es)?\b")

_ERROR = re.compile(r"^==ERROR== (.*)")


@dataclass(frozen=True, slots=True)
class Counted:
    """One profiled kernel; `values` by metric in the units of `UNITS`."""

    kernel: str
    values: Mapping[str, float]


def ncu_command(
    ncu: str, child: Sequence[str], metrics: Sequence[str] = METRICS, *, flush_caches: bool = False
) -> list[str]:
    """Count what the child launches between profiler start and stop, clocks left alone.

    With flush_caches ncu empties all caches before each pass over a kernel.
    """
    return [
        *(ncu, "--clock-control", "none", "--cache-control", "all" if flush_caches else "none"),
        *("--replay-mode", "kernel", "--profile-from-start", "off", "--metrics", ",".join(metrics)),
        *("--csv", "--page", "raw", "--print-units", "base"),
        *child,
    ]


def parse_ncu(text: str, metrics: Sequence[str] = METRICS) -> list[Counted]:
    """The kernels of a raw CSV page, in the order of launch. Raises `UsageError` with what ncu says is wrong."""
    lines = [line for line in text.splitlines() if line and not line.startswith("==")]
    rows = csv.DictReader(line for line in lines[_header(lines) :])
    counted, units = [], dict.fromkeys(metrics, "")
    for row in rows:
        if missing := [name for name in metrics if row.get(name) is None]:
            raise UsageError(f"ncu did not count {' and '.join(missing)}")
        if not row.get("ID"):
            units = {metric: row[metric] or "" for metric in metrics}
            continue
        counted.append(Counted(row["Kernel Name"], {name: _number(row[name], units[name]) for name in metrics}))
    if not counted:
        raise UsageError(_complaint(text))
    return counted


def most_passes(text: str) -> int | None:
    """The largest number of passes that a kernel took; None where the text names none."""
    found = [int(match[1]) for line in text.splitlines() if (match := _PASSES.match(line))]
    return max(found, default=None)


def _header(lines: Sequence[str]) -> int:
    return next((index for index, line in enumerate(lines) if line.startswith('"ID"')), len(lines))


def _number(text: str, unit: str) -> float:
    if unit not in UNITS:
        raise UsageError(f"ncu gives a unit that is not known here: {unit!r}")
    return float(text.replace(",", "")) * UNITS[unit]


def _complaint(text: str) -> str:
    errors = [match[1] for line in text.splitlines() if (match := _ERROR.match(line))]
    if any("ERR_NVGPUCTRPERM" in error for error in errors):
        return "ncu may not read the counters: run as root, or see NVIDIA's page on ERR_NVGPUCTRPERM"
    return f"ncu counted no kernel: {errors[0] if errors else 'it gave no reason'}"
