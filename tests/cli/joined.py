"""A package installed for one test, whose entry points name kernels, or what is none."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from mlabench.measure.kernels import Kernel, all_kernels


def install_kernels(folder: Path, monkeypatch: pytest.MonkeyPatch, **kernels: Kernel | None) -> None:
    """Give this process a module `joined`, and an entry point for each of these attributes of it."""
    module = ModuleType("joined")
    vars(module).update(kernels)
    monkeypatch.setitem(sys.modules, "joined", module)
    info = folder / "joined-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: joined\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[mlabench.kernels]", *(f"{n} = joined:{n}" for n in kernels)]))
    monkeypatch.syspath_prepend(folder)
    # The table is kept once it was read.
    monkeypatch.setattr("mlabench.measure.kernels.all_kernels", all_kernels.__wrapped__)
