"""Does memory that was given back still disturb: a read before, right after, and after the wait that a point makes."""

from collections.abc import Sequence

from mlabench.doctor.finding import Finding
from mlabench.doctor.spinning import BATCH, Subject, take
from mlabench.machine.memory import CLEARED_BYTES_PER_S
from mlabench.measure.timing.method import nothing
from mlabench.stats import median_interval
from mlabench.units import format_bytes, format_latency, format_ratio

GIVEN_BACK_BYTES = 16 << 30
"""Enough that its clearing outlasts the samples: an H200 takes 40 ms."""

READ_BYTES = 1 << 30

CLEARLY = 1.01
"""How much slower a read after the wait may be than one before, at the near ends of their intervals."""


def check_clearing(subject: Subject) -> list[Finding]:
    """A read from memory must take no longer after the wait than before any memory was given back."""
    bench, timer = subject.bench, subject.timer
    clearing = bench.give_back(0)
    if clearing is None:
        return [Finding("memory given back", "not here", "not tested: no driver clears it in the background")]
    clearing.wait()
    call = timer.prepare(bench.read(READ_BYTES))
    before_us = take(timer, call, BATCH)
    bench.give_back(GIVEN_BACK_BYTES)
    at_once_us = timer.sample(call, nothing, BATCH).times_us
    clearing.wait()
    bench.give_back(GIVEN_BACK_BYTES)
    nbytes = clearing.uncleared_bytes
    clearing.wait()
    return [judge_clearing(nbytes, before_us, at_once_us, timer.sample(call, nothing, BATCH).times_us)]


def judge_clearing(
    nbytes: int, before_us: Sequence[float], at_once_us: Sequence[float], waited_us: Sequence[float]
) -> Finding:
    """Samples of the same read before `nbytes` were given back, right after that, and after the wait."""
    before, at_once, waited = map(median_interval, (before_us, at_once_us, waited_us))
    wait_s = nbytes / CLEARED_BYTES_PER_S
    data = {
        "bytes": nbytes,
        "wait_s": wait_s,
        "before_us": list(before_us),
        "at_once_us": list(at_once_us),
        "waited_us": list(waited_us),
    }
    text = (
        f"a read of {format_bytes(READ_BYTES)} takes {format_latency(before[0])}, right after "
        f"{format_bytes(nbytes)} were given back {format_ratio(at_once[0] / before[0])} of it, and "
        f"{format_ratio(waited[0] / before[0])} after the wait of {format_latency(1e6 * wait_s)}"
    )
    if waited[1] <= CLEARLY * before[2]:
        return Finding("memory given back", "good", text, data=data)
    mend = "the driver clears memory slower than is waited for: measure large cases in a run of their own"
    return Finding("memory given back", "bad", text, mend, data)
