"""Peers that allocate what they write: whatever a replay writes is poisoned before it, and checked after it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from mlabench.cases.grid import make_cases
from mlabench.measure.kernels import Kernel
from mlabench.measure.peers.launch import Outputs, OwnOutputs
from mlabench.measure.runner import Runner
from mlabench.measure.timing.fake import FakeTimer
from mlabench.measure.timing.method import Call, SampledTimer, Samples
from mlabench.records.record import Record

CASE = make_cases({"num_q_heads": (4,), "kv_len": (70,), "batch": (2,)})[0]
KERNEL = Kernel("mine", "mine", "mla_absorbed", f"{__name__}:bind", devices=("cpu",), writes_lse=False)
GRAPHS = 3


def bind(**tensors: torch.Tensor) -> OwnOutputs:
    from mla_kernels.mla_decode_torch import bind as bind_right

    def run() -> Outputs:
        own = torch.empty_like(tensors["out"])
        bind_right(**{**tensors, "out": own})()
        return {"out": own}

    return OwnOutputs({}, run)


Replay = Callable[[OwnOutputs, Outputs], None]


def writing(launch: OwnOutputs, outputs: Outputs) -> None:
    """What a graph does: the work of its capture, into the tensors of its capture."""
    outputs["out"].copy_(launch._run()["out"])


@dataclass(slots=True)
class GraphTimer(SampledTimer):
    """Captures and replays as CUDA graphs would; each of the graphs does what `replays` says."""

    method: ClassVar[str] = "graph"
    caches: ClassVar[tuple[str, ...]] = ("cold",)

    monkeypatch: pytest.MonkeyPatch
    replays: tuple[Replay, ...] = (writing,) * GRAPHS
    cache: str = "cold"
    done: int = 0

    def prepare(self, launch: Call) -> Call:
        assert isinstance(launch, OwnOutputs)
        launch()
        self.monkeypatch.setattr(launch, "_is_capturing", lambda: True)
        for _ in self.replays:
            launch()
        captured = launch.outputs
        assert len({outputs["out"].data_ptr() for outputs in captured}) == GRAPHS

        def replay() -> None:
            graph = self.done % GRAPHS
            self.replays[graph](launch, captured[graph])
            self.done += 1

        return replay

    def warm_up(self, call: Call, before_sample: Call) -> int:
        self.sample(call, before_sample, GRAPHS)
        return GRAPHS

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        for _ in range(count):
            before_sample()
            call()
        return Samples((5.0,) * count)

    def overhead_us(self) -> None:
        return None


def measure(monkeypatch: pytest.MonkeyPatch, *replays: Replay) -> Record:
    timer = GraphTimer(monkeypatch, *([replays] if replays else []))
    runner = Runner("cpu", timer)
    # 3 calls in the warm-up and 25 samples: the last is of the first graph.
    runner.budget = replace(runner.budget, min_samples=20)
    record = runner.run(CASE, KERNEL)
    assert timer.done % GRAPHS == 1
    return record


def idle(launch: OwnOutputs, outputs: Outputs) -> None:
    """A graph in which a kernel is missing."""


def wrong(launch: OwnOutputs, outputs: Outputs) -> None:
    writing(launch, outputs)
    outputs["out"].mul_(1.02)


def half(launch: OwnOutputs, outputs: Outputs) -> None:
    outputs["out"][:1].copy_(launch._run()["out"][:1])


def test_what_the_last_replay_wrote_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    record = measure(monkeypatch)
    assert (record.status, record.reason) == ("ok", "")
    assert record.workspace_bytes is None
    assert measure(monkeypatch, writing, wrong, idle).status == "ok"


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (idle, "the timed call's relative error is NaN: not all of the output was written"),
        (half, "the timed call's relative error is NaN: not all of the output was written"),
        (wrong, "the timed call's relative error 0.02"),
    ],
)
def test_a_replay_that_is_stale_or_wrong_is_found(monkeypatch: pytest.MonkeyPatch, last: Replay, reason: str) -> None:
    record = measure(monkeypatch, last, writing, writing)
    assert (record.status, record.timing) == ("incorrect", None)
    assert reason in record.reason


class Copies:
    """Says that it writes copies of what it writes: NaN put there is lost."""

    def __init__(self, launch: Callable[[], None], out: torch.Tensor) -> None:
        self._launch, self._out = launch, out

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        return ({"out": self._out.clone()},)

    def __call__(self) -> None:
        self._launch()


def bind_copies(**tensors: torch.Tensor) -> Copies:
    from mla_kernels.mla_decode_torch import bind as bind_right

    return Copies(bind_right(**tensors), tensors["out"])


def test_outputs_that_cannot_be_poisoned_are_no_outputs() -> None:
    kernel = replace(KERNEL, target=f"{__name__}:bind_copies")
    record = Runner("cpu", FakeTimer((5.0,))).run(CASE, kernel)
    assert record.status == "error"
    assert record.reason == "its launch's `outputs` are copies: give the tensors that it writes, or views"


def bind_one_mapping(**tensors: torch.Tensor) -> OwnOutputs:
    launch = bind(**tensors)
    launch.__class__ = type("OneMapping", (OwnOutputs,), {"outputs": {"out": tensors["out"]}})
    return launch


def test_outputs_of_another_shape_are_named() -> None:
    record = Runner("cpu", FakeTimer((5.0,))).run(CASE, replace(KERNEL, target=f"{__name__}:bind_one_mapping"))
    assert record.status == "error"
    assert "`outputs` are no sequence of mappings" in record.reason


def test_eager_calls_keep_only_the_last_outputs() -> None:
    results = [{"out": torch.zeros(1)}, {"out": torch.ones(1)}]
    launch = OwnOutputs({"splits": 3}, iter(results).__next__)
    assert launch.outputs == ()
    launch()
    assert launch.outputs == (results[0],)
    launch()
    assert launch.outputs == (results[1],)
    assert launch.config == {"splits": 3}
