"""Where forms cross and what ranks hold when a model is served: prefixes, tensor parallelism, sparse attention."""

from mlabench.cases.mla import Mla
from mlabench.cases.models import load_presets
from mlabench.claims.cache import layer_bytes
from mlabench.claims.subjects import subject
from mlabench.claims.work import pair_flops
from mlabench.predict.crossovers import absorbed_new_tokens
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.rows import Point


def copies(of: str, tp: int) -> float:
    """How many times all ranks together hold what one GPU would."""
    return tp * layer_bytes(of, tp) / layer_bytes(of)


def level_new_tokens(of: str) -> float:
    """New tokens behind a long cached prefix at which absorbing takes as many FLOP as expanding the prefix."""
    one, (gpu, *_) = subject(of), choose_gpus(["h200-sxm"])
    at = next(absorbed_new_tokens(Point(one.model, one.case), gpu)).at
    assert at is not None
    return at


def shared_prefix_speedup(of: str, gpu: str, batch: int) -> float:
    """Floor of absorbed decode over that of expanded, on a prefix that all requests of a batch share and read once."""
    return _shared_floor_us(of, gpu, batch) / _shared_floor_us(f"{of} expanded", gpu, batch)


def shared_prefix_batch(of: str, gpu: str) -> float:
    """The requests from which the expanded form is ahead on such a prefix: it moves more bytes, the other more FLOP."""
    (own,) = choose_gpus([gpu])
    compute_us = own.ceilings.compute_us(round(pair_flops(of)), "bfloat16")
    assert compute_us is not None
    return own.ceilings.memory_us(round(layer_bytes(f"{of} expanded"))) / compute_us


def sparse_flops_quotient(of: str, kv_len: int) -> float:
    """FLOP of dense attention of one query over those of its top-k tokens and of the indexer that finds them."""
    dense = pair_flops(of) * kv_len
    return dense / (pair_flops(of) * min(kv_len, _top_k(of)) + _index_flops(of) * kv_len)


def sparse_level(of: str) -> float:
    """Cached tokens from which sparse attention takes fewer FLOP than dense."""
    return pair_flops(of) * _top_k(of) / (pair_flops(of) - _index_flops(of))


def grouped_latent_intensity(of: str, groups: int) -> float:
    """FLOP a byte of decode on a long cache if groups of heads share latents that divide MLA's among them."""
    variant = subject(of).case.variant
    assert isinstance(variant, Mla)
    widths = 2 * variant.kv_lora_rank / groups + variant.qk_rope_head_dim
    return 2 * variant.num_q_heads * widths / layer_bytes(of)


def _shared_floor_us(of: str, gpu: str, batch: int) -> float:
    (own,) = choose_gpus([gpu])
    floor_us = own.ceilings.floor_us(round(layer_bytes(of)), batch * round(pair_flops(of)), "bfloat16")
    assert floor_us is not None
    return floor_us


def _index_flops(of: str) -> float:
    """FLOP of the indexer for one cached token: a product of each of its heads with the token's key."""
    preset = load_presets()[of]
    return float(2 * preset["index_num_heads"] * preset["index_head_dim"])


def _top_k(of: str) -> int:
    return int(load_presets()[of]["index_topk"])
