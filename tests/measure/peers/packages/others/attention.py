"""What the stand-ins for FlashAttention-3 share."""

import torch

from mla_kernels.reference import grouped_decode


def attend(q, k_cache, v_cache, q_v, page_table, lengths, scale):
    """Scores of `q` and keys, and with `q_v` of that and values, in `[batch, q_len, heads, dim]`.

    The unused values of a last page have weights of zero, as in the real one.
    """
    assert page_table.dtype == lengths.dtype == torch.int32
    if q_v is not None:
        q, k_cache = torch.cat((q_v, q), -1), torch.cat((v_cache, k_cache), -1)
    out, lse = grouped_decode(q, k_cache, v_cache, page_table, lengths, scale)
    last = page_table[torch.arange(len(q)), (lengths - 1) // v_cache.shape[1]]
    unused = (0.0 * v_cache[last]).sum((1, 2, 3))
    return (out + unused[:, None, None, None]).to(q.dtype), lse.float()
