# ruff: noqa: ARG001
"""A stand-in for vLLM's Triton decode."""

from mla_kernels.reference import mla_absorbed_decode


def decode_attention_fwd(
    q,
    k_buffer,
    v_buffer,
    o,
    lse,
    req_to_token,
    b_seq_len,
    attn_logits,
    num_kv_splits,
    sm_scale,
    page_size=1,
    logit_cap=0.0,
    k_scale=None,
    v_scale=None,
    is_mla=False,
):
    assert is_mla
    assert k_scale.tolist() == v_scale.tolist() == 1.0
    assert k_buffer.shape[1:] == (page_size, 1, q.shape[2])
    rank = v_buffer.shape[3]
    assert attn_logits.shape == (*q.shape[:2], num_kv_splits, rank + 1)
    out, result_lse = mla_absorbed_decode(q[:, None], k_buffer[:, :, 0], req_to_token, b_seq_len, rank, sm_scale)
    o.copy_(out[:, 0])
    lse.copy_(result_lse[:, 0])
