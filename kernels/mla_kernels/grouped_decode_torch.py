"""Grouped decode attention with torch: the pages are gathered, then `scaled_dot_product_attention` runs on the copy.

Any device and any head dims. A group's query heads are folded into the rows of one product, so that K and V are read
once a group. The block table and the lengths are read by `bind`; later changes to them are not seen. `lse` is not
written, because scaled_dot_product_attention does not return it.
"""

from torch import Tensor

from mla_kernels.launch import Launch, check_dtype, check_shape
from mla_kernels.paged_torch import Attention, Gather, fill_zero, find_tokens


def bind(
    *,
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    kv_lens: Tensor,
    out: Tensor,
    lse: Tensor | None = None,  # noqa: ARG001
    softmax_scale: float,
) -> Launch:
    """Bind to `q [batch, q_len, num_q_heads, qk_dim]`, `k_cache [num_pages, page_size, num_kv_heads, qk_dim]`,
    `v_cache [num_pages, page_size, num_kv_heads, v_dim]`, `block_table int32 [batch, pages]`, `kv_lens int32 [batch]`
    and `out [batch, q_len, num_q_heads, v_dim]`; `lse` is left as it is.

    Raises ValueError for shapes that do not fit together.
    """
    batch, q_len, num_q_heads, qk_dim = q.shape
    num_pages, page_size, num_kv_heads, _ = k_cache.shape
    check_shape("q", q, None, None, None, qk_dim)
    check_shape("k_cache", k_cache, None, None, None, qk_dim)
    check_shape("v_cache", v_cache, num_pages, page_size, num_kv_heads, None)
    check_shape("block_table", block_table, batch, None)
    check_shape("kv_lens", kv_lens, batch)
    check_shape("out", out, batch, q_len, num_q_heads, v_cache.shape[3])
    for name, tensor in (("k_cache", k_cache), ("v_cache", v_cache), ("out", out)):
        check_dtype(name, tensor, q.dtype)
    if num_q_heads % num_kv_heads:
        raise ValueError(f"num_q_heads {num_q_heads} is not a multiple of num_kv_heads {num_kv_heads}")
    tokens = find_tokens(block_table, kv_lens, q_len, page_size)
    if tokens.slots.shape[1] == 0:
        return Launch({}, 0, lambda: fill_zero(out))
    group = num_q_heads // num_kv_heads
    seen = None if tokens.hidden is None else ~tokens.hidden.repeat_interleave(group, 1)[:, None]  # [B, 1, Q * H/G, L]
    keys, values = Gather(k_cache, tokens.slots), Gather(v_cache, tokens.slots)
    attention = Attention(batch, tokens.slots.shape[1], num_kv_heads, qk_dim, v_cache.shape[3], q)

    def run() -> None:
        rows = q.unflatten(2, (num_kv_heads, group)).movedim(2, 1).flatten(2, 3)  # [B, G, Q * H/G, D]
        result = attention(rows, keys(), values(), seen, softmax_scale)
        result = result.unflatten(2, (q_len, group)).movedim(1, 2).flatten(2, 3)
        out.copy_(tokens.blank(result))

    return Launch({}, keys.nbytes + values.nbytes + attention.nbytes, run)
