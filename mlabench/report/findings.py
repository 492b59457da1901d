"""What a view's numbers say, in sentences and in short; all of it is computed, or left out where data is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.machine.ceilings import ridge_flops_per_byte
from mlabench.report.series import SHAPE, View, measured
from mlabench.units import (
    format_count,
    format_exact_bytes,
    format_latency,
    format_percent,
    format_ratio,
    format_tokens,
)

if TYPE_CHECKING:
    import pandas

BASELINES = ("mha", "gqa")
FORMS = {"decode": ("absorbed", "recompute", "expanded"), "prefill": ("expanded", "recompute", "absorbed")}
"""Which form of MLA a sentence is about, by phase: the first one that was measured.

Serving decodes absorbed and prefills expanded, where the larger heads of the absorbed form cost several times the FLOP.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence, and its numbers for those who only look: each with the words that go under it."""

    sentence: str
    numbers: tuple[tuple[str, str], ...]


def findings(view: View) -> tuple[Finding, ...]:
    """What the view shows: at most three findings."""
    rows = view.frame[view.frame["num_q_heads"] == view.context.num_q_heads]
    found = (find(view, rows) for find in FINDERS)
    return tuple(finding for finding in found if finding)


def cache_finding(view: View, rows: "pandas.DataFrame") -> Finding | None:
    """MLA's cache bytes against MHA's and GQA's at the same precision and head count.

    What is cached is there for decode, so that its form counts in every phase.
    """
    mla = _first_form(rows, "decode")
    clauses, numbers = [], []
    for series in _baselines(view) if mla is not None else ():
        other = rows[rows["series"] == series]
        if len(other):
            clauses.append(_cache_clause(_cache_bytes(mla), _cache_bytes(other), series))
            numbers.append(_cache_number(_cache_bytes(mla), _cache_bytes(other), series))
    if not clauses:
        return None
    sentence = (
        f"{_name(mla)} caches {format_exact_bytes(_cache_bytes(mla))} per token and layer in {view.context.dtype} at "
        f"{view.context.num_q_heads} heads: {' and '.join(clauses)}, all at the same precision."
    )
    return Finding(sentence, tuple(numbers))


def speed_finding(view: View, rows: "pandas.DataFrame") -> Finding | None:
    """MLA's measured latency against MHA's and GQA's, at the largest call that both completed."""
    fastest, phase = measured(rows), view.context.phase
    mla = _first_form(fastest, phase)
    clauses, numbers = [], []
    for series in _baselines(view) if mla is not None else ():
        pairs = mla.merge(fastest[fastest["series"] == series], on=SHAPE, suffixes=("", "_base"))
        if len(pairs):
            pair = pairs.sort_values(SHAPE).iloc[-1]
            clauses.append(_comparison(pair, series))
            numbers.append(_speed_number(pair, series))
    if not clauses:
        return None
    where = "In this run" if phase == "decode" else f"In this run's {phase}"
    if view.context.scope == "layer":
        where = f"In this run's {phase} of whole layers"
    longest = "cache" if phase == "decode" else view.context.length
    sentence = (
        f"{where} {_name(mla)} with {view.context.num_q_heads} heads {' and '.join(clauses)}: the fastest "
        f"checked kernel of each, at the longest {longest} and then the largest batch that both completed."
    )
    return Finding(sentence, tuple(numbers))


