"""Where one choice overtakes another, solved and not searched for: lengths, heads, new tokens, ranks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlabench.cases.case import Case
from mlabench.cases.grouped import Grouped
from mlabench.cases.mla import Form, Mla
from mlabench.cases.variant import Variant
from mlabench.errors import UsageError
from mlabench.machine.ceilings import ridge_flops_per_byte
from mlabench.predict.alternatives import alternatives
from mlabench.predict.costs import costs_of
from mlabench.predict.curves import crossings, floor_curve, takes_whole_prompts
from mlabench.predict.hardware import Gpu
from mlabench.predict.ranks import on_one_rank, possible_tps
from mlabench.predict.rows import Point
from mlabench.units import format_exact_bytes, format_tokens, format_whole

FORMS_OF_A_LATENT: tuple[Form, Form] = ("absorbed", "recompute")

AFTER = 1 + 1e-6
"""A length just above a crossing, over the crossing's own."""


@dataclass(frozen=True, slots=True)
class Crossover:
    """One place where a choice changes sides: `axis` is what is varied, `at` its value there, None for never.

    What does not depend on a GPU, a batch or the like has None there. `q_len` is None in prefill of whole prompts.
    """

    crossover: str
    model: str | None
    gpu: str | None
    variant: str
    form: str | None
    against: str | None
    phase: str | None
    batch: int | None
    q_len: int | None
    kv_len: int | None
    dtype: str
    tp: int | None
    axis: str
    at: float | None
    meaning: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def find_crossovers(points: Sequence[Point], gpus: Sequence[Gpu]) -> tuple[Crossover, ...]:
    """Every crossover of the points, each once, kind by kind. Raises `UsageError` for heads that do not split."""
    found: dict[Crossover, None] = {}
    for solve in SOLVERS:
        for point in points:
            for gpu in gpus:
                found |= dict.fromkeys(solve(point, gpu))
    return tuple(found)


def overtaking_kv_lens(point: Point, gpu: Gpu) -> Iterator[Crossover]:
    """The lengths at which the floors of the point's variant and of another at the same size change places."""
    case = point.case
    least = 1 if takes_whole_prompts(case) else case.q_len
    own = floor_curve(case, point.rank_variant, gpu.ceilings)
    for other in alternatives(case.variant, case.phase).values():
        try:
            against = floor_curve(case, on_one_rank(other, point.tp), gpu.ceilings)
        except UsageError:
            continue
        if other == case.variant or own is None or against is None:
            continue
        known = _known(point, gpu, "kv_len_overtakes", other) | {"kv_len": None, "axis": "kv_len"}
        roots = crossings(own, against, least)
        for root in roots:
            ahead, behind = _ordered(case.variant, other, own(root * AFTER) < against(root * AFTER))
            meaning = f"{ahead} is ahead of {behind} at the floor above kv_len {format_whole(math.floor(root))}"
            yield Crossover(**known, at=root, meaning=meaning)
        if not roots:
            ahead, behind = _ordered(case.variant, other, own(2 * least) < against(2 * least))
            yield Crossover(**known, at=None, meaning=f"{ahead} is ahead of {behind} at the floor at every kv_len")


def compute_bound_heads(point: Point, gpu: Gpu) -> Iterator[Crossover]:
    """The query heads of a rank, times new tokens, from which absorbed MLA is compute-bound on long caches."""
    variant, ridge = point.case.variant, ridge_flops_per_byte(gpu.ceilings, point.case.dtype)
    if not isinstance(variant, Mla) or variant.form != "absorbed" or ridge is None:
        return
    costs = costs_of(replace(point.case, phase="decode"))
    heads = ridge * costs.kv_cache_bytes_per_token * variant.num_q_heads / costs.flops_per_pair
    own = variant.num_q_heads // point.tp
    known = _known(point, gpu, "compute_bound_heads", None)
    known |= {"phase": "decode", "batch": None, "q_len": None, "kv_len": None}
    least = format_whole(math.ceil(heads))
    meaning = f"compute-bound from {least} heads x new tokens a rank on long caches; it has {own} heads"
    yield Crossover(**known, axis="num_q_heads*q_len", at=heads, meaning=meaning)


