"""What others did on the processors that this process may run on."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from mlabench.machine import processors
from mlabench.machine.processors import STAT, WINDOW_S, Processors, busy_s

COUNTS = """\
cpu  90 0 90 900 90 9 9 9 0 0
cpu0 40 1 20 700 50 3 2 4 40 0
cpu1 50 0 30 100 40 5 6 9 0 0
cpu2 0 0 0 0 0 0 0 0 0 0
cpu10 7 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""
TICKS_A_S = os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("numbers", "ticks"),
    [
        ({0}, 40 + 1 + 20 + 3 + 2 + 4),  # neither idle nor waiting; guests' time is in user's
        ({1}, 50 + 30 + 5 + 6 + 9),
        ({0, 1}, 170),
        ({10}, 7),
    ],
)
def test_busy_is_what_is_not_idle_of_the_processors_asked_for(numbers: set[int], ticks: int) -> None:
    assert busy_s(COUNTS, frozenset(numbers)) == pytest.approx(ticks / TICKS_A_S)


@pytest.mark.parametrize("number", [2, 3])
def test_processors_that_are_not_counted_are_not_called_idle(number: int) -> None:
    with pytest.raises(ValueError, match="does not count every processor's time"):
        busy_s(COUNTS, frozenset({0, number}))


def test_others_have_what_is_busy_and_not_this_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"at": 0.0, "own": 0.0, "busy": 0.0}
    monkeypatch.setattr(processors, "time", SimpleNamespace(
        monotonic=lambda: clock["at"], process_time=lambda: clock["own"]
    ))  # fmt: skip
    monkeypatch.setattr(processors, "STAT", SimpleNamespace(read_text=lambda **_: ""))
    monkeypatch.setattr(processors, "busy_s", lambda *_: clock["busy"])
    two = Processors(frozenset({0, 1}))

    def share(seconds: float, own_s: float, busy_seconds: float) -> float | None:
        clock["at"] += seconds
        clock["own"] += own_s
        clock["busy"] += busy_seconds
        return two.sensors()["others_share"]

    assert share(0, 0, 0) is None
    assert share(0.1, 0.1, 0.2) is None, "a window too short"
    assert share(0.6, 0.6, 0.72) == pytest.approx(0.1), "0.12 s of others in 0.6 s of two processors"
    assert share(1.0, 1.0, 2.0) == pytest.approx(0.5), "what lies further back is left out"
    assert share(1.0, 1.0, 0.99) == 0.0, "the counters' steps make no share below none"


@pytest.mark.skipif(not STAT.exists() or not hasattr(os, "sched_setaffinity"), reason="no /proc/stat")
def test_a_busy_neighbour_shows() -> None:
    number = min(os.sched_getaffinity(0))
    burn = f"import os; os.sched_setaffinity(0, {{{number}}})\nprint(flush=True)\nwhile True: pass"
    one = Processors(frozenset({number}))
    with subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
            one.sensors()
            time.sleep(2 * WINDOW_S)
            assert one.sensors()["others_share"] > 0.5
        finally:
            neighbour.kill()
