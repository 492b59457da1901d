"""MLA prefill over a cache of latents that expands them: every cached token's keys and values in one product, then
grouped prefill over these.

As serving engines prefill behind a cached prefix. `bind` attends by `grouped_prefill`, `bind_torch` by
`grouped_prefill_torch`. The block table and the lengths are read by both; later changes to them are not seen.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mla_kernels.launch import Launch, check_dtype, check_shape
from mla_kernels.mla_layer_torch import bind_expand_cached, split_kv_b_proj

PAGE_SIZE = 128
"""Of the expanded keys and values: a page is a block of the Gluon kernel."""


def bind(**tensors: Any) -> Launch:
    """Bind to q `[total_q, num_q_heads, qk_nope_head_dim + qk_rope_head_dim]`, kv_cache `[num_pages, page_size,
    kv_lora_rank + qk_rope_head_dim]`, kv_b_proj `[num_q_heads, qk_nope_head_dim + v_head_dim, kv_lora_rank]`,
    block_table int32 `[batch, pages]`, kv_lens int32 `[batch]`, q_starts int32 `[batch + 1]`, out `[total_q,
    num_q_heads, v_head_dim]`, lse `[total_q, num_q_heads]` and softmax_scale, as `grouped_prefill.bind` describes them.

    Raises ValueError for shapes that do not fit together, NotImplementedError for what `grouped_prefill` cannot do.
    """
    from mla_kernels import grouped_prefill

    return _bind(grouped_prefill.bind, **tensors)


def bind_torch(**tensors: Any) -> Launch:
    """The same on any device; `lse` is left as it is."""
    from mla_kernels import grouped_prefill_torch

    return _bind(grouped_prefill_torch.bind, **tensors)


def _bind(
    bind_attention: Callable[..., Launch],
    *,
    q: Tensor,
    kv_cache: Tensor,
    kv_b_proj: Tensor,
    block_table: Tensor,
    kv_lens: Tensor,
    q_starts: Tensor,
    out: Tensor,
    lse: Tensor,
    softmax_scale: float,
) -> Launch:
    check_shape("q", q, None, None, None)
    (_, num_q_heads, qk_head_dim), (_, page_size, latent_dim) = q.shape, kv_cache.shape
    kv_lora_rank, v_head_dim = kv_b_proj.shape[2], out.shape[-1]
    nope_dim = qk_head_dim - (latent_dim - kv_lora_rank)
    check_shape("kv_b_proj", kv_b_proj, num_q_heads, nope_dim + v_head_dim, kv_lora_rank)
    check_shape("block_table", block_table, len(kv_lens), None)
    for name, tensor in (("kv_cache", kv_cache), ("kv_b_proj", kv_b_proj)):
        check_dtype(name, tensor, q.dtype)
    slots, expanded_table = _expanded_pages(block_table, kv_lens, page_size)
    pages = (len(slots) // PAGE_SIZE, PAGE_SIZE, num_q_heads)
    k_cache, v_cache = q.new_empty(*pages, qk_head_dim), q.new_empty(*pages, v_head_dim)
    k_up_proj, v_up_proj = split_kv_b_proj(kv_b_proj, nope_dim)
    expand = bind_expand_cached(
        kv_cache=kv_cache, slots=slots, k_up_proj=k_up_proj, v_up_proj=v_up_proj,
        keys=k_cache.flatten(0, 1), values=v_cache.flatten(0, 1),
    )  # fmt: skip
    attend = bind_attention(
        q=q, k_cache=k_cache, v_cache=v_cache, block_table=expanded_table, kv_lens=kv_lens, q_starts=q_starts, out=out,
        lse=lse, softmax_scale=softmax_scale,
    )  # fmt: skip

    def run() -> None:
        expand()
        attend()

    workspace_bytes = expand.workspace_bytes + k_cache.nbytes + v_cache.nbytes + attend.workspace_bytes
    return Launch(attend.config, workspace_bytes, run)


def _expanded_pages(block_table: Tensor, kv_lens: Tensor, page_size: int) -> tuple[Tensor, Tensor]:
    """Cache slots of the tokens in the order of the expanded pages, and these pages' table.

    The rest of a request's last page is its last token again.
    """
    slots, tables, pages = [], [], 0
    width = max(1, -(-max(kv_lens.tolist(), default=0) // PAGE_SIZE))
    for b, kv_len in enumerate(kv_lens.tolist()):
        count = -(-kv_len // PAGE_SIZE)
        token = torch.arange(count * PAGE_SIZE, device=block_table.device).clamp(max=max(kv_len - 1, 0))
        slots.append(block_table[b, token // page_size].long() * page_size + token % page_size)
        tables.append(pages + torch.arange(width, dtype=torch.int32, device=block_table.device))
        pages += count
    return torch.cat(slots), torch.stack(tables)
