"""Tensor parallelism: what of an attention layer one rank holds and does."""

from dataclasses import replace
from functools import lru_cache

from mlabench.cases.grouped import Grouped
from mlabench.cases.mla import Mla
from mlabench.cases.variant import Variant
from mlabench.errors import UsageError

MOST_RANKS = 1 << 16


def on_one_rank(variant: Variant, tp: int) -> Variant:
    """A rank's share of a variant whose heads are split over `tp` ranks.

    Query heads are split; KV heads are split down to one a rank and then held by several; the latent of MLA has no
    heads, and every rank holds the whole of it. Raises `UsageError` for a `tp` that splits no heads evenly.
    """
    return variant if tp == 1 else _share((variant, tp))


def possible_tps(variant: Variant) -> tuple[int, ...]:
    """Every number of ranks, up to `MOST_RANKS`, over which the heads can be split."""
    return tuple(tp for tp in range(1, min(variant.num_q_heads, MOST_RANKS) + 1) if _splits(variant, tp))


@lru_cache(maxsize=1 << 14)
def _share(key: tuple[Variant, int]) -> Variant:
    variant, tp = key
    if not _splits(variant, tp):
        works = ", ".join(str(value) for value in possible_tps(variant))
        raise UsageError(f"--tp {tp} does not split the heads of {variant.label} evenly: choose among {works}")
    num_q_heads = variant.num_q_heads // tp
    if isinstance(variant, Grouped):
        return replace(variant, num_q_heads=num_q_heads, num_kv_heads=max(1, variant.num_kv_heads // tp))
    assert isinstance(variant, Mla)
    return replace(variant, num_q_heads=num_q_heads)


def _splits(variant: Variant, tp: int) -> bool:
    if variant.num_q_heads % tp:
        return False
    kv_heads = variant.num_kv_heads if isinstance(variant, Grouped) else 1
    return kv_heads % tp == 0 or tp % kv_heads == 0
