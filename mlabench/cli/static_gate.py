"""`mlabench gate --static`: hold what the kernels compile to against the stored inspection; no GPU is needed."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlabench.cli.inspect import inspect_with_progress
from mlabench.cli.outputs import GITHUB, STANDARD_OUTPUT, check_targets, refusals_to, write_output
from mlabench.cli.show import console, print_table
from mlabench.cli.static_outputs import HEADERS, STATIC_FORMATS, cells
from mlabench.errors import ExitCode
from mlabench.units import format_exact
from mlabench.verdict.outputs import GATE_REFUSALS

if TYPE_CHECKING:
    from mlabench.machine_code.static_gate import StaticResult

SHOWN = 60
"""Differences in the table, the worst first; the rest are counted."""


def run_static(
    baseline: Path | None = None,
    kernels: Sequence[str] = (),
    archs: Sequence[str] = (),
    targets: Mapping[str, str | None] = MappingProxyType({}),
    *,
    quiet: bool = False,
) -> ExitCode:
    """Inspect the kernels, print what differs from the baseline and the outcome, and return the exit code.

    The baseline is by default the committed one of this Triton version; `targets` are files by the name of a format.
    Raises `UsageError` for names that are unknown and a file that cannot be written, `MissingBaselineError` for a
    baseline that cannot be compared with.
    """
    check_targets(targets)
    with refusals_to(targets, GATE_REFUSALS):
        result = _inspect(baseline, kernels, archs, quiet=quiet)
    if targets.get(GITHUB):
        sys.stdout.write(STATIC_FORMATS[GITHUB](result))
    if any(target == STANDARD_OUTPUT for name, target in targets.items() if name != GITHUB):
        print(result.summary, file=sys.stderr)
    else:
        _print_result(result)
    for name, target in targets.items():
        if target is not None and name != GITHUB:
            write_output(name, target, STATIC_FORMATS[name](result))
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
        print_table(HEADERS, map(cells, listed))
    if left := len(result.differences) - len(listed):
        _line(f"and {format_exact(left)} more (--json lists every one)")
    code = result.exit_code
    if code == ExitCode.REGRESSION:
        _line(_recipe(result))
    _line(result.summary, "bold green" if code == ExitCode.PASS else "bold red")


def _recipe(result: "StaticResult") -> str:
    """How to store a change that is meant, with every other Triton that has a baseline beside this one."""
    others = sorted(path for path in result.path.parent.glob("triton-*.json") if path.name != result.path.name)
    also = "".join(f"; then with Triton {path.stem.removeprefix('triton-')}, into {path}" for path in others)
    return f"hint: if the change is meant, store it: mlabench inspect --json > {result.path}{also}"


def _line(text: str, style: str | None = None) -> None:
    console().print(text, style=style, markup=False)