def absorbed_new_tokens(point: Point, gpu: Gpu) -> Iterator[Crossover]:
    """The new tokens behind a cached prefix below which absorbing takes fewer FLOP than expanding the prefix.

    The new tokens are expanded as often as their queries are absorbed, so those FLOP cancel. With N new tokens behind
    P cached ones, N P + N (N + 1) / 2 pairs at the extra FLOP of a latent pair are level with the expansion of P.
    """
    del gpu
    variant = point.case.variant
    if not isinstance(variant, Mla):
        return
    absorbed, recompute = (
        costs_of(replace(point.case, variant=_on_form(variant, form), phase="prefill")) for form in FORMS_OF_A_LATENT
    )
    extra, expansion = absorbed.flops_per_pair - recompute.flops_per_pair, recompute.flops_per_token
    known = _known(point, None, "absorbed_new_tokens", "mla recompute")
    known |= {"form": "absorbed", "phase": "prefill", "batch": None, "q_len": None, "tp": None, "axis": "q_len"}
    for prefix in (None, point.case.kv_len):
        behind = "a long prefix" if prefix is None else f"{format_tokens(prefix)} cached tokens"
        at = _level_new_tokens(expansion / extra, prefix) if extra > 0 else None
        most = f"up to {format_whole(math.floor(at))} new tokens" if at is not None else "whatever the new tokens"
        meaning = f"absorbed takes fewer FLOP than recompute {most} behind {behind}"
        yield Crossover(**known | {"kv_len": prefix}, at=at, meaning=meaning)


def grouped_cache_tp(point: Point, gpu: Gpu) -> Iterator[Crossover]:
    """The ranks from which grouped attention caches fewer bytes a token, layer and rank than MLA, which splits none."""
    del gpu
    case = point.case
    variants = {**alternatives(case.variant, "decode"), case.variant.name: case.variant}
    own = isinstance(case.variant, Mla)
    rivals = [variant for variant in variants.values() if not isinstance(variant, Mla)] if own else [case.variant]
    latent = _on_form(variants["mla"], "absorbed")
    latent_bytes = costs_of(case, latent).kv_cache_bytes_per_token
    for rival in rivals:
        ranks = [tp for tp in possible_tps(rival) if _rank_bytes(case, rival, tp) < latent_bytes]
        known = _known(point, None, "grouped_cache_tp", rival if own else latent)
        known |= {"phase": None, "batch": None, "q_len": None, "kv_len": None, "tp": None, "axis": "tp"}
        if not ranks:
            meaning = (
                f"{variant_name(rival)} never caches fewer bytes a rank than MLA's {format_exact_bytes(latent_bytes)}"
            )
            yield Crossover(**known, at=None, meaning=meaning)
            continue
        own_bytes = _rank_bytes(case, rival, ranks[0])
        meaning = (
            f"{variant_name(rival)} caches {format_exact_bytes(own_bytes)} a token, layer and rank from tp {ranks[0]}, "
            f"MLA {format_exact_bytes(latent_bytes)} at every tp"
        )
        yield Crossover(**known, at=ranks[0], meaning=meaning)


SOLVERS: Sequence[Callable[[Point, Gpu], Iterator[Crossover]]] = (
    overtaking_kv_lens,
    compute_bound_heads,
    absorbed_new_tokens,
    grouped_cache_tp,
)
"""Every kind of crossover, in the order in which they are shown."""


def _level_new_tokens(ratio: float, prefix: int | None) -> float:
    """N of N + N (N + 1) / (2 P) = ratio, the positive root; the limit of it for a long prefix without P."""
    if prefix is None:
        return ratio
    linear = 2 * prefix + 1
    return 4 * prefix * ratio / (linear + math.sqrt(linear * linear + 8 * prefix * ratio))


def _rank_bytes(case: Case, variant: Variant, tp: int) -> int:
    return costs_of(case, on_one_rank(variant, tp)).kv_cache_bytes_per_token


def _known(point: Point, gpu: Gpu | None, crossover: str, against: Variant | str | None) -> dict[str, Any]:
    case = point.case
    return {
        "crossover": crossover,
        "model": point.model.name,
        "gpu": gpu.name if gpu else None,
        "variant": case.variant.name,
        "form": case.variant.form,
        "against": against if isinstance(against, str | None) else variant_name(against),
        "phase": case.phase,
        "batch": case.batch,
        "q_len": None if takes_whole_prompts(case) else case.q_len,
        "kv_len": case.kv_len,
        "dtype": case.dtype,
        "tp": point.tp,
    }


def _on_form(variant: Variant, form: Form) -> Variant:
    """MLA in another form; another variant as it is."""
    return replace(variant, form=form) if isinstance(variant, Mla) else variant


def variant_name(variant: Variant) -> str:
    """A variant among others of its size: `gqa-8`, `mla absorbed`."""
    if isinstance(variant, Grouped) and variant.name == "gqa":
        return f"gqa-{variant.num_kv_heads}"
    return f"{variant.name} {variant.form}" if variant.form else variant.name


def _ordered(own: Variant, other: Variant, own_is_ahead: bool) -> tuple[str, str]:
    names = variant_name(own), variant_name(other)
    return names if own_is_ahead else (names[1], names[0])
