"""The only place where numbers become text.

Stored units: microseconds, bytes, FLOP (a count), bytes/s, FLOP/s, watts, joules. KB, MB, GB are powers of ten.
"""

import math
from collections.abc import Iterable, Sequence

NOT_MEASURED = "–"

_BARS = "▁▂▃▄▅▆▇█"
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")


def _scaled(value: float, unit: str, digits: int, separator: str = " ") -> str:
    magnitude = abs(value)
    step = 0
    while magnitude >= 999.5 and step < len(_DECIMAL) - 1:
        magnitude /= 1000
        step += 1
    number = value / 1000**step
    text = f"{number:.{digits}g}" if magnitude < 10 ** (digits - 1) or magnitude >= 1000 else f"{number:.0f}"
    return f"{text}{separator}{_DECIMAL[step]}{unit}"


def format_bytes(value: float | None, digits: int = 3) -> str:
    """Decimal bytes: `1.15 kB`, `68.7 GB`."""
    return NOT_MEASURED if value is None else _scaled(value, "B", digits)


def format_exact_bytes(value: int | None) -> str:
    """Every byte: `1,152 B`."""
    return NOT_MEASURED if value is None else f"{value:,} B"


def format_count(value: float | None, unit: str = "", digits: int = 3) -> str:
    """A count with a decimal prefix: `292 GFLOP`."""
    return NOT_MEASURED if value is None else _scaled(value, unit, digits)


def format_number(value: float | None, digits: int = 3) -> str:
    """A bare number with a decimal prefix: `183`, `10k`."""
    return NOT_MEASURED if value is None else _scaled(value, "", digits, separator="")


def format_whole(value: float | None) -> str:
    """A number of what comes whole, such as tokens, without a fraction: `3`, `183`, `10k`."""
    return NOT_MEASURED if value is None else format_number(round(value))


def format_latency(latency_us: float | None, digits: int = 3) -> str:
    """A duration stored in microseconds: `27.4 us`, `1.04 ms`, `2.1 s`."""
    if latency_us is None:
        return NOT_MEASURED
    if latency_us < 999.5:
        return f"{_significant(latency_us, digits)} us"
    if latency_us < 999_500:
        return f"{_significant(latency_us / 1e3, digits)} ms"
    return f"{_significant(latency_us / 1e6, digits)} s"


def format_seconds(seconds: float | None) -> str:
    """A wall-clock span for people: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return NOT_MEASURED
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def format_bandwidth(bytes_per_s: float | None, digits: int = 3) -> str:
    """`4.24 TB/s`."""
    return NOT_MEASURED if bytes_per_s is None else _scaled(bytes_per_s, "B/s", digits)


def format_flop_rate(flops_per_s: float | None, digits: int = 3) -> str:
    """`282 TFLOP/s`."""
    return NOT_MEASURED if flops_per_s is None else _scaled(flops_per_s, "FLOP/s", digits)


def format_power(power_w: float | None) -> str:
    """`700 W`."""
    return NOT_MEASURED if power_w is None else f"{power_w:.0f} W"


def format_energy(energy_j: float | None, digits: int = 3) -> str:
    """Joules: `2.73 mJ`, `80.4 uJ`, `1.5 J`."""
    if energy_j is None:
        return NOT_MEASURED
    if energy_j < 0.9995e-3:
        return f"{_significant(energy_j * 1e6, digits)} uJ"
    return f"{_significant(energy_j * 1e3, digits)} mJ" if energy_j < 0.9995 else _scaled(energy_j, "J", digits)


def format_clock(clock_mhz: float | None) -> str:
    """`1980 MHz`."""
    return NOT_MEASURED if clock_mhz is None else f"{clock_mhz:.0f} MHz"


def format_change(fraction: float | None, digits: int = 2) -> str:
    """A relative difference with its sign: `+1.25%`."""
    return NOT_MEASURED if fraction is None else f"{100 * fraction:+.{digits}f}%"


def format_percent(fraction: float | None, digits: int = 0) -> str:
    """A fraction of one as a percentage: `93%`."""
    return NOT_MEASURED if fraction is None else f"{100 * fraction:.{digits}f}%"


def format_usd(value: float | None) -> str:
    """US dollars: `$0.172`, `$12.5`, `$1,250`."""
    return NOT_MEASURED if value is None else f"${value:.3g}" if value < 999.5 else f"${value:,.0f}"


def format_error(error: float | None) -> str:
    """A relative error: `2.1e-03`."""
    return NOT_MEASURED if error is None else f"{error:.1e}"


def format_chance(chance: float) -> str:
    """A probability: `0.010`, or `under 0.001`."""
    return "under 0.001" if chance < 0.001 else f"{chance:.3f}"


def format_ratio(ratio: float | None) -> str:
    """A quotient of two like quantities: `3.56x`."""
    return NOT_MEASURED if ratio is None else f"{_significant(ratio, 3)}x"


def format_ratio_interval(ratio: float, low: float, high: float) -> str:
    """A quotient with its interval: `1.031x [1.009, 1.052]`."""
    middle, *ends = (f"{x:.0f}" if x >= 100 else f"{x:#.3g}" if x >= 10 else f"{x:.3f}" for x in (ratio, low, high))
    return f"{middle}x [{', '.join(ends)}]"


def format_ratio_range(ratio: float | None, low: float | None, high: float | None) -> str:
    """A quotient with an interval of some percent: `2.25x [2.09, 2.43]`."""
    if ratio is None or low is None or high is None:
        return NOT_MEASURED
    return f"{format_ratio(ratio)} [{_significant(low, 3)}, {_significant(high, 3)}]"


def format_latency_range(low_us: float | None, high_us: float | None) -> str:
    """The ends of an interval of microseconds: `21.2 to 24 us`, `896 us to 1.04 ms`."""
    if low_us is None:
        return NOT_MEASURED
    low, high = format_latency(low_us), format_latency(high_us)
    number, unit = low.split()
    return f"{number} to {high}" if high.endswith(f" {unit}") else f"{low} to {high}"


def format_exact(count: int) -> str:
    """A count to its last digit: `4,294,967,296`."""
    return f"{count:,}"


def format_some(texts: Iterable[object], most: int, between: str = ", ", word: str = "and") -> str:
    """The first so many of them, and how many more there are."""
    every = list(map(str, texts))
    more = f" {word} {len(every) - most} more" if len(every) > most else ""
    return between.join(every[:most]) + more


def format_tokens(tokens: float) -> str:
    """A length in tokens, in binary thousands where it divides: `1k`, `128k`, `1000`."""
    return f"{int(tokens) // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else f"{int(tokens)}"


def format_sparkline(values: Sequence[float]) -> str:
    """Positive values as a line of bars, the lowest to the highest, logarithmic: `▁▁▁▅█`, over at least 10%."""
    low, high = math.log(min(values)), math.log(max(values))
    # Lest noise fill the whole height.
    span = max(high - low, math.log(1.1))
    return "".join(_BARS[min(int((math.log(value) - low) / span * len(_BARS)), len(_BARS) - 1)] for value in values)


def _significant(value: float, digits: int) -> str:
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"
