# ruff: noqa: ARG001
"""A stand-in for SGLang's Triton decode, 0.5.23."""

from token_slots import attend


def decode_attention_fwd(
    q,
    k_buffer,
    v_buffer,
    o,
    kv_indptr,
    kv_indices,
    attn_logits,
    attn_lse,
    num_kv_splits,
    max_kv_splits,
    sm_scale,
    k_scale,
    v_scale,
    has_mla=False,
    use_pdl=False,
    page_size=1,
):
    assert (k_scale, v_scale, has_mla, use_pdl) == (1.0, 1.0, True, True)
    assert page_size == 64
    assert attn_logits.shape == (*q.shape[:2], max_kv_splits, v_buffer.shape[2])
    assert max(num_kv_splits.tolist()) <= max_kv_splits
    attend(q, k_buffer, v_buffer, o, kv_indptr, kv_indices, sm_scale)
