"""Stand-ins for the peers' packages: they take what the real ones take, refuse anything else, and compute on a CPU."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.measure.kernels import find_kernel
from mlabench.measure.runner import Runner
from mlabench.measure.timing.fake import FakeTimer
from mlabench.records.record import Record

PACKAGES = Path(__file__).parent / "packages"
SMALL = {"num_q_heads": 4, "kv_len": 70, "batch": 3}

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts stand-ins on the path: those of `others`, and of folders by name."""
    gpu = SimpleNamespace(multi_processor_count=132, major=9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: gpu)
    before = set(sys.modules)

    def put(*folders: str) -> None:
        monkeypatch.setattr(sys, "path", [*(str(PACKAGES / folder) for folder in folders), *sys.path])
        importlib.invalidate_caches()

    yield put
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(PACKAGES)):
            del sys.modules[name]


@pytest.fixture
def any_sdpa_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU has neither backend: let torch take what it has."""
    monkeypatch.setattr("torch.nn.attention.sdpa_kernel", lambda _backend: contextlib.nullcontext())


def small_case(**axes: int | str) -> Case:
    """One case of these axes, small in the others."""
    return make_cases({name: (value,) for name, value in {**SMALL, **axes}.items()})[0]


def measure(kernel: str, seed: int = 0, **axes: int | str) -> Record:
    """One point of the peer on a small case, on the CPU, checked before and after its timed call."""
    case = small_case(**axes)
    on_cpu = replace(find_kernel(kernel), devices=("cpu",))
    return Runner("cpu", FakeTimer((5.0, 6.0)), seed).run(case, on_cpu)
