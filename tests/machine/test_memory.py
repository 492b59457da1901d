"""How long a point waits for the memory that those before it gave back."""

import pytest
import torch

from mlabench.cases.case import Case
from mlabench.machine import memory
from mlabench.machine.memory import CLEARED_BYTES_PER_S, Clearing
from mlabench.measure.kernels import find_kernel
from mlabench.measure.runner import Runner
from mlabench.measure.timing.methods import make_timer


def test_what_was_given_back_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    given_back = iter((30e9, 30e9, 34e9))
    monkeypatch.setattr(memory, "given_back_bytes", lambda: int(next(given_back)))
    monkeypatch.setattr("time.sleep", slept_s.append)
    clearing = Clearing(cleared_bytes=10_000_000_000)
    for _ in range(3):
        clearing.wait()
    assert slept_s == pytest.approx([20e9 / CLEARED_BYTES_PER_S, 0.0, 4e9 / CLEARED_BYTES_PER_S])


def test_without_a_gpu_nothing_was_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    assert Clearing().uncleared_bytes == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_point_waits_for_the_memory_of_the_case_before() -> None:
    runner = Runner("cuda", make_timer("graph", "cuda"))
    kernel = find_kernel("grouped_decode_torch")
    sizes = {"variant": "mha", "num_q_heads": 64, "num_kv_heads": 64, "head_dim": 128, "q_len": 1, "batch": 1}
    rest = {"page_size": 64, "dtype": "bfloat16", "phase": "decode", "scope": "core"}
    waits_s = {}
    for kv_len in (32768, 1024):
        record = runner.run(Case.from_fields({**sizes, **rest, "kv_len": kv_len}), kernel)
        assert record.status == "ok"
        waits_s[kv_len] = record.phases_s["clearing"]
    kv_bytes = 2 * 32768 * 64 * 128 * 2
    assert waits_s[1024] >= kv_bytes / CLEARED_BYTES_PER_S
