# ruff: noqa: ARG001
"""A stand-in for vLLM's build of FlashAttention-3."""

from attention import attend_packed


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
    assert len(cu_seqlens_q) == batch_size + 1
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
    assert max_seqlen_q == cu_seqlens_q.diff().max()
    out, lse = attend_packed(q, k, v, q_v, block_table, seqused_k, cu_seqlens_q, softmax_scale)
    return out, lse.T.contiguous()
