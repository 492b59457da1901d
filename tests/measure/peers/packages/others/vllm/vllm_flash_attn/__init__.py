# ruff: noqa: ARG001
"""A stand-in for vLLM's build of FlashAttention-3."""

import torch
from attention import attend


def get_scheduler_metadata(
    batch_size,
    max_seqlen_q,
    max_seqlen_k,
    num_heads_q,
    num_heads_kv,
    headdim,
    cache_seqlens,
    *,
    qkv_dtype,
    headdim_v,
    cu_seqlens_q,
    page_size,
    causal,
):
    assert causal
    assert max_seqlen_k == cache_seqlens.max()
    return batch_size, max_seqlen_q, num_heads_q, num_heads_kv, headdim, headdim_v, page_size, qkv_dtype


def flash_attn_varlen_func(
    q,
    k,
    v,
    max_seqlen_q,
    cu_seqlens_q,
    max_seqlen_k,
    seqused_k,
    q_v,
    softmax_scale,
    causal,
    block_table,
    return_softmax_lse,
    scheduler_metadata,
    fa_version,
):
    assert causal
    assert return_softmax_lse
    assert fa_version == 3
    batch = len(seqused_k)
    heads = q.shape[1], k.shape[2], q.shape[2], v.shape[3], k.shape[1]
    assert scheduler_metadata == (batch, max_seqlen_q, *heads, q.dtype)
    assert cu_seqlens_q.tolist() == list(range(0, len(q) + 1, max_seqlen_q))
    by_request = [None if rows is None else rows.unflatten(0, (batch, max_seqlen_q)) for rows in (q, q_v)]
    out, lse = attend(by_request[0], k, v, by_request[1], block_table, seqused_k, softmax_scale)
    return out.flatten(0, 1), torch.movedim(lse, 2, 0).flatten(1, 2).contiguous()
