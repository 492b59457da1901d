"""MLA decode that expands K and V from the cached latents at each step, with torch.

Any device. Requests are taken in chunks, so that the expanded K and V stay within a limit; within a chunk one product
expands, and scaled_dot_product_attention attends. The block table and the lengths are read by `bind`; later changes to
them are not seen. `lse` is not written.
"""

import torch
from torch import Tensor

from mla_kernels.launch import Launch, check_dtype, check_shape
from mla_kernels.paged_torch import Attention, Gather, fill_zero, find_tokens

WORKSPACE_LIMIT_BYTES = 8 << 30


def bind(
    *,
    q: Tensor,
    kv_cache: Tensor,
    kv_b_proj: Tensor,
    block_table: Tensor,
    kv_lens: Tensor,
    out: Tensor,
    lse: Tensor | None = None,  # noqa: ARG001
    softmax_scale: float,
    workspace_limit_bytes: int = WORKSPACE_LIMIT_BYTES,
) -> Launch:
    """Bind to `q [batch, q_len, num_q_heads, qk_nope_head_dim + qk_rope_head_dim]`, `kv_cache [num_pages, page_size,
    kv_lora_rank + qk_rope_head_dim]`, `kv_b_proj [num_q_heads, qk_nope_head_dim + v_head_dim, kv_lora_rank]`,
    `block_table int32 [batch, pages]`, `kv_lens int32 [batch]` and `out [batch, q_len, num_q_heads, v_head_dim]`;
    `lse` is left as it is. At least one request is expanded at a time, whatever the limit.

    Raises ValueError for shapes that do not fit together.
    """
    batch, q_len, num_q_heads, qk_head_dim = q.shape
    kv_lora_rank, v_head_dim = kv_b_proj.shape[2], out.shape[3]
    rope_dim = kv_cache.shape[2] - kv_lora_rank
    nope_dim = qk_head_dim - rope_dim
    check_shape("q", q, None, None, None, None)
    check_shape("kv_cache", kv_cache, None, None, None)
    check_shape("kv_b_proj", kv_b_proj, num_q_heads, nope_dim + v_head_dim, kv_lora_rank)
    check_shape("block_table", block_table, batch, None)
    check_shape("kv_lens", kv_lens, batch)
    check_shape("out", out, batch, q_len, num_q_heads, v_head_dim)
    for name, tensor in (("kv_cache", kv_cache), ("kv_b_proj", kv_b_proj), ("out", out)):
        check_dtype(name, tensor, q.dtype)
    tokens = find_tokens(block_table, kv_lens, q_len, kv_cache.shape[1])
    kv_len = tokens.slots.shape[1]
    if kv_len == 0:
        return Launch({}, 0, lambda: fill_zero(out))
    request_bytes = kv_len * num_q_heads * (nope_dim + qk_head_dim + 2 * v_head_dim) * q.element_size()
    chunk = max(1, min(batch, workspace_limit_bytes // request_bytes))
    latents = Gather(kv_cache, tokens.slots[:chunk])
    projection = kv_b_proj.flatten(0, 1).T  # [C, H * (N + V)]
    expanded = q.new_empty(chunk * kv_len, projection.shape[1])
    keys = q.new_empty(chunk, kv_len, num_q_heads, qk_head_dim)
    attention = Attention(chunk, kv_len, num_q_heads, qk_head_dim, v_head_dim, q)

    def run_chunk(requests: slice) -> None:
        latent, rope = latents(tokens.slots[requests]).split([kv_lora_rank, rope_dim], dim=-1)  # [B, L, C], [B, L, R]
        count = latent.shape[0]
        product = torch.mm(latent.flatten(0, 1), projection, out=expanded[: count * kv_len])
        nope, values = product.view(count, kv_len, num_q_heads, -1).split([nope_dim, v_head_dim], dim=-1)
        keys[:count, ..., :nope_dim].copy_(nope)
        keys[:count, ..., nope_dim:].copy_(rope[:, :, None])
        seen = None if tokens.hidden is None else ~tokens.hidden[requests, None]
        result = attention(q[requests].transpose(1, 2), keys[:count], values, seen, softmax_scale).transpose(1, 2)
        out[requests].copy_(tokens.blank(result, requests))

    def run() -> None:
        for first in range(0, batch, chunk):
            run_chunk(slice(first, first + chunk))

    workspace_bytes = latents.nbytes + expanded.nbytes + keys.nbytes + attention.nbytes
    return Launch({"requests_at_once": chunk}, workspace_bytes, run)
