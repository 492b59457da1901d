"""Do the intervals cover what they say: windows of a real trace against the median of all of it."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from mlabench.doctor.finding import Finding
from mlabench.doctor.spinning import Limits, Subject, resolution_us
from mlabench.measure.timing.method import Budget, Samples, collect
from mlabench.stats import Z_95, median_interval, relative_half_width
from mlabench.units import format_percent

WINDOW = 50
"""Consecutive samples in a window of fixed length."""

Interval = Callable[[Sequence[float]], tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of the windows' intervals hold the long-run median."""

    windows: int
    covered: int

    @property
    def share(self) -> float:
        """Of one."""
        return self.covered / self.windows

    @property
    def interval(self) -> tuple[float, float]:
        """The share's own 95% interval (Wilson, J. Am. Stat. Assoc. 22, 1927)."""
        n, p, z2 = self.windows, self.share, Z_95**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half_width = Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        return middle - half_width, middle + half_width


def check_coverage(subject: Subject) -> list[Finding]:
    """Record a long trace of a real kernel, and cut it into windows of one length and into adaptive ones."""
    trace = subject.times_us(subject.bench.work(), WINDOW * subject.effort.windows)
    return judge_coverage(trace, subject.bench.limits)


def judge_coverage(trace_us: Sequence[float], limits: Limits, interval: Interval = median_interval) -> list[Finding]:
    """One finding for windows of `WINDOW` samples and one for those at which adaptive sampling stops.

    The trace is spread evenly over the timer's steps first: equal readings would make any interval look wide.
    """
    step_us = resolution_us(trace_us)
    rng = random.Random(0)
    smooth = [time_us + rng.uniform(-0.5, 0.5) * step_us for time_us in trace_us]
    middle = median(smooth)
    precision = max(Budget().precision, relative_half_width(smooth[:WINDOW]))
    adaptive = adaptive_windows(smooth, Budget(max_s=math.inf, precision=precision))
    lengths = sorted(map(len, adaptive))
    data = {"samples": len(trace_us), "resolution_us": step_us, "median_us": middle, "limits": list(limits.coverage)}
    fixed = _judge("coverage", fixed_windows(smooth), middle, limits, interval, f"of {WINDOW} samples")
    stopped = _judge(
        "coverage, adaptive",
        adaptive,
        middle,
        limits,
        interval,
        f"of {lengths[0]} to {lengths[-1]} samples, each until {format_percent(precision, 1)} precise",
    )
    more = {"precision": precision, "window_lengths": lengths, "autocorrelation": autocorrelation(smooth)}
    return [_with(fixed, data | {"first_samples_us": list(trace_us[:1000])}), _with(stopped, data | more)]


def fixed_windows(trace: Sequence[float]) -> list[Sequence[float]]:
    """Consecutive windows of `WINDOW` samples."""
    return [trace[start : start + WINDOW] for start in range(0, len(trace) - WINDOW + 1, WINDOW)]


def adaptive_windows(trace: Sequence[float], budget: Budget) -> list[Sequence[float]]:
    """Consecutive windows, each as long as the timers' own sampling would have made it; the rest is left out."""
    windows: list[Sequence[float]] = []
    start = 0
    # The sampling may go on a little after it knows enough.
    while len(trace) - start >= 2 * budget.max_samples:
        ahead = itertools.islice(trace, start, None)
        samples, _ = collect(lambda count, ahead=ahead: Samples(tuple(itertools.islice(ahead, count))), budget)  # type: ignore[misc]
        windows.append(samples.times_us)
        start += len(samples.times_us)
    return windows


def autocorrelation(trace: Sequence[float]) -> float:
    """Of the sides of the median on which neighbouring samples lie: 0 where they are independent."""
    middle = median(trace)
    signs = [1 if value > middle else -1 for value in trace]
    return sum(a * b for a, b in itertools.pairwise(signs)) / (len(signs) - 1)


def _judge(
    name: str,
    windows: Sequence[Sequence[float]],
    middle: float,
    limits: Limits,
    interval: Interval,
    kind: str,
) -> Finding:
    bounds = [interval(window)[1:] for window in windows]
    coverage = Coverage(len(windows), sum(low <= middle <= high for low, high in bounds))
    low, high = coverage.interval
    data = asdict(coverage) | {"share": coverage.share, "share_interval": [low, high]}
    least, most = limits.coverage
    wanted = f"{format_percent(least)} to {format_percent(most)}"
    text = (
        f"{format_percent(coverage.share, 1)} [{format_percent(low, 1)}, {format_percent(high, 1)}] of "
        f"{coverage.windows} intervals hold the long-run median (wanted: {wanted}); windows {kind}"
    )
    if high < least:
        mend = "intervals are too narrow, as where neighbouring samples depend on each other: compare by interleaving"
        return Finding(name, "bad" if limits.independent else "warning", text, mend, data)
    if low > most:
        return Finding(name, "warning", text, "intervals are wider than need be", data)
    return Finding(name, "good", text, data=data)


def _with(finding: Finding, data: dict[str, object]) -> Finding:
    return Finding(finding.name, finding.status, finding.found, finding.mend, {**finding.data, **data})
