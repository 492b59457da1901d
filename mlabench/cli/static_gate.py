"""`mlabench gate --static`: hold what the kernels compile to against the stored inspection; no GPU is needed."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlabench.cli.inspect import inspect_with_progress
from mlabench.cli.outputs import STANDARD_OUTPUT, check_targets, refusals_to, write_output
from mlabench.cli.show import console, print_table
from mlabench.errors import ExitCode
from mlabench.units import NOT_MEASURED, format_exact
from mlabench.verdict.outputs import GATE_REFUSALS

if TYPE_CHECKING:
    from mlabench.machine_code.compare import Difference
    from mlabench.machine_code.static_gate import StaticResult

SHOWN = 60
"""Differences in the table, the worst first; the rest are counted."""


def run_static(
    baseline: Path | None = None,
    kernels: Sequence[str] = (),
    archs: Sequence[str] = (),
    json_path: str | None = None,
    *,
    quiet: bool = False,
) -> ExitCode:
    """Inspect the kernels, print what differs from the baseline and the outcome, and return the exit code.

    The baseline is by default the committed one of this Triton version. Raises `UsageError` for names that are unknown
    and a JSON file that cannot be written, `MissingBaselineError` for a baseline that cannot be compared with.
    """
    targets = {"json": json_path}
    check_targets(targets)
    with refusals_to(targets, GATE_REFUSALS):
        result = _inspect(baseline, kernels, archs, quiet=quiet)
    if json_path == STANDARD_OUTPUT:
        print(result.summary, file=sys.stderr)
    else:
        _print_result(result)
    if json_path is not None:
        write_output("json", json_path, json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n")
    return result.exit_code


def _inspect(baseline: Path | None, kernels: Sequence[str], archs: Sequence[str], *, quiet: bool) -> "StaticResult":
    from mlabench.machine_code.archs import find_archs
    from mlabench.machine_code.inspect import compiler_versions, make_jobs, select_kernels
    from mlabench.machine_code.static_gate import StaticResult, load_baseline, select_rows

    chosen, targets = select_kernels(kernels), find_archs(archs)
    path, stored = load_baseline(baseline, *compiler_versions(targets))
    names = [kernel.name for kernel in chosen] if kernels else []
    rows = select_rows(stored, names, [arch.name for arch in targets])
    return StaticResult(path, rows, inspect_with_progress(make_jobs(chosen, targets), quiet=quiet))


def _print_result(result: "StaticResult") -> None:
    listed = result.differences[:SHOWN]
    if listed:
        headers = ("verdict", "kernel", "configuration", "arch", "value", "baseline", "current")
        print_table(headers, map(_cells, listed))
    if left := len(result.differences) - len(listed):
        _line(f"and {format_exact(left)} more (--json lists every one)")
    code = result.exit_code
    if code == ExitCode.REGRESSION:
        _line(f"hint: if the change is meant, store it: mlabench inspect --json > {result.path}")
    _line(result.summary, "bold green" if code == ExitCode.PASS else "bold red")


def _line(text: str, style: str | None = None) -> None:
    console().print(text, style=style, markup=False)


def _cells(difference: "Difference") -> tuple[str, ...]:
    kernel, configuration, arch, function = difference.key
    values = (_text(difference.baseline), _text(difference.current))
    name = f"{kernel}: {function}" if function else kernel
    return (difference.verdict.value, name, configuration, arch, difference.name, *values)


def _text(value: int | float | str | None) -> str:
    if value is None:
        return NOT_MEASURED
    return format_exact(value) if isinstance(value, int) else str(value)
