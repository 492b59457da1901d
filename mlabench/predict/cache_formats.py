"""How a cache holds a token: its bytes in each format, whatever the dtype of the queries."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlabench.cases.case import Case
from mlabench.cases.mla import Mla
from mlabench.cases.tensors import DTYPE_BYTES
from mlabench.cases.variant import Variant
from mlabench.errors import UsageError, near_names
from mlabench.predict.costs import Costs, costs_of

ELEMENT_BYTES: Mapping[str, int] = {"bfloat16": 2, "float16": 2, "float8": 1}
"""Formats with one size for every element; the one scale of a float8 tensor is no token's."""

FP8_656 = "fp8_656"
"""A latent in float8 with a float32 scale for every 128 elements, and its RoPE key in bfloat16.

DeepSeek's 512 and 64 elements take 512 + 4 * 4 + 2 * 64 = 656 bytes. Source: FlashMLA, README.md.
"""

SCALED_ELEMENTS = 128

AS_SERVED = "model"
"""Stands for the format in which a preset says that its model is commonly served."""

CACHE_FORMATS = (*ELEMENT_BYTES, FP8_656)


def parse_cache_formats(texts: Sequence[str]) -> tuple[str | None, ...]:
    """The formats of lists like `bfloat16,float8`, each once; None, the cases' own dtype, without any."""
    words = [word.strip() for text in texts for word in text.split(",")]
    for word in words:
        if word not in (*CACHE_FORMATS, AS_SERVED):
            raise UsageError(f"unknown --cache-format {word!r}: {near_names(word, (*CACHE_FORMATS, AS_SERVED))}")
    return tuple(dict.fromkeys(words)) or (None,)


def costs_in_format(case: Case, variant: Variant, cache_format: str | None) -> Costs:
    """The factors of the case with another variant, its cache in the format; None is the case's own dtype.

    Raises `UsageError` for a whole layer, and for a variant whose cache the format cannot hold.
    """
    costs = costs_of(case, variant)
    if cache_format in (None, case.dtype):
        return costs
    if case.scope == "layer":
        raise UsageError("--cache-format is of attention alone: leave -a scope=layer away")
    held = costs.kv_cache_bytes_per_token
    per_token = _token_bytes(variant, held // DTYPE_BYTES[case.dtype], str(cache_format))
    return replace(costs, kv_cache_bytes_per_token=per_token, bytes_per_token=costs.bytes_per_token + per_token - held)


def _token_bytes(variant: Variant, elements: int, cache_format: str) -> int:
    if cache_format in ELEMENT_BYTES:
        return elements * ELEMENT_BYTES[cache_format]
    if not isinstance(variant, Mla) or variant.form == "expanded" or variant.kv_lora_rank % SCALED_ELEMENTS:
        raise UsageError(
            f"--cache-format {cache_format} holds latents of a multiple of {SCALED_ELEMENTS} elements, which "
            f"{variant.label} does not cache: take {' or '.join(ELEMENT_BYTES)}"
        )
    scales = variant.kv_lora_rank // SCALED_ELEMENTS
    return variant.kv_lora_rank + 4 * scales + 2 * variant.qk_rope_head_dim
