"""Where faults are planted, and what a plant is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.commands import call


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fault is planted: an empty folder, which is the working directory, and this process."""

    path: Path
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> int:
        """Run `mlabench ARGUMENTS` in this process and return its exit code."""
        return call(self.monkeypatch, *arguments)


Plant = Callable[[Place], Sequence[str]]
"""Plants a fault, and gives the arguments of the command that must find it."""
