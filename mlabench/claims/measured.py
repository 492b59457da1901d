"""What a run says: which variant is faster at the same sizes, and which roof each is under."""

from collections.abc import Iterator

from mlabench.cases.case import Case
from mlabench.records.metrics import bound, latency_us
from mlabench.records.record import Record
from mlabench.records.store import Run

Sizes = tuple[int, int, int, int, str, str]
"""Query heads, batch, q_len, kv_len, their distribution and dtype: what points held against each other share."""


def lead(run: Run, of: str, over: str) -> float | None:
    """Share of the points at which one variant is faster than another of the same sizes; None without such points."""
    speedups = _speedups(run, of, over)
    return sum(speedup > 1 for speedup in speedups) / len(speedups) if speedups else None


def highest_speedup(run: Run, of: str, over: str) -> float | None:
    """The largest quotient of their times."""
    return max(_speedups(run, of, over), default=None)


def lowest_speedup(run: Run, of: str, over: str) -> float | None:
    """The smallest quotient of their times."""
    return min(_speedups(run, of, over), default=None)


def memory_bound_share(run: Run, of: str, num_q_heads: int) -> float | None:
    """Share of a variant's points that the run's own ceilings say are bound by memory."""
    bounds = [bound(record, run.manifest) for record in _records(run, of, num_q_heads)]
    known = [name for name in bounds if name]
    return known.count("memory") / len(known) if known else None


def best_bandwidth_share(run: Run, of: str, num_q_heads: int) -> float | None:
    """Highest memory traffic that a variant reached over the measured ceiling."""
    ceilings = run.manifest.ceilings
    if ceilings is None:
        return None
    shares = [
        ceilings.memory_us(record.case.bytes_moved) / _time_us(record) for record in _records(run, of, num_q_heads)
    ]
    return max(shares, default=None)


def best_flops_share(run: Run, of: str, num_q_heads: int) -> float | None:
    """Highest FLOP rate that a variant reached over the measured ceiling."""
    ceilings = run.manifest.ceilings
    if ceilings is None:
        return None
    records = _records(run, of, num_q_heads)
    times = [(ceilings.compute_us(r.case.flops, r.case.dtype), _time_us(r)) for r in records]
    return max((least / time for least, time in times if least is not None), default=None)


def _speedups(run: Run, of: str, over: str) -> list[float]:
    own, other = _fastest(run, of), _fastest(run, over)
    return [other[sizes] / time for sizes, time in own.items() if sizes in other]


def _fastest(run: Run, words: str) -> dict[Sizes, float]:
    times: dict[Sizes, float] = {}
    for record in _records(run, words):
        sizes = _sizes(record.case)
        times[sizes] = min(times.get(sizes, _time_us(record)), _time_us(record))
    return times


def _records(run: Run, words: str, num_q_heads: int | None = None) -> Iterator[Record]:
    """Timed decode of attention alone, of a variant such as `gqa` or `mla absorbed`."""
    for record in run.records:
        case, variant = record.case, record.case.variant
        own = f"{variant.name} {variant.form}" if variant.form else variant.name
        wanted = own == words and num_q_heads in (None, variant.num_q_heads)
        if wanted and record.timing and case.scope == "core" and case.phase == "decode":
            yield record


def _sizes(case: Case) -> Sizes:
    return case.variant.num_q_heads, case.batch, case.q_len, case.kv_len, case.kv_len_dist, case.dtype


def _time_us(record: Record) -> float:
    time_us = latency_us(record)
    assert time_us is not None
    return time_us
