"""What a run says: which variant or form takes less at the same sizes, from where on, and which roof each is under.

`of` and `over` name what is compared: a variant such as `gqa` or `mla absorbed`, or a model of a layer with its form,
such as `deepseek-v3 absorbed`. `where` are fields of a case; unless it says otherwise, attention alone is meant, in
decode. Every function gives None for what the run does not hold.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlabench.cases.case import Case
from mlabench.records.metrics import bound, energy_j_per_call, latency_us
from mlabench.records.record import Record
from mlabench.records.store import Run

QUANTITIES = {"latency": latency_us, "energy": energy_j_per_call}
"""What can be compared: the time of a call, and of a sustained one its energy."""

Sizes = tuple[Any, ...]
"""Query heads, lengths, dtype and the like: what points held against each other share."""


def lead(run: Run, of: str, over: str, quantity: str = "latency", **where: Any) -> float | None:
    """Share of the points at which one takes less than the other at the same sizes."""
    quotients = _quotients(run, of, over, quantity, where)
    return sum(quotient > 1 for quotient in quotients.values()) / len(quotients) if quotients else None


def highest_quotient(run: Run, of: str, over: str, quantity: str = "latency", **where: Any) -> float | None:
    """The largest quotient of what `over` takes over what `of` does."""
    return max(_quotients(run, of, over, quantity, where).values(), default=None)


def lowest_quotient(run: Run, of: str, over: str, quantity: str = "latency", **where: Any) -> float | None:
    """The smallest of them."""
    return min(_quotients(run, of, over, quantity, where).values(), default=None)


def ahead_from(run: Run, of: str, over: str, axis: str, **where: Any) -> float | None:
    """The least measured length on an axis from which one is faster at every longer one; None if it never is."""
    quotients = _quotients(run, of, over, "latency", where)
    lengths = sorted({dict(sizes)[axis] for sizes in quotients}, reverse=True)
    first = None
    for length in lengths:
        if any(quotient <= 1 for sizes, quotient in quotients.items() if dict(sizes)[axis] == length):
            break
        first = float(length)
    return first


def memory_bound_share(run: Run, of: str, **where: Any) -> float | None:
    """Share of the points that the run's own ceilings say are bound by memory."""
    bounds = [bound(record, run.manifest) for record in _records(run, of, where)]
    known = [name for name in bounds if name]
    return known.count("memory") / len(known) if known else None


def best_bandwidth_share(run: Run, of: str, **where: Any) -> float | None:
    """Highest memory traffic that was reached over the measured ceiling."""
    ceilings = run.manifest.ceilings
    if ceilings is None:
        return None
    shares = [ceilings.memory_us(r.case.bytes_moved) / _taken(r, "latency") for r in _records(run, of, where)]
    return max(shares, default=None)


def best_flops_share(run: Run, of: str, **where: Any) -> float | None:
    """Highest FLOP rate that was reached over the measured ceiling."""
    ceilings = run.manifest.ceilings
    if ceilings is None:
        return None
    times = [(ceilings.compute_us(r.case.flops, r.case.dtype), r) for r in _records(run, of, where)]
    return max((least / _taken(record, "latency") for least, record in times if least is not None), default=None)


def lowest_share_of_parts(run: Run, of: str, parts: Sequence[str], **where: Any) -> float | None:
    """The least that the named parts of a layer take of the sum of all its parts' times."""
    return min(_shares_of_parts(run, of, parts, where), default=None)


def highest_share_of_parts(run: Run, of: str, parts: Sequence[str], **where: Any) -> float | None:
    """The most that they take."""
    return max(_shares_of_parts(run, of, parts, where), default=None)


def _shares_of_parts(run: Run, of: str, parts: Sequence[str], where: Mapping[str, Any]) -> Iterator[float]:
    for record in _records(run, of, {"scope": "layer", **where}):
        if {part.name for part in record.parts}.issuperset(parts):
            named = sum(part.latency_us for part in record.parts if part.name in parts)
            yield named / sum(part.latency_us for part in record.parts)


def _quotients(run: Run, of: str, over: str, quantity: str, where: Mapping[str, Any]) -> dict[Sizes, float]:
    own, other = (_least(run, words, quantity, where) for words in (of, over))
    return {sizes: other[sizes] / least for sizes, least in own.items() if sizes in other}


def _least(run: Run, words: str, quantity: str, where: Mapping[str, Any]) -> dict[Sizes, float]:
    """The least that any kernel takes, by sizes."""
    found: dict[Sizes, float] = {}
    for record in _records(run, words, where):
        sizes, taken = _sizes(record.case, words), QUANTITIES[quantity](record)
        if taken is not None:
            found[sizes] = min(found.get(sizes, taken), taken)
    return found


def _records(run: Run, words: str, where: Mapping[str, Any]) -> Iterator[Record]:
    wanted = {"scope": "core", "phase": "decode", **where}
    for record in run.records:
        is_named = record.timing and words in _names(record.case)
        if is_named and all(_has(record.case, name, value) for name, value in wanted.items()):
            yield record


def _has(case: Case, name: str, value: object) -> bool:
    return bool(getattr(case if hasattr(case, name) else case.variant, name, None) == value)


def _names(case: Case) -> tuple[str, ...]:
    variant = case.variant
    form = f" {variant.form}" if variant.form else ""
    return f"{variant.name}{form}", *(f"{model}{form}" for model in case.models)


def _sizes(case: Case, words: str) -> Sizes:
    """Models are compared whatever their hidden sizes; other layers only around the same one."""
    of_variant = words.partition(" ")[0] == case.variant.name
    return (
        ("num_q_heads", case.variant.num_q_heads),
        *((name, getattr(case, name)) for name in ("batch", "q_len", "kv_len", "kv_len_dist", "dtype")),
        ("hidden_size", case.hidden_size if of_variant else None),
    )


def _taken(record: Record, quantity: str) -> float:
    taken = QUANTITIES[quantity](record)
    assert taken is not None
    return taken
