"""What the stand-ins for SGLang share."""

from mla_kernels.reference import mla_absorbed_decode


def attend(q, k_buffer, v_buffer, o, kv_indptr, kv_indices, sm_scale):
    """Attention over slots of tokens, a request after another."""
    assert k_buffer.shape[1:] == (1, q.shape[2])
    pages = k_buffer.shape[0]
    for i, slots in enumerate(kv_indices.split(kv_indptr.diff().tolist())):
        lengths = kv_indptr[i + 1 : i + 2] - kv_indptr[i]
        assert slots.max() < pages
        out, _ = mla_absorbed_decode(q[i : i + 1, None], k_buffer, slots[None], lengths, v_buffer.shape[2], sm_scale)
        o[i].copy_(out[0, 0])
