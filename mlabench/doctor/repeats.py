"""Does the timer count every copy of a call, and does it give the same for the same call."""

import math
from collections.abc import Sequence
from statistics import median, stdev

from mlabench.doctor.finding import Finding, Status
from mlabench.doctor.spinning import Subject
from mlabench.measure.timing.method import Call, nothing
from mlabench.stats import median_interval
from mlabench.units import format_change, format_latency, format_percent, format_ratio_interval

COPIES = (1, 2, 4, 8, 16, 32, 64)

PAIR_SAMPLES = 5
"""Samples of each side of an A/A pair."""


def check_slope(subject: Subject) -> list[Finding]:
    """Calls that hold 1 to 64 copies of one spin: the slope over the copies is free of overhead."""
    length_ns = subject.bench.copied_spin_ns
    single = subject.bench.spin(length_ns)
    overhead_us = subject.spin_overhead().excess_us
    count = subject.effort.copies_samples
    levels_us = [subject.level_us(subject.times_us(_repeat(single, copies), count)) for copies in COPIES]
    return [judge_slope(COPIES, levels_us, overhead_us, subject.bench.limits.slope)]


def judge_slope(copies: Sequence[int], levels_us: Sequence[float], overhead_us: float, limit: float) -> Finding:
    """The least-squares slope of the times over the copies against the single call after overhead."""
    slope_us = least_squares_slope(copies, levels_us)
    single_us = levels_us[0] - overhead_us
    ratio = slope_us / single_us
    data = {
        "copies": list(copies),
        "levels_us": list(levels_us),
        "spin_overhead_us": overhead_us,
        "slope_us": slope_us,
        "ratio": ratio,
        "limit": limit,
    }
    text = (
        f"{format_latency(slope_us, 5)} a copy over {copies[0]} to {copies[-1]} copies, {format_change(ratio - 1)} "
        f"from the single call's {format_latency(single_us, 5)} (at most {format_percent(limit, 1)})"
    )
    if abs(ratio - 1) <= limit:
        return Finding("slope of copies", "good", text, data=data)
    mend = "calls of several kernels are not timed whole: trust none of this method here"
    return Finding("slope of copies", "bad", text, mend, data)


def check_pairs(subject: Subject) -> list[Finding]:
    """A/A: one real call prepared twice and measured in turns, the first place changing hands."""
    timer, bench = subject.timer, subject.bench
    launch = bench.work()
    sides = [timer.prepare(launch) for _ in range(2)]
    for side in sides:
        timer.warm_up(side, nothing)
    log_ratios = []
    for pair in range(subject.effort.pairs):
        first = pair % 2
        medians = {side: median(timer.sample(sides[side], nothing, PAIR_SAMPLES).times_us) for side in _turn(first)}
        log_ratios.append(math.log(medians[1] / medians[0]))
    return [judge_pairs(log_ratios, bench.limits.pairs)]


def judge_pairs(log_ratios: Sequence[float], limit: float) -> Finding:
    """Bad where the interval of the ratio leaves out 1 and the ratio is off by more than the limit.

    One interval in twenty leaves out 1 by chance; by less than the limit that is a warning.
    """
    ratio, low, high = (math.exp(value) for value in median_interval(log_ratios))
    spread = stdev(log_ratios)
    data = {"log_ratios": list(log_ratios), "ratio": ratio, "interval": [low, high], "spread": spread, "limit": limit}
    text = (
        f"{format_ratio_interval(ratio, low, high)} over {len(log_ratios)} pairs of {PAIR_SAMPLES} samples; "
        f"standard deviation of a pair {format_percent(spread, 2)} (beyond chance at most {format_percent(limit, 1)})"
    )
    if low <= 1 <= high:
        return Finding("A/A", "good", text, data=data)
    status: Status = "warning" if abs(ratio - 1) <= limit else "bad"
    mend = "the same call differs from itself: run again on an idle machine"
    return Finding("A/A", status, f"{text}: the interval leaves out 1", mend, data)


def least_squares_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the straight line through the points."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def _repeat(call: Call, copies: int) -> Call:
    def repeated() -> None:
        for _ in range(copies):
            call()

    return repeated


def _turn(first: int) -> tuple[int, int]:
    return first, 1 - first
