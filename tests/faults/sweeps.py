"""Faults of kernels, timers, processes and disks, in a sweep.

Its worker is this process, unless the process is what matters.
"""

import errno
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mlabench.measure import worker
from mlabench.measure.isolation import Worker, WorkerSetup
from mlabench.measure.runner import Runner
from mlabench.measure.timing.cpu import CpuTimer
from mlabench.measure.timing.fake import FakeTimer
from mlabench.measure.timing.method import Budget, Call, Timer, nothing
from tests.cli.commands import QUICK
from tests.factories import CEILINGS, FINGERPRINTS
from tests.faults.place import Place, Plant
from tests.faults.stored import Edit, as_it_is

STEADY = FakeTimer((1e6,) * 20, method="cpu")


class DroppingTimer(CpuTimer):
    """Loses the launch where it is made ready for the timing, as a graph does that captured nothing."""

    def prepare(self, launch: Call) -> Call:
        del launch
        return nothing


class NearWorker:
    """Answers as a worker does, from this process."""

    timer: Timer = STEADY
    gpu_state: Mapping[str, Any] | None = None

    def __init__(self, setup: WorkerSetup) -> None:
        self._runner = Runner("cpu", self.timer, setup.seed, Budget(**setup.budget))

    def start(self) -> Mapping[str, Any]:
        return FINGERPRINTS["cpu"].to_json()

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        del timeout_s
        if request["do"] == "probe":
            return {"ceilings": CEILINGS["cpu"].to_json()}
        plain = worker._serve(self._runner, request, lambda _: None)
        return dict(json.loads(json.dumps(plain)))

    def stop(self) -> None:
        return None


class FarWorker(Worker):
    """A process as sweeps have it, that is not asked for what costs seconds and is not looked at here."""

    def start(self, timeout_s: float = 300) -> Mapping[str, Any]:
        super().start(timeout_s)
        return FINGERPRINTS["cpu"].to_json()

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        if request["do"] == "probe":
            return {"ceilings": CEILINGS["cpu"].to_json()}
        return super().ask(request, timeout_s)


def swept(*kernels: str, by: type = NearWorker, timer: Timer = STEADY, out: str = "now", timeout_s: int = 600) -> Plant:
    """A sweep of one small case on these kernels."""

    def plant(place: Place) -> Sequence[str]:
        place.monkeypatch.setattr(NearWorker, "timer", timer)
        place.monkeypatch.setattr("mlabench.measure.sweep.Worker", by)
        chosen = [word for kernel in kernels for word in ("--kernel", kernel)]
        return (*QUICK, "-a", "kv_len=70", "--timeout-s", str(timeout_s), "--out", out, *chosen)

    return plant


BOTH = ("mla_decode_torch", "switchable")


def swept_and_gated(fault: str = "", by: type = NearWorker, timeout_s: int = 600) -> Plant:
    """A gate over two sweeps of two kernels; before the second the fault comes into one of them."""

    def plant(place: Place) -> Sequence[str]:
        assert place.run(*swept(*BOTH, out="before")(place)) == 0
        place.monkeypatch.setenv("SWITCHABLE_FAULT", fault)
        place.run(*swept(*BOTH, by=by, timeout_s=timeout_s)(place))
        return ("gate", "now", "--baseline", "before")

    return plant


def swept_and_resumed(*kernels: str, edit: Edit = as_it_is) -> Plant:
    """A sweep that goes on from a run that holds all of its points, once that is changed."""

    def plant(place: Place) -> Sequence[str]:
        place.run(*swept(*kernels)(place))
        edit(place.path / "now")
        return ("sweep", "--resume", "--out", "now")

    return plant


def on_a_full_disk(plant: Plant) -> Plant:
    """The first file fits."""

    def plant_there(place: Place) -> Sequence[str]:
        writes = itertools.count()

        def fsync(_file: int) -> None:
            if next(writes):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        place.monkeypatch.setattr("os.fsync", fsync)
        return plant(place)

    return plant_there
