"""Faults of one side of two that are measured in alternation, one of them at a commit; the worker is this process."""

import sys
from collections.abc import Sequence

from mlabench.measure.kernels import all_kernels
from tests.cli.commands import SOURCES
from tests.faults.place import Place, Plant
from tests.faults.sweeps import NearWorker
from tests.git_kernels import PACKAGE, git, make_repository

RIGHT = "from mla_kernels.mla_decode_torch import bind\n"

WRONG = """
from mla_kernels.mla_decode_torch import bind as bind_right


def bind(**tensors):
    launch = bind_right(**tensors)

    def run():
        launch()
        tensors["out"].mul_(1.02)

    return run
"""

UNBOUND = """
def bind(**tensors):
    raise ValueError("it cannot be bound")
"""

HELPED = """
def bind(**tensors):
    from helper_beside import bind

    return bind(**tensors)
"""
"""A kernel whose work is done by a module outside of its package."""

SMALL = ("--device", "cpu", "-a", "num_q_heads=4", "-a", "kv_len=70", "--out", "now")


def sides(*command: str, base: str = RIGHT, current: str = RIGHT, file: str = f"{PACKAGE}/mended.py") -> Plant:
    """The command where the kernel `mended` reads `base` in the last commit and `current` in the files at hand.

    With another `file` that one does, and the kernel calls what is in it.
    """

    def plant(place: Place) -> Sequence[str]:
        repository = make_repository(place.path / "repository")
        (repository.folder / PACKAGE / "mended.py").write_text(HELPED)
        kernel = repository.folder / file
        kernel.write_text(base)
        git(repository.path, "add", "--all")
        git(repository.path, "commit", "--quiet", "--no-gpg-sign", "--allow-empty", "-m", "the base")
        kernel.write_text(current)
        place.monkeypatch.setattr(sys, "path", [str(repository.folder), *sys.path])
        place.monkeypatch.setenv("PYTHONPATH", f"{repository.folder}:{SOURCES}")
        place.monkeypatch.setattr("mlabench.measure.side_by_side.Worker", NearWorker)
        all_kernels.cache_clear()
        return (*command, *SMALL)

    return plant
