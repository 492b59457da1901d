"""What the stand-ins for FlashAttention-3 share."""

import torch

from mla_kernels.reference import grouped_prefill


def attend_packed(q, k_cache, v_cache, q_v, page_table, lengths, starts, scale):
    """Scores of `q` and keys, and with `q_v` of that and values, in `[total_q, heads, dim]`.

    The unused values of a last page have weights of zero, as in the real one.
    """
    assert page_table.dtype == lengths.dtype == starts.dtype == torch.int32
    if q_v is not None:
        q, k_cache = torch.cat((q_v, q), -1), torch.cat((v_cache, k_cache), -1)
    out, lse = grouped_prefill(q, k_cache, v_cache, page_table, lengths, starts, scale)
    last = page_table[torch.arange(len(lengths)), (lengths - 1) // v_cache.shape[1]]
    unused = (0.0 * v_cache[last]).sum((1, 2, 3)).repeat_interleave(starts.diff())
    return (out + unused[:, None, None]).to(q.dtype), lse.float()


def attend(q, k_cache, v_cache, q_v, page_table, lengths, scale):
    """The same in `[batch, q_len, heads, dim]`."""
    batch, q_len = q.shape[:2]
    starts = torch.arange(0, (batch + 1) * q_len, q_len, dtype=torch.int32)
    rows, latent_rows = (None if each is None else each.flatten(0, 1) for each in (q, q_v))
    results = attend_packed(rows, k_cache, v_cache, latent_rows, page_table, lengths, starts, scale)
    return [result.unflatten(0, (batch, q_len)) for result in results]
