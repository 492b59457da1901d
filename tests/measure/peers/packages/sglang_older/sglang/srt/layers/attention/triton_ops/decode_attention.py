# ruff: noqa: ARG001
"""A stand-in for SGLang's Triton decode, 0.5.9."""

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
    logit_cap=0.0,
):
    assert max_kv_splits == attn_logits.shape[2] == attn_lse.shape[2] == 8
    attend(q, k_buffer, v_buffer, o, kv_indptr, kv_indices, sm_scale)
