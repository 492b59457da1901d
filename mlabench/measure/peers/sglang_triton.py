"""SGLang's Triton decode kernel on absorbed MLA, as its Triton backend runs it.

The splits are chosen as that backend chooses them under the server's defaults: at most eight a request in older
versions (0.5.9); in newer ones (0.5.23), which know of MLA, as many as a context of the longest request allows. The
pages are listed token by token in `bind`, as an engine does once a step; later changes to the block table or the
lengths are not seen. The kernel writes no log-sum-exp.
"""

import math
from collections.abc import Callable, Sequence
from inspect import signature
from typing import TYPE_CHECKING

from mla_kernels.launch import Launch
from mlabench.measure.peers.dense import list_slots
from mlabench.measure.peers.shapes import (
    import_first,
    installed_version,
    require,
    require_decode,
)

if TYPE_CHECKING:
    from torch import Tensor

MODULES = ("sglang.kernels.ops.attention.decode_attention", "sglang.srt.layers.attention.triton_ops.decode_attention")
"""Where the kernel lies, in newer and in older versions."""

DEFAULT_MAX_SPLITS = 8
"""The server's `--triton-attention-num-kv-splits` on CUDA."""

MIN_TOKENS_A_SPLIT = 32
"""What newer versions divide the context length by, for the most splits of MLA."""

HEADS_A_BLOCK = 16


def bind(
    *,
    q: "Tensor",
    kv_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    out: "Tensor",
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> Launch:
    """Bind to the tensors of absorbed MLA decode. Raises NotImplementedError for shapes that the kernel does not do."""
    import torch

    whose = "SGLang's Triton decode"
    require_decode(q, kv_lens, whose)
    batch, _, num_q_heads, _ = q.shape
    require(num_q_heads > 1, f"{whose} takes one query head for attention with a KV head for each")
    attend: Callable[..., None] = import_first(MODULES).decode_attention_fwd
    page_size, rank = kv_cache.shape[1], out.shape[3]
    lengths: list[int] = kv_lens.tolist()
    gpu = torch.cuda.get_device_properties(q.device)
    known = signature(attend).parameters
    most = max_splits(max(lengths), gpu.multi_processor_count) if "has_mla" in known else DEFAULT_MAX_SPLITS
    splits = choose_splits(lengths, num_q_heads, gpu.multi_processor_count, most)
    starts = torch.zeros(batch + 1, dtype=torch.int32, device=q.device)
    starts[1:] = kv_lens.cumsum(0)
    slots = list_slots(block_table, kv_lens, page_size)
    partial = torch.empty(batch, num_q_heads, most, rank, dtype=torch.float32, device=q.device)
    partial_lse = torch.empty(batch, num_q_heads, most, dtype=torch.float32, device=q.device)
    cache = kv_cache.flatten(0, 1).unsqueeze(1)
    tensors = q[:, 0], cache, cache[..., :rank], out[:, 0], starts, slots, partial, partial_lse
    splits_of = torch.tensor(splits, dtype=torch.int32, device=q.device)
    newer = {"k_scale": 1.0, "v_scale": 1.0, "has_mla": True, "use_pdl": gpu.major >= 9, "page_size": page_size}
    options = {name: value for name, value in newer.items() if name in known}

    def run() -> None:
        attend(*tensors, splits_of, most, sm_scale=softmax_scale, **options)

    config: dict[str, int | str | float] = {
        "package": installed_version(("sglang",)),
        "num_kv_splits": max(splits),
        "max_kv_splits": most,
    }
    return Launch(config, partial.nbytes + partial_lse.nbytes, run)


def max_splits(longest: int, multiprocessors: int) -> int:
    """The most splits of MLA in newer versions, for a server whose context is as long as the longest request."""
    by_context = _power_of_2_from(math.ceil(longest / MIN_TOKENS_A_SPLIT))
    return max(DEFAULT_MAX_SPLITS, min(_power_of_2_from(multiprocessors), by_context))


def choose_splits(lengths: Sequence[int], num_q_heads: int, multiprocessors: int, most: int) -> list[int]:
    """`num_kv_splits` of each request in SGLang's Triton backend, one KV head for all query heads."""
    longest, shortest = max(lengths), min(lengths)
    if longest * 8 < shortest * 10:
        shortest = longest
    by_raggedness = min(math.ceil(longest / shortest), most)
    # The multiprocessors count for more, the longer the context is.
    wanted_blocks = int(multiprocessors * max(math.log2(longest / 64), 1.0))
    blocks = len(lengths) * math.ceil(num_q_heads / min(HEADS_A_BLOCK, num_q_heads))
    by_size = min(math.ceil(wanted_blocks / blocks), most)
    chunks = [math.ceil(longest / splits) for splits in (by_raggedness, by_size)]
    return [max(math.ceil(length / chunk) for chunk in chunks) for length in lengths]


def _power_of_2_from(number: int) -> int:
    return 1 << (number - 1).bit_length()