def roofline_finding(view: View, rows: "pandas.DataFrame") -> Finding | None:
    """Which ceiling MLA lies under, and how near, at its largest call."""
    ceilings, context = view.context.ceilings, view.context
    ridge = ridge_flops_per_byte(ceilings, context.dtype) if ceilings else None
    mla = _first_form(measured(rows), context.phase)
    if mla is None or ridge is None:
        return None
    point = mla.sort_values(SHAPE).iloc[-1]
    above = point["bound"] == "compute"
    whole = "A whole layer of " if context.scope == "layer" else ""
    intensity = format_count(point["arithmetic_intensity_flops_per_byte"], "FLOP")
    share = format_percent(point["fraction_of_floor"])
    binds = "arithmetic" if above else "memory traffic"
    sentence = (
        f"{whole}{point['series']} with {context.num_q_heads} heads does {intensity} per byte, "
        f"{'above' if above else 'below'} this machine's measured ridge of {format_count(ridge, 'FLOP')} per byte, so "
        f"the roofline says that {binds} binds it; at {_size(point)} it reached "
        f"{share} of the roofline's speed in this run.{_other_side(view, point)}"
    )
    return Finding(sentence, ((share, f"of the roofline's speed at {_size(point)}: {binds} binds"),))


def _other_side(view: View, point: Any) -> str:
    """The head counts at which the same form lies under the other ceiling."""
    same = view.frame[(view.frame[["series", "kv_len", "q_len"]] == point[["series", "kv_len", "q_len"]]).all(axis=1)]
    other = same[same["bound"].notna() & (same["bound"] != point["bound"])]
    heads = [str(value) for value in sorted(set(other["num_q_heads"]))]
    ceiling = "memory traffic" if point["bound"] == "compute" else "arithmetic"
    return f" With {' and '.join(heads)} heads {ceiling} binds it." if heads else ""


def _cache_clause(own: int, other: int, series: str) -> str:
    factor = f"{format_ratio(other / own)} fewer" if other >= own else f"{format_ratio(own / other)} as many"
    return f"{factor} {'than' if other >= own else 'as'} {series} ({format_exact_bytes(other)})"


def _cache_number(own: int, other: int, series: str) -> tuple[str, str]:
    if other >= own:
        return format_ratio(other / own), f"fewer cache bytes than {series}"
    return format_ratio(own / other), f"as many cache bytes as {series}"


def _speed_number(pair: Any, series: str) -> tuple[str, str]:
    ratio = pair["latency_us_base"] / pair["latency_us"]
    if ratio >= 1:
        return format_ratio(ratio), f"as fast as {series} at {_size(pair)}"
    return format_ratio(1 / ratio), f"as long as {series} at {_size(pair)}"


def _comparison(pair: Any, series: str) -> str:
    ratio = pair["latency_us_base"] / pair["latency_us"]
    verb = f"ran {format_ratio(ratio)} as fast as" if ratio >= 1 else f"took {format_ratio(1 / ratio)} as long as"
    own, other = format_latency(pair["latency_us"]), format_latency(pair["latency_us_base"])
    if pair["backend"] != pair["backend_base"]:
        own, other = f"{own} on {pair['kernel']}", f"{other} on {pair['kernel_base']}"
    return f"{verb} {series} at {_size(pair)} ({own} against {other})"


def _size(point: Any) -> str:
    """What tells a call from others of its view; of a whole prompt and in decode q_len does not."""
    is_chunk = point["phase"] == "prefill" and point["q_len"] != point["kv_len"]
    new = f"q_len {format_tokens(point['q_len'])}, " if is_chunk else ""
    return f"{new}kv_len {format_tokens(point['kv_len'])} and batch {point['batch']}"


def _name(rows: Any) -> str:
    return str(rows["series"].iloc[0])


def _cache_bytes(rows: Any) -> int:
    return int(rows["kv_cache_bytes_per_token"].iloc[0])


def _first_form(rows: "pandas.DataFrame", phase: str) -> Any:
    """The rows of the phase's first form of MLA that has any; None where there is no MLA."""
    for form in FORMS[phase]:
        own = rows[(rows["variant"] == "mla") & (rows["form"] == form)]
        if len(own):
            return own
    return None


def _baselines(view: View) -> list[str]:
    return [one.name for one in view.context.series if one.style.variant in BASELINES and one.style.place == 0]


FINDERS: tuple[Callable[[View, Any], Finding | None], ...] = (cache_finding, speed_finding, roofline_finding)
"""In the order of the page."""
