# ruff: noqa: ARG001
"""A stand-in for the module of upstream's FlashAttention-3."""

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
    page_size,
    causal,
):
    return max_seqlen_q, num_heads_q, num_heads_kv, headdim, headdim_v, page_size, causal, qkv_dtype


def flash_attn_with_kvcache(
    q,
    k_cache,
    v_cache,
    *,
    qv,
    cache_seqlens,
    page_table,
    softmax_scale,
    causal,
    scheduler_metadata,
    return_softmax_lse,
):
    heads = q.shape[2], k_cache.shape[2], q.shape[3], v_cache.shape[3], k_cache.shape[1]
    assert scheduler_metadata == (q.shape[1], *heads, causal, q.dtype)
    assert causal == (q.shape[1] > 1)
    assert return_softmax_lse
    out, lse = attend(q, k_cache, v_cache, qv, page_table, cache_seqlens, softmax_scale)
    return out, lse.transpose(1, 2).contiguous(), None, None
