"""The faulty kernels, importable in this process and in workers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlabench.measure.kernels import all_kernels

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"


@pytest.fixture
def faulty_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(PLUGIN), *sys.path])
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'kernels'}:{PLUGIN}")
    all_kernels.cache_clear()
    yield
    all_kernels.cache_clear()
