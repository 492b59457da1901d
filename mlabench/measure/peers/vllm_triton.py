"""vLLM's Triton decode kernel on absorbed MLA, as its backend TRITON_MLA runs it.

The splits are chosen as that backend chooses them in vLLM 0.23: one for each 512 tokens of the longest request, rounded
up to a power of two, and at most two for each multiprocessor.
"""

from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING

from mla_kernels.launch import Launch
from mlabench.measure.peers.shapes import (
    import_first,
    installed_version,
    require,
    require_decode,
)

if TYPE_CHECKING:
    from torch import Tensor

MODULES = ("vllm.v1.attention.ops.triton_decode_attention", "vllm.attention.ops.triton_decode_attention")
"""Where the kernel lies, in newer and in older versions."""

TOKENS_A_SPLIT = 512
SPLITS_A_MULTIPROCESSOR = 2


def bind(
    *,
    q: "Tensor",
    kv_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    out: "Tensor",
    lse: "Tensor",
    softmax_scale: float,
) -> Launch:
    """Bind to the tensors of absorbed MLA decode. Raises NotImplementedError for shapes that the kernel does not do."""
    import torch

    whose = "vLLM's Triton decode"
    require_decode(q, kv_lens, whose)
    batch, _, num_q_heads, _ = q.shape
    page_size, rank = kv_cache.shape[1], out.shape[3]
    require(page_size % 16 == 0, f"{whose} takes page sizes that are multiples of 16, not {page_size}")
    require(num_q_heads > 1, f"{whose} takes one query head for attention with a KV head for each")
    attend: Callable[..., None] = import_first(MODULES).decode_attention_fwd
    splits = choose_splits(int(kv_lens.max()), torch.cuda.get_device_properties(q.device).multi_processor_count)
    partial = torch.empty(batch, num_q_heads, splits, rank + 1, dtype=torch.float32, device=q.device)
    one = torch.ones((), dtype=torch.float32, device=q.device)
    known = signature(attend).parameters
    options = {name: value for name, value in _options(one).items() if name in known}
    cache = kv_cache.unsqueeze(2)
    tensors = q[:, 0], cache, cache[..., :rank], out[:, 0], lse[:, 0], block_table, kv_lens, partial

    def run() -> None:
        attend(*tensors, splits, softmax_scale, page_size, **options)

    return Launch({"package": installed_version(("vllm",)), "num_kv_splits": splits}, partial.nbytes, run)


def choose_splits(longest: int, multiprocessors: int) -> int:
    """`num_kv_splits` of TRITON_MLA in vLLM 0.23."""
    wanted = max(1, longest // TOKENS_A_SPLIT)
    return min(1 << (wanted - 1).bit_length(), SPLITS_A_MULTIPROCESSOR * multiprocessors)


def _options(one: "Tensor") -> dict[str, object]:
    # Without these scales each call would copy a number from the host, which cannot be captured in a graph.
    return {"k_scale": one, "v_scale": one, "is_mla": True}
