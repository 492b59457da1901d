# ruff: noqa: ARG001
"""A stand-in for the module of upstream's FlashAttention-3."""

from attention import attend, attend_packed


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
    cu_seqlens_q=None,
):
    assert cu_seqlens_q is None or len(cu_seqlens_q) == batch_size + 1
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
    cu_seqlens_q=None,
    max_seqlen_q=None,
):
    packed = cu_seqlens_q is not None
    assert packed == (max_seqlen_q is not None)
    q_len = max_seqlen_q if packed else q.shape[1]
    heads = q.shape[-2], k_cache.shape[2], q.shape[-1], v_cache.shape[3], k_cache.shape[1]
    assert scheduler_metadata == (q_len, *heads, causal, q.dtype)
    assert causal == (q_len > 1)
    assert return_softmax_lse
    if packed:
        assert q_len == cu_seqlens_q.diff().max()
        out, lse = attend_packed(q, k_cache, v_cache, qv, page_table, cache_seqlens, cu_seqlens_q, softmax_scale)
        return out, lse.T.contiguous(), None, None
    out, lse = attend(q, k_cache, v_cache, qv, page_table, cache_seqlens, softmax_scale)
    return out, lse.transpose(1, 2).contiguous(), None, None
