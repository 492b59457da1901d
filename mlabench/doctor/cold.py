"""Is cold cold: a buffer that fits the cache, read under a cold and under a warm cache."""

from mlabench.doctor.finding import Finding
from mlabench.doctor.spinning import Subject, take
from mlabench.stats import median_interval
from mlabench.units import format_bandwidth, format_bytes, format_latency, format_ratio

LARGE_READ = 16
"""The read that measures the memory's speed, in multiples of the cache."""

LEAST_SHARE = 0.9
"""Of the time that the bytes take at the memory's speed, so much must be seen."""

CLEARLY = 1.05
"""How much slower a cold read must be than a warm one, at the near ends of their intervals."""


def check_cold(subject: Subject) -> list[Finding]:
    """A read of a quarter of the cache must come from memory, and take longer than from the cache."""
    bench, timer, warm_timer = subject.bench, subject.timer, subject.warm_timer
    if bench.cache_bytes is None or warm_timer is None or timer.cache != "cold":
        text = f"not tested: {timer.method} leaves the caches as they are, and says so ({timer.cache})"
        return [Finding("cold is cold", "not here", text)]
    small, large = bench.cache_bytes // 4, LARGE_READ * bench.cache_bytes
    count = 5 * subject.effort.samples
    overhead_us = timer.overhead_us() or 0.0
    large_us = median_interval(take(timer, timer.prepare(bench.read(large)), count))[0] - overhead_us
    launch = bench.read(small)
    cold = median_interval(take(timer, timer.prepare(launch), count))
    warm = median_interval(take(warm_timer, warm_timer.prepare(launch), count))
    return [judge_cold(small, large / large_us * 1e6, cold, warm, overhead_us)]


def judge_cold(
    nbytes: int,
    read_bytes_per_s: float,
    cold_us: tuple[float, float, float],
    warm_us: tuple[float, float, float],
    overhead_us: float,
) -> Finding:
    """Medians with intervals, in microseconds, of a cold and a warm read; the overhead is not yet subtracted."""
    least_us = LEAST_SHARE * nbytes / read_bytes_per_s * 1e6
    net_us = cold_us[0] - overhead_us
    data = {
        "bytes": nbytes,
        "read_bytes_per_s": read_bytes_per_s,
        "cold_us": list(cold_us),
        "warm_us": list(warm_us),
        "overhead_us": overhead_us,
        "least_cold_us": least_us,
    }
    text = (
        f"a read of {format_bytes(nbytes)} takes {format_latency(net_us)} after overhead (at "
        f"{format_bandwidth(read_bytes_per_s)} at least {format_latency(least_us)}), "
        f"{format_ratio(cold_us[0] / warm_us[0])} of the warm read's {format_latency(warm_us[0])}"
    )
    mend = "the cache is not emptied before a call: trust no time that is labelled cold"
    if net_us < least_us:
        return Finding("cold is cold", "bad", f"{text}: faster than memory can be", mend, data)
    if cold_us[1] < CLEARLY * warm_us[2]:
        return Finding("cold is cold", "bad", f"{text}: not clearly slower than warm", mend, data)
    return Finding("cold is cold", "good", text, data=data)
