"""Absorbed MLA prefill with torch: a request's latents are gathered once and serve as keys and as values.

Any device; requests one after the other. On a CPU fused scaled_dot_product_attention runs with the whole latent as the
value, the RoPE columns of its result dropped; on a GPU, where no fused kernel takes 576 columns, two products with a
float32 softmax between them, a block of queries at a time. Block table, lengths and starts are read by `bind`; later
changes to them are not seen. `lse` is not written.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mla_kernels.launch import Launch, check_dtype, check_shape
from mla_kernels.paged_torch import (
    CausalAttention,
    FillBlind,
    GatherRequest,
    PackedRequest,
    fill_zero,
    find_requests,
)

SCORES_LIMIT_BYTES = 1 << 29


def bind(
    *,
    q: Tensor,
    kv_cache: Tensor,
    block_table: Tensor,
    kv_lens: Tensor,
    q_starts: Tensor,
    out: Tensor,
    lse: Tensor | None = None,  # noqa: ARG001
    softmax_scale: float,
) -> Launch:
    """Bind to `q [total_q, num_q_heads, dim]`, `kv_cache [num_pages, page_size, dim]`, `block_table int32
    [batch, pages]`, `kv_lens int32 [batch]`, `q_starts int32 [batch + 1]` and `out [total_q, num_q_heads,
    kv_lora_rank]`, where `dim` is `kv_lora_rank + qk_rope_head_dim`; `lse` is left as it is.

    Raises ValueError for shapes that do not fit together.
    """
    total_q, num_q_heads, dim = q.shape
    batch = kv_lens.shape[0]
    check_shape("q", q, None, None, None)
    check_shape("kv_cache", kv_cache, None, None, dim)
    check_shape("block_table", block_table, batch, None)
    check_shape("q_starts", q_starts, batch + 1)
    check_shape("out", out, total_q, num_q_heads, None)
    check_dtype("kv_cache", kv_cache, q.dtype)
    check_dtype("out", out, q.dtype)
    requests = find_requests(block_table, kv_lens, q_starts, kv_cache.shape[1], total_q)
    if not requests:
        return Launch({}, 0, lambda: fill_zero(out))
    latents, fill_blind = GatherRequest(kv_cache, requests), FillBlind(out, requests)
    is_fused = q.device.type == "cpu"
    attend = (_fused if is_fused else _in_products)(requests, q, out, softmax_scale)

    def run() -> None:
        fill_blind()
        for request in requests:
            attend(request, latents(request))

    return Launch({"attend": "fused" if is_fused else "in_products"}, latents.nbytes, run)


def _fused(
    requests: list[PackedRequest], q: Tensor, out: Tensor, scale: float
) -> Callable[[PackedRequest, Tensor], None]:
    attention = CausalAttention(requests, q.device)
    return lambda request, latents: attention(q, request, latents[:, None], latents[:, None], scale, out)


def _in_products(
    requests: list[PackedRequest], q: Tensor, out: Tensor, scale: float
) -> Callable[[PackedRequest, Tensor], None]:
    num_q_heads, kv_lora_rank = out.shape[1:]
    sizes = [_queries_at_once(len(request.slots), num_q_heads) for request in requests]
    hidden = torch.ones(max(sizes), max(sizes), dtype=torch.bool, device=q.device).triu(1)[:, None]  # [Q, 1, Q]

    def attend(request: PackedRequest, latents: Tensor) -> None:
        for rows, seen in request.blocks(_queries_at_once(len(request.slots), num_q_heads)):
            scores = _scores(q[rows].flatten(0, 1), latents[:seen]).mul_(scale).unflatten(0, (-1, num_q_heads))
            count = scores.shape[0]
            scores[..., seen - count :].masked_fill_(hidden[:count, :, :count], -torch.inf)
            weights = torch.softmax(scores, dim=-1).to(q.dtype).flatten(0, 1)
            torch.mm(weights, latents[:seen, :kv_lora_rank], out=out[rows].flatten(0, 1))

    return attend


def _queries_at_once(kv_len: int, num_q_heads: int) -> int:
    return max(1, min(kv_len, SCORES_LIMIT_BYTES // (4 * kv_len * num_q_heads)))


def _scores(rows: Tensor, latents: Tensor) -> Tensor:
    """Products `[rows, kv_len]` in float32."""
    if rows.dtype == torch.float32:
        return rows @ latents.T
    return torch.bmm(rows[None], latents.T[None], out_dtype=torch.float32)[0]
