"""Cache sizes: bytes of a token by model, rank and precision, and how many times one is another's."""

from mlabench.cases.tensors import DTYPE_BYTES
from mlabench.claims.subjects import subject
from mlabench.predict.costs import costs_of
from mlabench.predict.ranks import on_one_rank

FP8_GROUP = 128
"""Latent elements that share one float32 scale in FlashMLA's float8 layout."""


def layer_bytes(of: str, tp: int = 1, bits: float | None = None) -> float:
    """Cache bytes of a token in one layer on one rank; `bits` an element, the model's bfloat16 unless given."""
    case = subject(of).case
    own = costs_of(case, on_one_rank(case.variant, tp)).kv_cache_bytes_per_token
    return own if bits is None else own * bits / 8 / DTYPE_BYTES[case.dtype]


def token_bytes(of: str, tp: int = 1, bits: float | None = None) -> float:
    """Cache bytes of a token in all layers."""
    return layer_bytes(of, tp, bits) * subject(of).layers


def layer_elements(of: str) -> float:
    """Cached elements of a token in one layer."""
    return layer_bytes(of, bits=8)


def token_elements(of: str) -> float:
    """Cached elements of a token in all layers."""
    return token_bytes(of, bits=8)


def context_bytes(of: str, tokens: int) -> float:
    """Cache bytes of a request of so many tokens."""
    return token_bytes(of) * tokens


def ratio(of: str, over: str, tp: int = 1, bits: float | None = None) -> float:
    """How many times smaller the cache of a token is in one layer."""
    return layer_bytes(over, tp) / layer_bytes(of, tp, bits)


def token_ratio(of: str, over: str, tp: int = 1, bits: float | None = None) -> float:
    """How many times smaller the cache of a token is in all layers; `bits` are those of the smaller."""
    return token_bytes(over, tp) / token_bytes(of, tp, bits)


def share(of: str, over: str, tp: int = 1) -> float:
    """What is left of a token's cache in one layer."""
    return 1 / ratio(of, over, tp)


def token_share(of: str, over: str, bits: float | None = None) -> float:
    """What is left of a token's cache in all layers."""
    return 1 / token_ratio(of, over, bits=bits)


def reduction(of: str, over: str) -> float:
    """What is saved of a token's cache in one layer."""
    return 1 - share(of, over)


def token_reduction(of: str, over: str, bits: float | None = None) -> float:
    """What is saved of a token's cache in all layers."""
    return 1 - token_share(of, over, bits)


def layers_ratio(of: str, over: str) -> float:
    """Layers of one model over those of another."""
    return subject(of).layers / subject(over).layers


def fp8_layer_bytes(of: str, index: bool = False) -> float:
    """Bytes of a token in FlashMLA's float8 layout: float8 latent, its scales, bfloat16 RoPE key; with the index key.

    An index key is `index_head_dim` float8 elements and a float32 scale.
    """
    sizes = subject(of).model.shape
    latent = sizes["kv_lora_rank"]
    own = latent + latent // FP8_GROUP * DTYPE_BYTES["float32"] + sizes["qk_rope_head_dim"] * DTYPE_BYTES["bfloat16"]
    return float(own + (index_bytes(of) if index else 0))


def index_bytes(of: str) -> float:
    """Bytes of a token's key in the index cache of sparse attention, in one layer."""
    from mlabench.cases.models import load_presets

    return float(load_presets()[of]["index_head_dim"] + DTYPE_BYTES["float32"])


def fp8_token_bytes(of: str, index: bool = False) -> float:
    """The same in all layers."""
    return fp8_layer_bytes(of, index) * subject(of).layers


def index_growth(of: str) -> float:
    """How many times larger the index makes a float8 cache."""
    return fp8_layer_bytes(of, index=True) / fp8_layer_bytes(of)
