"""The CUDA methods' own steps, on a stand-in for the device: what lies within the timed span and what before it."""

import contextlib
from typing import Any

import pytest
import torch

from mlabench.measure.timing import cuda, cuda_graph
from mlabench.measure.timing.cuda_events import CudaEventsTimer
from mlabench.measure.timing.cuda_graph import CudaGraphTimer
from mlabench.measure.timing.method import Budget

BUDGET = Budget(max_s=1.0, min_samples=5, max_samples=5)


class StandIn:
    """Writes down what a timer does, in order."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def note(self, what: str) -> Any:
        return lambda *_args, **_kwargs: self.order.append(what)

    def event(self, **_options: object) -> "StandIn.Event":
        return StandIn.Event(self)

    class Event:
        def __init__(self, device: "StandIn") -> None:
            self._device = device

        def record(self) -> None:
            self._device.order.append("event")

        def elapsed_time(self, _end: "StandIn.Event") -> float:
            return 0.0123456

    class Graph:
        def replay(self) -> None:
            DEVICE[0].order.append("launch")


DEVICE: list[StandIn] = []


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    DEVICE[:] = [stand_in]
    stream = type("Stream", (), {"wait_stream": lambda *_: None})
    for name, value in {
        "Event": stand_in.event,
        "synchronize": lambda: None,
        "Stream": stream,
        "current_stream": stream,
        "stream": lambda _stream: contextlib.nullcontext(),
        "CUDAGraph": StandIn.Graph,
        "graph": lambda _graph: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(cuda, "flush_l2", stand_in.note("flush"))
    monkeypatch.setattr(cuda_graph, "_overhead_us", lambda: 3.0)
    monkeypatch.setattr(cuda, "WARMUP_S", 0.0)
    return stand_in


@pytest.mark.parametrize("timer", [CudaGraphTimer(), CudaEventsTimer()], ids=lambda timer: timer.method)
def test_only_the_call_lies_between_the_events(device: StandIn, timer: CudaGraphTimer | CudaEventsTimer) -> None:
    timing = timer.measure(device.note("launch"), device.note("prepare"), BUDGET)
    sample = ["prepare", "flush", "event", "launch", "event"]
    assert device.order[-5 * len(sample) :] == sample * 5
    assert timing.samples_us == (12.346,) * 5
    assert timing.cache == "cold"
    assert timing.warmup_calls >= cuda.WARMUP_CALLS


def test_a_batch_begins_behind_flushes_that_let_the_host_run_ahead(device: StandIn) -> None:
    cuda.timed_batch(2, device.note("launch"), device.note("prepare"))
    assert device.order[: cuda.LEAD_FLUSHES] == ["flush"] * cuda.LEAD_FLUSHES
    assert device.order.count("launch") == 2
