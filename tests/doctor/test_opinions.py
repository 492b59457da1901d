"""How other tools are asked, on stand-ins for them that record what they are given."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from mlabench.doctor import opinions
from mlabench.doctor.opinions import SAMPLES, time_with_cupti, time_with_nvbench, time_with_proton


class Device:
    """Runs nothing, and keeps the order of the kernels with a clock that each moves on."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.kernels: list[tuple[str, int, int]] = []

    def kernel(self, name: str, time_ns: int) -> Callable[[], None]:
        def launch() -> None:
            self.kernels.append((name, self.now_ns, self.now_ns + time_ns))
            self.now_ns += time_ns + 500

        return launch


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(opinions, "_captured", lambda launch: launch)
    monkeypatch.setattr(opinions, "_flush", device.kernel("flush", 70_000))
    monkeypatch.setattr(opinions, "mark", device.kernel("at::cuda::spin_kernel(long)", 1000))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return device


def install(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def launches(device: Device) -> dict[str, Callable[[], None]]:
    split, combine = device.kernel("split", 8000), device.kernel("combine", 2000)

    def both() -> None:
        split()
        combine()

    return {"spin": device.kernel("_spin_kernel", 100_000), "mla": both}


def test_cupti_sees_the_launch_alone_from_its_first_kernel_to_its_last(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep: list[Callable[[list[Any]], None]] = []
    enabled: set[int] = set()

    def flush_all(_flag: int) -> None:
        records = [SimpleNamespace(name=name, start=start, end=end) for name, start, end in device.kernels]
        device.kernels.clear()
        keep[0](records if enabled else [])

    members = {
        "ActivityKind": SimpleNamespace(CONCURRENT_KERNEL=10),
        "activity_enable": enabled.add,
        "activity_disable": enabled.discard,
        "activity_register_callbacks": lambda _request, completed: keep.append(completed),
        "activity_flush_all": flush_all,
    }
    install(monkeypatch, "cupti")
    install(monkeypatch, "cupti.cupti", **members)
    times = time_with_cupti(launches(device))
    assert times == {"spin": [100.0] * SAMPLES, "mla": [10.5] * SAMPLES}
    assert not enabled


def test_nvbench_runs_each_launch_under_its_label(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[SimpleNamespace] = []
    samples: dict[str, list[float]] = {}

    def register(function: Callable[[Any], None]) -> SimpleNamespace:
        benchmark = SimpleNamespace(function=function, set_timeout=lambda _s: None)
        benchmark.set_name = lambda name: setattr(benchmark, "name", name)
        registered.append(benchmark)
        return benchmark

    def run_all(arguments: list[str]) -> None:
        assert Path(arguments[arguments.index("--jsonbin") + 1]).parent.is_dir()
        for benchmark in registered:
            benchmark.function(SimpleNamespace(exec=partial(run, benchmark.name)))

    def run(name: str, launch: Callable[[Any], None], *, batched: bool) -> None:
        assert not batched
        before = device.now_ns
        launch(SimpleNamespace(get_stream=lambda: SimpleNamespace(addressof=lambda: 7)))
        samples[name] = [(device.now_ns - before) / 1e9]

    def from_json(_path: Path) -> dict[str, list[SimpleNamespace]]:
        return {name: [SimpleNamespace(samples=seconds)] for name, seconds in samples.items()}

    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda pointer: pointer)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
    install(monkeypatch, "cuda")
    install(monkeypatch, "cuda.bench", register=register, run_all_benchmarks=run_all)
    install(monkeypatch, "cuda.bench.results", BenchmarkResult=SimpleNamespace(from_json=from_json))
    times = time_with_nvbench(launches(device))
    assert times == {"spin": [pytest.approx(100.5)], "mla": [pytest.approx(11.0)]}


def test_proton_sums_the_kernels_of_a_scope_over_its_launches(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton.profiler as proton

    totals: dict[str, int] = {}
    path: list[Path] = []

    @contextlib.contextmanager
    def scope(label: str) -> Iterator[None]:
        before = len(device.kernels)
        yield
        totals[label] = totals.get(label, 0) + sum(end - start for _, start, end in device.kernels[before:])

    def finalize() -> None:
        nodes = [
            {"frame": {"name": label}, "metrics": {}, "children": [kernel_node(total)]}
            for label, total in totals.items()
        ]
        root = {"frame": {"name": "ROOT"}, "metrics": {}, "children": nodes}
        path[0].with_suffix(".hatchet").write_text(json.dumps([root, {"CUDA": {}}]))

    monkeypatch.setattr(proton, "start", lambda name, **_options: path.append(Path(name)))
    monkeypatch.setattr(proton, "scope", scope)
    monkeypatch.setattr(proton, "finalize", finalize)
    assert time_with_proton(launches(device)) == {"spin": [100.0], "mla": [10.0]}


def kernel_node(total_ns: int) -> dict[str, Any]:
    return {"frame": {"name": "kernel"}, "metrics": {"count": SAMPLES, "time (ns)": total_ns}, "children": []}
