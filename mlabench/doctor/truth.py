"""Does the timer read true: spins of known length, its declared overhead, and the steps of its scale."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

from mlabench.doctor.finding import Finding
from mlabench.doctor.spinning import Limits, Subject, resolution_us, spun
from mlabench.measure.timing.method import Samples, nothing
from mlabench.units import format_change, format_exact, format_latency, format_percent

LENGTHS_NS = tuple(round(1000 * 10 ** (4 * step / 24)) for step in range(25))
"""25 lengths from 1 us to 10 ms, evenly spaced on a logarithmic scale."""

CYCLES = (10_000, 50_000, 200_000, 1_000_000, 5_000_000)

LONG_US = 100
"""From this length on the relative error tells the scale and not the offset."""


@dataclass(frozen=True, slots=True)
class Point:
    """A spin of known length as the timer read it, all in the unit of the check; `error` is after the zero spin.

    `measured` stands for the samples, of which `median` is the middle one.
    """

    length: float
    measured: float
    median: float
    error: float
    limit: float
    samples: int

    @property
    def within(self) -> bool:
        """Whether the error is tolerated."""
        return abs(self.error) <= self.limit


def check_truth(subject: Subject) -> list[Finding]:
    """Spins of 25 lengths, less what is read beside a spin of no length; and the resolution seen on the way."""
    limits, bench = subject.bench.limits, subject.bench
    zero = subject.spin_overhead()
    seen = list(zero.times_us)
    points = []
    for length_ns in LENGTHS_NS:
        read = subject.read_spin(length_ns)
        # Longer times are not exact to the nanosecond in the single precision that events give.
        seen += read.times_us if length_ns < 1000 * LONG_US else ()
        limit_us = max(limits.truth * read.length_us, limits.truth_us)
        error_us = read.excess_us - zero.excess_us
        typical_us = median(read.times_us)
        points.append(Point(read.length_us, read.level_us, typical_us, error_us, limit_us, len(read.times_us)))
    return [_judge_truth(points, zero.excess_us, limits, bench.level), _judge_resolution(seen, limits)]


def check_cycles(subject: Subject) -> list[Finding]:
    """Spins of known clock cycles against the measured time and the SM clock measured along with it."""
    timer, bench, limits = subject.timer, subject.bench, subject.bench.limits
    overhead_us = subject.spin_overhead().excess_us
    points = []
    for asked in CYCLES:
        samples, cycles = Samples(), asked
        for _ in range(subject.effort.preparations):
            spin = bench.spin_cycles(asked)
            if spin is None:
                return [Finding("truth in cycles", "not here", "this device counts no cycles")]
            call = timer.prepare(spin)
            timer.warm_up(call, nothing)
            samples += timer.sample(call, nothing, subject.effort.samples)
            cycles = spun(spin, asked)
        if samples.sm_clocks_mhz is None:
            return [Finding("truth in cycles", "not here", "the timer reads no SM clock")]
        clock_mhz = median(samples.sm_clocks_mhz)
        pairs = zip(samples.times_us, samples.sm_clocks_mhz, strict=True)
        counted = fmean((time_us - overhead_us) * mhz for time_us, mhz in pairs)
        limit = max(limits.truth * cycles, limits.truth_us * clock_mhz)
        points.append(Point(cycles, counted, counted, counted - cycles, limit, len(samples.times_us)))
    return [_judge_cycles(points, overhead_us)]


def check_offset(subject: Subject) -> list[Finding]:
    """What the timer reads for an empty call against the overhead that it declares."""
    declared_us, limit_us = subject.timer.overhead_us(), subject.bench.limits.offset_us
    measured_us = subject.level_us(subject.times_us(subject.bench.empty(), 5 * subject.effort.samples))
    data = {"declared_overhead_us": declared_us, "empty_call_us": measured_us, "limit_us": limit_us}
    if declared_us is None:
        return [Finding("overhead", "warning", "the timer declares none", data=data)]
    excess_us = measured_us - declared_us
    text = f"an empty call reads {format_latency(measured_us)}, declared are {format_latency(declared_us)}"
    if abs(excess_us) <= limit_us:
        return [Finding("overhead", "good", text, data=data)]
    mend = "short calls are off by the difference: compare none with those of another method"
    return [Finding("overhead", "bad", f"{text}: more than {format_latency(limit_us)} apart", mend, data)]


def _judge_truth(points: Sequence[Point], overhead_us: float, limits: Limits, level: str) -> Finding:
    missed = [point for point in points if not point.within]
    worst = max(points, key=lambda point: abs(point.error) / point.limit)
    scale = median(point.error / point.length for point in points if point.length >= LONG_US)
    data = {
        "level": level,
        "spin_overhead_us": overhead_us,
        "scale_error": scale,
        "points": [asdict(point) for point in points],
    }
    span = f"{format_latency(LENGTHS_NS[0] / 1e3)} to {format_latency(LENGTHS_NS[-1] / 1e3)}"
    most = f"{level} of {points[0].samples} samples, off by at most {format_percent(limits.truth)} or "
    most += format_latency(limits.truth_us)
    text = (
        f"{len(points) - len(missed)} of {len(points)} spins from {span} read true ({most}); the worst, of "
        f"{format_latency(worst.length)}, by {format_change(worst.error / worst.length)}; "
        f"long ones by {format_change(scale)}"
    )
    mend = "stop what else computes here; if it stays, trust no time of this method on this machine"
    return Finding("truth", "bad" if missed else "good", text, mend if missed else "", data)


def _judge_cycles(points: Sequence[Point], overhead_us: float) -> Finding:
    missed = [point for point in points if not point.within]
    worst = max(points, key=lambda point: abs(point.error) / point.limit)
    data = {"spin_overhead_us": overhead_us, "points": [asdict(point) for point in points]}
    text = (
        f"{len(points) - len(missed)} of {len(points)} spins from {format_exact(CYCLES[0])} to "
        f"{format_exact(CYCLES[-1])} cycles agree with time and SM clock; the worst by "
        f"{format_change(worst.error / worst.length)}"
    )
    mend = "the SM clock that is stored with each sample is off: judge by time alone"
    return Finding("truth in cycles", "bad" if missed else "good", text, mend if missed else "", data)


def _judge_resolution(seen: Sequence[float], limits: Limits) -> Finding:
    step_us = resolution_us(seen)
    data = {"resolution_us": step_us, "values": len(set(seen)), "limit_us": limits.resolution_us}
    text = f"steps of {format_latency(step_us)} over {len(set(seen))} different values"
    if step_us <= limits.resolution_us:
        return Finding("resolution", "good", text, data=data)
    mend = "calls of a few steps cannot be told apart: compare longer ones"
    return Finding("resolution", "bad", f"{text}: coarser than {format_latency(limits.resolution_us)}", mend, data)
