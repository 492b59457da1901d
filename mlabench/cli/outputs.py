"""Where the outputs of a comparison go: files, or one of them to standard output."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from mlabench.cli.gate_table import print_result
from mlabench.errors import UsageError
from mlabench.verdict.comparison import Comparison

STANDARD_OUTPUT = "-"

GITHUB = "github"
"""Annotations go to standard output beside the table: GitHub reads them out of a step's log."""

T = TypeVar("T", bound=Comparison)


def check_targets(targets: Mapping[str, str | None]) -> None:
    """Raise `UsageError` if more than one output, by its option's name, is to go to standard output."""
    there = [f"--{name}" for name, target in targets.items() if target == STANDARD_OUTPUT]
    if len(there) > 1:
        raise UsageError(f"{' and '.join(there)} cannot share standard output: give all but one a file")


def deliver(
    result: T,
    formats: Mapping[str, Callable[[T], str]],
    targets: Mapping[str, str | None],
    show_all: bool,
    sort: str = "ratio",
) -> None:
    """Write the result in each format that has a target, a file or `-`, and print its table where there is room for it.

    Raises `UsageError` for a file that cannot be written.
    """
    for name, target in targets.items():
        if target == STANDARD_OUTPUT:
            sys.stdout.write(formats[name](result))
        elif target is not None:
            _write(Path(target), formats[name](result), name)
    if any(target == STANDARD_OUTPUT for name, target in targets.items() if name != GITHUB):
        print(result.summary, file=sys.stderr)
    else:
        print_result(result, show_all, sort)


def _write(path: Path, text: str, name: str) -> None:
    # Other commands of a CI step write to its summary too.
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    mode = "a" if step_summary and path == Path(step_summary) else "w"
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --{name}") from None
