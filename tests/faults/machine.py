"""Faults of machine code, of the timer and of kernels, as the static gate and the doctor see them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mlabench.doctor.examine import Section
from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.kernels import examine_kernels
from mlabench.doctor.spinning import Effort
from mlabench.doctor.timer import check_timer
from mlabench.measure.kernels import find_kernel
from tests.doctor.stand_ins import StandInTimer, make_subject
from tests.faults.place import Place, Plant
from tests.machine_code.rows import ROW, inspection


def compiled(baseline: Sequence[str] = ("--baseline", "stored.json"), triton: str = "9.9.9", **now: Any) -> Plant:
    """The static gate over one row that was stored and comes out with other values now."""

    def plant(place: Place) -> Sequence[str]:
        stored_rows = inspection()
        (place.path / "stored.json").write_text(stored_rows.to_text())
        current = inspection((replace(ROW, **now),), triton)
        versions = (current.triton_version, dict(current.ptxas_versions))
        place.monkeypatch.setattr("mlabench.machine_code.inspect.compiler_versions", lambda _: versions)
        place.monkeypatch.setattr("mlabench.cli.static_gate.inspect_with_progress", lambda _, **_quiet: current)
        return ("gate", "--static", *baseline)

    return plant


FEW = Effort(samples=3, copies_samples=3, pairs=20, windows=10)


def examined(look: Callable[[Examination], list[Finding]]) -> Plant:
    """The doctor with this section alone."""

    def plant(place: Place) -> Sequence[str]:
        place.monkeypatch.setattr("mlabench.doctor.examine.SECTIONS", (Section("section", "A section", look),))
        return ("doctor", "--device", "cpu")

    return plant


def timer_examined(kind: type[StandInTimer]) -> Plant:
    """The doctor on a stand-in for a timer."""
    return examined(lambda _: check_timer(make_subject(kind, FEW)))


def kernel_examined(name: str) -> Plant:
    """The doctor on one kernel."""

    def plant(place: Place) -> Sequence[str]:
        place.monkeypatch.setattr("mlabench.doctor.kernels.all_kernels", lambda: (find_kernel(name),))
        return examined(examine_kernels)(place)

    return plant
