"""torch's scaled_dot_product_attention, held to its FlashAttention or its cuDNN backend, on grouped decode.

It takes contiguous keys and values, and no pages. Where each request fills exactly one page (`-a page_size=4096` with
`-a kv_len=4096`) the cache is that already and is read in place, the queries of several requests being put into the
order of the pages. Otherwise the pages are gathered in the call, which a latency then holds: as torch users of a paged
cache have it, and no figure of the attention kernel. What torch returns is copied into `out`, in the call as well.
Lengths are uniform and q_len is 1, as neither backend takes a mask. A group's query heads are folded into rows. The
block table and the lengths are read by `bind`. `lse` is not written.
"""

from typing import TYPE_CHECKING, Any

from mla_kernels.launch import Launch
from mlabench.measure.peers.shapes import require, require_decode

if TYPE_CHECKING:
    from torch import Tensor

REFUSALS = ("No available kernel", "No viable backend")
"""What torch says where the backend does not take what it was given."""


def bind_flash(**tensors: Any) -> Launch:
    """Bind the FlashAttention backend to the tensors of grouped decode."""
    return _bind("FLASH_ATTENTION", **tensors)


def bind_cudnn(**tensors: Any) -> Launch:
    """Bind the cuDNN backend to the tensors of grouped decode."""
    return _bind("CUDNN_ATTENTION", **tensors)


def _bind(
    backend: str,
    *,
    q: "Tensor",
    k_cache: "Tensor",
    v_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    out: "Tensor",
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> Launch:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    from mla_kernels.paged_torch import Gather, find_tokens

    whose = f"torch's {backend} backend"
    require_decode(q, kv_lens, whose)
    kv_len = int(kv_lens.max())
    require(int(kv_lens.min()) == kv_len, f"{whose} takes requests of one length")
    num_pages, page_size, num_kv_heads, _ = k_cache.shape
    chosen, in_place = getattr(SDPBackend, backend), (num_pages, page_size) == (len(q), kv_len)
    # The request that each page belongs to, where a request has but one; None where they are in order.
    order = torch.argsort(block_table[:, 0]) if in_place and len(q) > 1 else None
    tokens = find_tokens(block_table, kv_lens, 1, page_size)
    gathers = [] if in_place else [Gather(cache, tokens.slots) for cache in (k_cache, v_cache)]

    def run() -> None:
        queries = q[:, 0] if order is None else q[order, 0]
        rows = queries.reshape(len(q), num_kv_heads, -1, q.shape[3])  # [B, G, H/G, D]
        keys, values = (gather() for gather in gathers) if gathers else (k_cache, v_cache)
        with sdpa_kernel(chosen):
            result = scaled_dot_product_attention(
                rows, keys.transpose(1, 2), values.transpose(1, 2), scale=softmax_scale
            )
        if order is None:
            out[:, 0].view(result.shape).copy_(result)
        else:
            out[:, 0].index_copy_(0, order, result.flatten(1, 2))

    try:
        run()
    except RuntimeError as error:
        require(not any(text in str(error) for text in REFUSALS), f"{whose} does not take this shape here")
        raise
    layout = "a page a request, read in place" if in_place else "pages gathered in the call"
    copied = "the result" if order is None else "the queries and the result"
    config = {"package": f"torch {torch.__version__}", "backend": backend, "layout": layout, "copied": copied}
    return Launch(config, sum(gather.nbytes for gather in gathers), run)
