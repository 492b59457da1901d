"""Tables and progress on the terminal, plain text where there is none."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import typer

from mlabench.units import format_seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PLAIN_WIDTH = 200
"""Columns of a table that goes to a pipe or file."""


def warn(text: str) -> None:
    """Tell on stderr what the user should know of, and that the command goes on."""
    typer.echo(f"mlabench: warning: {text}", err=True)


class Progress(Protocol):
    """What a long command tells while it runs."""

    def start(self, text: str) -> None:
        """Say what begins."""
        ...

    def finish(self, text: str) -> None:
        """Say what came out of it."""
        ...


def console(*, error: bool = False) -> "Console":
    """A console on standard output or error; wide where the output is no terminal, so that rows stay whole."""
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    shown = stream.isatty()
    # Names and paths may hold brackets, which are no markup.
    return Console(
        stderr=error, highlight=False, markup=False, soft_wrap=not shown, width=None if shown else PLAIN_WIDTH
    )


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table; numbers are given as text. What is too long for its column goes on below, and is not cut."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


@contextmanager
def progress(total: int, done: int = 0, *, quiet: bool = False) -> Iterator[Progress]:
    """A progress display on a terminal, a line for each finished step elsewhere; nothing where it is to be quiet."""
    if quiet:
        yield NoProgress()
        return
    if not sys.stderr.isatty():
        yield PlainProgress(total, done)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(20),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with RichProgress(*columns, console=console(error=True)) as rich_progress:
        task = rich_progress.add_task("", total=total, completed=done)
        yield TerminalProgress(rich_progress, task)


class NoProgress:
    """Says nothing."""

    def start(self, text: str) -> None:
        """Nothing."""

    def finish(self, text: str) -> None:
        """Nothing."""


class PlainProgress:
    """One line a step, with the time left as far as the steps so far tell."""

    def __init__(self, total: int, done: int) -> None:
        self._began = time.monotonic()
        self._total, self._done, self._first = total, done, done

    def start(self, text: str) -> None:
        """Nothing: the line comes when the step is finished."""

    def finish(self, text: str) -> None:
        """Print the line."""
        self._done += 1
        left = self._total - self._done
        pace_s = (time.monotonic() - self._began) / (self._done - self._first)
        time_left = f"  ({format_seconds(left * pace_s)} left)" if left else ""
        width = len(str(self._total))
        print(f"[{self._done:>{width}}/{self._total}] {text}{time_left}", file=sys.stderr, flush=True)


class TerminalProgress:
    """A bar that stays, with finished steps above it."""

    def __init__(self, rich_progress: "RichProgress", task: "TaskID") -> None:
        self._progress, self._task = rich_progress, task

    def start(self, text: str) -> None:
        """Show the step beside the bar."""
        self._progress.update(self._task, description=text)

    def finish(self, text: str) -> None:
        """Print the step above the bar."""
        self._progress.console.print(text, markup=False)
        self._progress.advance(self._task)
