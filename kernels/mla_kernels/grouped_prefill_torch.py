"""Grouped prefill with torch: a request's pages are gathered, then `scaled_dot_product_attention` runs on the copy.

Any device and any head dims; requests one after the other. Block table, lengths and starts are read by `bind`; later
changes to them are not seen. `lse` is not written, because scaled_dot_product_attention does not return it.
"""

from torch import Tensor

from mla_kernels.launch import Launch, check_dtype, check_shape
from mla_kernels.paged_torch import CausalAttention, FillBlind, GatherRequest, fill_zero, find_requests


def bind(
    *,
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    kv_lens: Tensor,
    q_starts: Tensor,
    out: Tensor,
    lse: Tensor | None = None,  # noqa: ARG001
    softmax_scale: float,
) -> Launch:
    """Bind to `q [total_q, num_q_heads, qk_dim]`, `k_cache [num_pages, page_size, num_kv_heads, qk_dim]`,
    `v_cache [num_pages, page_size, num_kv_heads, v_dim]`, `block_table int32 [batch, pages]`, `kv_lens int32 [batch]`,
    `q_starts int32 [batch + 1]` and `out [total_q, num_q_heads, v_dim]`; `lse` is left as it is.

    Raises ValueError for shapes that do not fit together.
    """
    total_q, num_q_heads, qk_dim = q.shape
    num_pages, page_size, num_kv_heads, v_dim = v_cache.shape
    batch = kv_lens.shape[0]
    check_shape("q", q, None, None, None)
    check_shape("v_cache", v_cache, None, None, None, None)
    check_shape("k_cache", k_cache, num_pages, page_size, num_kv_heads, qk_dim)
    check_shape("block_table", block_table, batch, None)
    check_shape("q_starts", q_starts, batch + 1)
    check_shape("out", out, total_q, num_q_heads, v_dim)
    for name, tensor in (("k_cache", k_cache), ("v_cache", v_cache), ("out", out)):
        check_dtype(name, tensor, q.dtype)
    if num_q_heads % num_kv_heads:
        raise ValueError(f"num_q_heads {num_q_heads} is not a multiple of num_kv_heads {num_kv_heads}")
    requests = find_requests(block_table, kv_lens, q_starts, page_size, total_q)
    if not requests:
        return Launch({}, 0, lambda: fill_zero(out))
    # The fused kernel for CPUs takes values only as wide as the keys.
    width = qk_dim if q.device.type == "cpu" and v_dim < qk_dim else None
    keys, values = GatherRequest(k_cache, requests), GatherRequest(v_cache, requests, width)
    attend, fill_blind = CausalAttention(requests, q.device), FillBlind(out, requests)

    def run() -> None:
        fill_blind()
        for request in requests:
            attend(q, request, keys(request), values(request), softmax_scale, out)

    return Launch({}, keys.nbytes + values.nbytes, run)
