"""Where the outputs of a command go: files, or one of them to standard output."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
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
    """Before anything is measured: can every output, by its option's name, be written?

    Raises `UsageError` for two that go to one place, and for a file that cannot be written.
    """
    there = [f"--{name}" for name, target in targets.items() if target == STANDARD_OUTPUT]
    if len(there) > 1:
        raise UsageError(f"{' and '.join(there)} cannot share standard output: give all but one a file")
    taken: dict[Path, str] = {}
    for name, target in targets.items():
        if target is None or target == STANDARD_OUTPUT:
            continue
        path = Path(target)
        if obstacle := _obstacle(path):
            raise UsageError(f"cannot write to {target}: {obstacle}; choose another --{name}")
        other = taken.setdefault(path.resolve(), name)
        if other != name:
            raise UsageError(f"--{other} and --{name} cannot share {target}: give each a file of its own")


def deliver(
    result: T,
    formats: Mapping[str, Callable[[T], str]],
    targets: Mapping[str, str | None],
    show_all: bool,
    sort: str = "ratio",
) -> None:
    """Print the result's table where there is room for it, and write it in each format that has a target.

    What was measured is shown first, whatever becomes of the files. Raises `UsageError` for one that cannot be written.
    """
    files = {name: target for name, target in targets.items() if target is not None and target != STANDARD_OUTPUT}
    for name in targets.keys() - files.keys():
        if targets[name] is not None:
            sys.stdout.write(formats[name](result))
    if any(target == STANDARD_OUTPUT for name, target in targets.items() if name != GITHUB):
        print(result.summary, file=sys.stderr)
    else:
        print_result(result, show_all, sort)
    for name, target in files.items():
        write_output(name, target, formats[name](result))


@contextlib.contextmanager
def refusals_to(
    targets: Mapping[str, str | None], formats: Mapping[str, Callable[[UsageError], str]]
) -> Iterator[None]:
    """Write a `UsageError` to every target before it goes on, so that no file of a run that passed is left there."""
    try:
        yield
    except UsageError as error:
        for name, target in targets.items():
            if target is not None:
                # Why nothing was judged matters more than that it could not be written.
                with contextlib.suppress(UsageError):
                    write_output(name, target, formats[name](error))
        raise


def write_output(name: str, target: str, text: str) -> None:
    """Write to a file or `-`. Raises `UsageError` with the option's name for a file that cannot be written."""
    if target == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    path = Path(target)
    # Other commands of a CI step write to its summary too.
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    mode = "a" if step_summary and path == Path(step_summary) else "w"
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --{name}") from None


def _obstacle(path: Path) -> str:
    """Why a file cannot be written; empty if it can."""
    if path.is_dir():
        return "it is a folder"
    folder = path.absolute().parent
    if not folder.is_dir():
        return "its folder is not there"
    return "" if os.access(path if path.exists() else folder, os.W_OK) else "permission denied"
