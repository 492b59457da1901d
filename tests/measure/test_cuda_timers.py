"""The CUDA methods' own steps, on a stand-in for the device: what lies within the timed span and what around it."""

import contextlib
import itertools
from typing import Any

import pytest
import torch

from mlabench.measure.timing import cuda, cuda_graph, cuda_sustained
from mlabench.measure.timing.cuda import Surroundings
from mlabench.measure.timing.cuda_events import CudaEventsTimer
from mlabench.measure.timing.cuda_graph import CudaGraphTimer
from mlabench.measure.timing.cuda_sustained import CudaSustainedTimer
from mlabench.measure.timing.method import Budget

BUDGET = Budget(max_s=1.0, precision=-1.0, min_samples=5, max_samples=5)
"""One batch of five, however narrow the interval."""

COLD = ["prepare", "flush", "mark", "event", "launch", "event", "mark"]
WARM = ["prepare", "flush", "launch", "mark", "event", "launch", "event", "mark"]


class StandIn:
    """Writes down what a timer does, in order."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.marks = 0
        self.pools: list[object] = []

    def note(self, what: str) -> Any:
        return lambda *_args, **_kwargs: self.order.append(what)

    def event(self, **_options: object) -> "StandIn.Event":
        return StandIn.Event(self)

    def graph(self, _graph: object, pool: object) -> contextlib.nullcontext[None]:
        self.pools.append(pool)
        return contextlib.nullcontext()

    def clear(self) -> None:
        """Stamps that need no forgetting."""

    def clocks_mhz(self, spans: int) -> tuple[float, ...]:
        return (1980.0,) * spans

    class Event:
        def __init__(self, device: "StandIn") -> None:
            self._device = device

        def record(self) -> None:
            self._device.order.append("event")

        def synchronize(self) -> None:
            self._device.order.append("wait")

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
        "current_device": lambda: 0,
        "Stream": stream,
        "current_stream": stream,
        "stream": lambda _stream: contextlib.nullcontext(),
        "CUDAGraph": StandIn.Graph,
        "graph": stand_in.graph,
        "graph_pool_handle": object,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    note = stand_in.note
    around = Surroundings(note("flush"), note("mark"), stand_in)  # type: ignore[arg-type]
    monkeypatch.setattr(cuda, "surroundings", lambda _device: around)
    for module in (cuda_graph, cuda_sustained):
        monkeypatch.setattr(module, "graph_overhead_us", lambda: 3.0)
    monkeypatch.setattr(CudaEventsTimer, "overhead_us", lambda _self: 1.0)
    monkeypatch.setattr(cuda, "WARMUP_S", 0.0)
    return stand_in


@pytest.mark.parametrize("timer", [CudaGraphTimer, CudaEventsTimer], ids=lambda timer: timer.method)
@pytest.mark.parametrize(("cache", "sample"), [("cold", COLD), ("warm", WARM)])
def test_only_the_call_lies_between_the_events(
    device: StandIn, timer: type[CudaGraphTimer] | type[CudaEventsTimer], cache: str, sample: list[str]
) -> None:
    timing = timer(cache).measure(device.note("launch"), device.note("prepare"), BUDGET)
    assert device.order[-5 * len(sample) :] == sample * 5
    assert timing.samples_us == (12.346,) * 5
    assert timing.sm_clocks_mhz == (1980.0,) * 5
    assert timing.cache == cache
    assert timing.warmup_calls >= cuda.WARMUP_CALLS


def test_a_batch_begins_behind_flushes_that_let_the_host_run_ahead(device: StandIn) -> None:
    cuda.timed_batch(2, device.note("launch"), device.note("prepare"), "cold")
    assert device.order[: cuda.LEAD_FLUSHES] == ["flush"] * cuda.LEAD_FLUSHES
    assert device.order.count("launch") == 2


def test_a_gpu_is_warmed_up_for_a_time_and_not_for_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 0.02)
    batches: list[int] = []
    monkeypatch.setattr(cuda.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(cuda, "timed_batch", lambda count, *_: batches.append(count))
    assert cuda.warm_up(lambda: None, lambda: None, "cold") == sum(batches)
    assert len(batches) == 3


def test_sustained_chunks_follow_one_another_and_the_host_waits_only_with_work_queued(
    device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_sustained, "_calls_a_chunk", lambda _call: 3)
    timer = CudaSustainedTimer()
    samples = timer.sample(device.note("launch"), device.note("prepare"), 5)
    chunk = ["prepare", "mark", "event", "launch", "launch", "launch", "event", "mark"]
    ahead = cuda_sustained.CHUNKS_AHEAD
    assert device.order == chunk * (ahead + 1) + ["wait", *chunk] * (5 - ahead - 1) + ["wait"] * (ahead + 1)
    assert samples.times_us == (4.115,) * 5
    assert samples.sm_clocks_mhz == (1980.0,) * 5


def test_sustained_runs_for_its_window_whatever_the_precision(device: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(0.0, 0.5)
    monkeypatch.setattr(cuda_sustained.time, "monotonic", lambda: next(seconds))
    observed: list[int] = []
    timing = CudaSustainedTimer().measure(
        device.note("launch"), device.note("prepare"), BUDGET, lambda: observed.append(1)
    )
    assert timing.stop == "time"
    assert timing.cache == "warm"
    assert len(observed) == len(timing.samples_us) >= cuda_sustained.WINDOW_S / 0.5


@pytest.mark.usefixtures("device")
def test_the_graphs_of_a_launch_take_turns() -> None:
    replay = cuda.capture(lambda: None, 3)
    graphs = [next(replay.graphs) for _ in range(6)]
    assert len({id(graph) for graph in graphs}) == 3
    assert graphs[:3] == graphs[3:]


def test_graphs_share_their_memory_unless_the_launch_allocates_what_it_returns(device: StandIn) -> None:
    class Owning:
        outputs = ()

        def __call__(self) -> None:
            """Enqueue nothing."""

    cuda.capture(lambda: None, 3)
    assert None not in device.pools
    assert len(device.pools) == 3
    assert len(set(device.pools)) == 1
    device.pools.clear()
    cuda.capture(Owning(), 3)
    assert device.pools == [None] * 3
