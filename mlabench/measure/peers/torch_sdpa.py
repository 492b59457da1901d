"""torch's scaled_dot_product_attention, held to its FlashAttention or its cuDNN backend: grouped decode and prefill.

In decode it takes contiguous keys and values, and no pages. Where each request fills exactly one page (`-a
page_size=4096` with `-a kv_len=4096`) the cache is that already and is read in place, the queries of several requests
being put into the order of the pages. Otherwise the pages are gathered in the call, which a latency then holds: as
torch users of a paged cache have it, and no figure of the attention kernel. What torch returns is copied into `out`, in
the call as well. Lengths are uniform and q_len is 1, as neither backend takes a mask. A group's query heads are folded
into rows. The block table and the lengths are read by `bind`. `lse` is not written.

In prefill it takes whole prompts of one length, where its causal mask is the one that is meant; the tokens are gathered
in the call unless they lie in order: see `dense.py`. torch allocates the result, of which nothing is copied where it
lays the heads of a token out side by side, as it does for these queries.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mla_kernels.launch import Launch
from mlabench.measure.peers.dense import find_dense
from mlabench.measure.peers.launch import Outputs, OwnOutputs
from mlabench.measure.peers.shapes import require, require_decode, require_half, require_tokens

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")

REFUSALS = ("No available kernel", "No viable backend")
"""What torch says where the backend does not take what it was given."""


def bind_flash(**tensors: Any) -> Launch:
    """Bind the FlashAttention backend to the tensors of grouped decode."""
    return _bind("FLASH_ATTENTION", **tensors)


def bind_cudnn(**tensors: Any) -> Launch:
    """Bind the cuDNN backend to the tensors of grouped decode."""
    return _bind("CUDNN_ATTENTION", **tensors)


def bind_flash_prefill(**tensors: Any) -> OwnOutputs:
    """Bind the FlashAttention backend to the tensors of grouped prefill."""
    return _bind_prefill("FLASH_ATTENTION", **tensors)


def bind_cudnn_prefill(**tensors: Any) -> OwnOutputs:
    """Bind the cuDNN backend to the tensors of grouped prefill."""
    return _bind_prefill("CUDNN_ATTENTION", **tensors)


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

    _try(run, whose)
    layout = "a page a request, read in place" if in_place else "pages gathered in the call"
    copied = "the result" if order is None else "the queries and the result"
    config = {"package": f"torch {torch.__version__}", "backend": backend, "layout": layout, "copied": copied}
    return Launch(config, sum(gather.nbytes for gather in gathers), run)


def _bind_prefill(
    backend: str,
    *,
    q: "Tensor",
    k_cache: "Tensor",
    v_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    q_starts: "Tensor",
    out: "Tensor",  # noqa: ARG001
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> OwnOutputs:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    whose = f"torch's {backend} backend"
    require_half(q, whose)
    require_tokens(kv_lens, whose)
    kv_len = int(kv_lens.max())
    new_tokens = q_starts.diff().tolist()
    require(
        new_tokens == kv_lens.tolist() == [kv_len] * len(kv_lens),
        f"{whose} takes whole prompts of one length, without a cached prefix",
    )
    dense, num_kv_heads = find_dense(block_table, kv_lens, k_cache.shape[1]), k_cache.shape[2]
    keys, values = dense.reader(k_cache), dense.reader(v_cache)
    chosen, batch = getattr(SDPBackend, backend), len(kv_lens)
    rows = q.view(batch, kv_len, *q.shape[1:]).transpose(1, 2)  # [B, H, L, D]

    def attend() -> "Tensor":
        k, v = (read().view(batch, kv_len, num_kv_heads, -1).transpose(1, 2) for read in (keys, values))  # [B, G, L, D]
        with sdpa_kernel(chosen):
            result = scaled_dot_product_attention(
                rows, k, v, is_causal=True, scale=softmax_scale, enable_gqa=num_kv_heads < q.shape[1]
            )
        return result.transpose(1, 2)

    def run() -> Outputs:
        return {"out": attend().flatten(0, 1)}

    copied = "nothing" if _try(attend, whose).is_contiguous() else "the result"
    config = {"package": f"torch {torch.__version__}", "backend": backend, "layout": dense.layout, "copied": copied}
    return OwnOutputs(config, run)


def _try(run: Callable[[], Result], whose: str) -> Result:
    """What the first call gives. Raises NotImplementedError where the backend does not take what it was given."""
    try:
        return run()
    except RuntimeError as error:
        require(not any(text in str(error) for text in REFUSALS), f"{whose} does not take this shape here")
        raise
