"""Absorbed MLA decode with torch: the latents are gathered once and serve as keys and as values.

Any device. On a CPU one fused scaled_dot_product_attention runs with the whole latent as the value, the RoPE columns of
its result dropped; on a GPU, where no fused kernel takes 576 columns, two batched products with a float32 softmax
between them. The block table and the lengths are read by `bind`; later changes to them are not seen. `lse` is not
written.
"""

import torch
import torch.nn.functional as functional
from torch import Tensor

from mla_kernels.launch import Launch, check_dtype, check_shape
from mla_kernels.paged_torch import Gather, fill_zero, find_tokens


def bind(
    *,
    q: Tensor,
    kv_cache: Tensor,
    block_table: Tensor,
    kv_lens: Tensor,
    out: Tensor,
    lse: Tensor | None = None,  # noqa: ARG001
    softmax_scale: float,
) -> Launch:
    """Bind to `q [batch, q_len, num_q_heads, dim]`, `kv_cache [num_pages, page_size, dim]`, `block_table int32
    [batch, pages]`, `kv_lens int32 [batch]` and `out [batch, q_len, num_q_heads, kv_lora_rank]`, where `dim` is
    `kv_lora_rank + qk_rope_head_dim`; `lse` is left as it is.

    Raises ValueError for shapes that do not fit together.
    """
    batch, q_len, num_q_heads, dim = q.shape
    check_shape("q", q, None, None, None, dim)
    check_shape("kv_cache", kv_cache, None, None, dim)
    check_shape("block_table", block_table, batch, None)
    check_shape("kv_lens", kv_lens, batch)
    check_shape("out", out, batch, q_len, num_q_heads, None)
    check_dtype("kv_cache", kv_cache, q.dtype)
    check_dtype("out", out, q.dtype)
    tokens = find_tokens(block_table, kv_lens, q_len, kv_cache.shape[1])
    if tokens.slots.shape[1] == 0:
        return Launch({}, 0, lambda: fill_zero(out))
    hidden = None if tokens.hidden is None else tokens.hidden.repeat_interleave(num_q_heads, 1)  # [B, Q * H, L]
    attend = _attend_fused if q.device.type == "cpu" else _attend_in_products
    latents = Gather(kv_cache, tokens.slots)

    def run() -> None:
        result = attend(q.flatten(1, 2), latents(), hidden, softmax_scale, out.shape[3])
        out.copy_(tokens.blank(result.unflatten(1, (q_len, num_q_heads))))

    return Launch({"attend": attend.__name__.removeprefix("_attend_")}, latents.nbytes, run)


def _attend_fused(rows: Tensor, latents: Tensor, hidden: Tensor | None, scale: float, kv_lora_rank: int) -> Tensor:
    mask = None if hidden is None else ~hidden[:, None]
    shared = latents[:, None]
    return functional.scaled_dot_product_attention(rows[:, None], shared, shared, mask, scale=scale)[
        :, 0, :, :kv_lora_rank
    ]


def _attend_in_products(
    rows: Tensor, latents: Tensor, hidden: Tensor | None, scale: float, kv_lora_rank: int
) -> Tensor:
    if rows.dtype == torch.float32:
        scores = torch.bmm(rows, latents.transpose(1, 2))
    else:
        scores = torch.bmm(rows, latents.transpose(1, 2), out_dtype=torch.float32)
    scores *= scale
    if hidden is not None:
        scores.masked_fill_(hidden, -torch.inf)
    weights = torch.softmax(scores, dim=-1).to(rows.dtype)
    return torch.bmm(weights, latents[..., :kv_lora_rank])
