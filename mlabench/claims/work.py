"""FLOP, weights and arithmetic intensity of a decode step, and where they bend or cross."""

from collections.abc import Sequence
from dataclasses import replace

from mlabench.cases.mla import Mla
from mlabench.claims.subjects import layer_subject, subject
from mlabench.machine.ceilings import Ceilings, ridge_flops_per_byte
from mlabench.predict.costs import Costs, Counts, costs_of
from mlabench.predict.crossovers import compute_bound_heads
from mlabench.predict.hardware import Gpu, choose_gpus
from mlabench.predict.ranks import on_one_rank
from mlabench.predict.rows import Point


def pair_flops(of: str) -> float:
    """FLOP of one query against one cached token in one layer's core."""
    return _core(of).flops_per_pair


def pair_flops_ratio(of: str, over: str) -> float:
    """The same over another's."""
    return pair_flops(of) / pair_flops(over)


def pair_flops_per_byte_of_cache(of: str, tp: int = 1) -> float:
    """Arithmetic intensity of decode on a long cache."""
    costs = _core(of, tp)
    return costs.flops_per_pair / costs.kv_cache_bytes_per_token


def expansion_flops(of: str) -> float:
    """FLOP of expanding a cached token into keys and values at every step; 0 in a form that does not."""
    return _core(of).flops_per_token


def expansion_over_absorbed(of: str) -> float:
    """FLOP a cached token of a step that expands the cache over those of one that absorbs."""
    expanded = _core(f"{of} recompute")
    return (expanded.flops_per_token + expanded.flops_per_pair) / pair_flops(of)


def over_ridge(of: str, gpu: str, tp: int = 1) -> float:
    """Arithmetic intensity of decode on a long cache over the ridge of a GPU's peaks: above 1 it is compute-bound."""
    return pair_flops_per_byte_of_cache(of, tp) / ridge(gpu)


def ridge(gpu: str) -> float:
    """FLOP a byte at which a GPU's published roofline bends."""
    found = ridge_flops_per_byte(_gpu(gpu).ceilings, "bfloat16")
    assert found is not None
    return found


def critical_heads(of: str, gpu: str, flops_per_s: float | None = None) -> float:
    """Heads times new tokens from which absorbed MLA is compute-bound; `flops_per_s` takes the place of the peak."""
    one, own = subject(of), _gpu(gpu)
    if flops_per_s:
        rates = {"bfloat16": flops_per_s}
        bandwidth = own.ceilings.bandwidth_bytes_per_s
        own = replace(own, ceilings=Ceilings(bandwidth, bandwidth, bandwidth, rates))
    at = next(compute_bound_heads(Point(one.model, one.case), own)).at
    assert at is not None
    return at


def floor_speedup(of: str, over: str, gpu: str) -> float:
    """Floor of one over that of another on a long cache, under a GPU's peaks."""
    return _floor_us(over, gpu) / _floor_us(of, gpu)


def layer_weights(of: str, parts: Sequence[str] = ()) -> float:
    """Weights of an attention layer, or of the named parts of it: its multiply-adds for a new token."""
    case = layer_subject(of)
    weight_bytes = sum(part.weight_bytes for part in case.parts if not parts or part.name in parts)
    return weight_bytes / 2


def layer_weights_ratio(of: str, over: str, parts: Sequence[str] = (), over_parts: Sequence[str] = ()) -> float:
    """The same over another's."""
    return layer_weights(of, parts) / layer_weights(over, over_parts)


def layer_flops_ratio(of: str, over: str, kv_len: int) -> float:
    """FLOP of a decode step of a whole layer over another's."""
    counts = Counts(1, 1, kv_len, kv_len, kv_len)
    return costs_of(layer_subject(of)).flops(counts) / costs_of(layer_subject(over)).flops(counts)


def layer_flops_cross(of: str, over: str) -> float:
    """Cached tokens at which a decode step takes the same FLOP in both layers."""
    own, other = costs_of(layer_subject(of)), costs_of(layer_subject(over))
    return (other.flops_per_query - own.flops_per_query) / (own.flops_per_pair - other.flops_per_pair)


def differing_sizes(of: str, over: str) -> float:
    """Attention sizes in which two models differ, the hidden size left out."""
    own, other = subject(of).model.shape, subject(over).model.shape
    return float(sum(own.get(key) != other.get(key) for key in {*own, *other} - {"hidden_size"}))


def kv_heads_share(of: str) -> float:
    """KV heads over query heads: 1 is MHA."""
    shape = subject(of).model.shape
    return float(shape["num_kv_heads"] / shape["num_q_heads"])


def score_flops_ratio(of: str) -> float:
    """What the decoupled RoPE adds to the scores of expanded heads: their width with it over that without."""
    variant = subject(of).case.variant
    assert isinstance(variant, Mla)
    return (variant.qk_nope_head_dim + variant.qk_rope_head_dim) / variant.qk_nope_head_dim


def rope_share_of_cache(of: str) -> float:
    """The RoPE key's share of what MLA caches."""
    variant = subject(of).case.variant
    assert isinstance(variant, Mla)
    return variant.qk_rope_head_dim / (variant.kv_lora_rank + variant.qk_rope_head_dim)


def expanded_width_over_latent(of: str) -> float:
    """Elements of the expanded keys over the latent's: what a count of one of K and V without RoPE finds."""
    variant = subject(of).case.variant
    assert isinstance(variant, Mla)
    return variant.num_q_heads * variant.qk_nope_head_dim / variant.kv_lora_rank


def latent_share_of_keys(of: str) -> float:
    """The inverse of that."""
    return 1 / expanded_width_over_latent(of)


def rank_share(of: str) -> float:
    """Highest rank that a layer's expanded keys and values can have over their width."""
    variant = subject(of).case.variant
    assert isinstance(variant, Mla)
    width = variant.num_q_heads * (variant.qk_nope_head_dim + variant.v_head_dim)
    return min(variant.kv_lora_rank, width) / width


def _core(of: str, tp: int = 1) -> Costs:
    case = subject(of).case
    return costs_of(case, on_one_rank(case.variant, tp))


def _floor_us(of: str, gpu: str) -> float:
    costs, ceilings = _core(of), _gpu(gpu).ceilings
    floor_us = ceilings.floor_us(costs.kv_cache_bytes_per_token, costs.flops_per_pair, "bfloat16")
    assert floor_us is not None
    return floor_us


def _gpu(name: str) -> Gpu:
    return choose_gpus([name])[0]
