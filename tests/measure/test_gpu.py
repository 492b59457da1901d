"""The whole measuring path on a GPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.measure.config import SweepConfig
from mlabench.measure.isolation import Worker, WorkerSetup
from mlabench.measure.kernels import find_kernel, kernels_for
from mlabench.measure.plan import Point
from mlabench.measure.sweep import measure_point
from mlabench.records.record import Record

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.usefixtures("faulty_kernels"),
]

SHAPES = {"variant": ("mha", "gqa", "mqa", "mla"), "form": ("absorbed", "recompute", "expanded"), "num_q_heads": (16,)}


@pytest.fixture(params=["graph", "events"])
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    budget = {"max_s": 0.05, "precision": 0.05}
    worker = Worker(WorkerSetup("cuda", request.param, "cold", 0, budget, tmp_path / "worker.log"))
    yield worker
    worker.stop()


def measure(worker: Worker, case: Case, kernel: str) -> Record:
    config = SweepConfig(device="cuda", method="graph")
    return measure_point(worker, Point(case, find_kernel(kernel)), config)


@pytest.mark.parametrize(
    "axes",
    [
        {"kv_len": (1000,), "batch": (3,)},
        {"kv_len": (4097,), "batch": (9,), "kv_len_dist": ("ragged",), "q_len": (2,), "dtype": ("float16",)},
        {"kv_len": (300,), "batch": (2,), "page_size": (16,)},
        {"phase": ("prefill",), "kv_len": (1500,), "q_len": (700,), "batch": (3,), "kv_len_dist": ("ragged",)},
        {"phase": ("prefill",), "kv_len": (1000,), "page_size": (16,), "dtype": ("float16",)},
    ],
)
def test_every_kernel_of_the_suite_is_right_and_timed(worker: Worker, axes: dict[str, tuple[int | str, ...]]) -> None:
    for case in make_cases({**SHAPES, **axes}):
        for kernel in kernels_for(case, "cuda", ["triton", "torch"]):
            record = measure(worker, case, kernel.name)
            assert (record.status, record.reason) == ("ok", ""), f"{case.label}, {kernel.name}"
            assert record.timing is not None
            assert record.timing.cache == "cold"
            assert record.telemetry is not None
            assert record.telemetry["sm_clock_mhz"][-1] > 0
            assert record.timing.sm_clocks_mhz is not None
            assert len(record.timing.sm_clocks_mhz) == len(record.timing.samples_us)


@pytest.mark.parametrize(
    "axes",
    [
        {"kv_len": (1000,), "batch": (3,)},
        {"kv_len": (700,), "batch": (9,), "kv_len_dist": ("ragged",), "q_len": (2,), "dtype": ("float16",)},
        {"phase": ("prefill",), "kv_len": (500,), "q_len": (200,), "batch": (3,), "kv_len_dist": ("ragged",)},
    ],
)
def test_whole_layers_are_right_and_their_parts_timed(worker: Worker, axes: dict[str, tuple[int | str, ...]]) -> None:
    dimensions = {"scope": ("layer",), "hidden_size": (1024,), "q_lora_rank": (512,)}
    forms = {"form": ("absorbed", "premultiplied", "recompute", "expanded")}
    for case in make_cases({**SHAPES, **forms, **dimensions, **axes}):
        for kernel in kernels_for(case, "cuda", ["triton", "torch"]):
            record = measure(worker, case, kernel.name)
            assert (record.status, record.reason) == ("ok", ""), f"{case.label}, {kernel.name}"
            assert record.timing is not None
            assert [part.name for part in record.parts] == [part.name for part in case.parts]
            assert all(part.latency_us > 0 for part in record.parts)


def test_peers_are_cores_of_layers_where_they_are_installed(worker: Worker) -> None:
    (case,) = make_cases({"scope": ("layer",), "kv_len": (1000,), "batch": (3,)}, ["deepseek-v2-lite"])
    for kernel in kernels_for(case, "cuda", ["peers"]):
        record = measure(worker, case, kernel.name)
        assert record.status in ("ok", "unsupported", "unavailable"), f"{kernel.name}: {record.reason}"


def test_a_cuda_fault_does_not_spoil_the_next_point(worker: Worker) -> None:
    case = make_cases({"num_q_heads": (16,), "kv_len": (200,)})[0]
    fault = measure(worker, case, "faulting")
    assert fault.status == "error"
    assert "CUDA error" in fault.reason
    assert measure(worker, case, "mla_decode_torch").status == "ok"
    assert measure(worker, case, "mla_decode_triton").status == "ok"


def test_a_case_beyond_the_memory_is_oom_and_the_next_one_is_measured(worker: Worker) -> None:
    large = make_cases({"variant": ("mha",), "kv_len": (1 << 21,), "batch": (8,)})[0]
    small = make_cases({"num_q_heads": (16,), "kv_len": (200,)})[0]
    assert measure(worker, large, "grouped_decode_triton").status == "oom"
    assert measure(worker, small, "mla_decode_triton").status == "ok"


def test_no_replay_writes_what_another_graph_of_a_launch_gave() -> None:
    from mlabench.measure.peers.launch import Outputs, OwnOutputs
    from mlabench.measure.timing import cuda

    def run() -> Outputs:
        out = torch.empty(1 << 20, device="cuda")
        # Freed before the next capture, whose outputs must not come to lie here.
        parts = torch.ones(4, 1 << 20, device="cuda")
        torch.sum(parts, dim=0, out=out)
        return {"out": out}

    launch = OwnOutputs({}, run)
    replay = cuda.capture(launch, 3)
    every = [outputs["out"] for outputs in launch.outputs]
    for number in range(3):
        for out in every:
            out.fill_(torch.nan)
        replay()
        torch.cuda.synchronize()
        assert [bool(out.isnan().any()) for out in every] == [other != number for other in range(3)]
        assert [bool(out.isnan().all()) for out in every] == [other != number for other in range(3)]
