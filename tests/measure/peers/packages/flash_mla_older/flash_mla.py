# ruff: noqa: ARG001
"""A stand-in for upstream's FlashMLA while it had dense decode and took the schedule as two tensors."""

import torch

from mla_kernels.reference import mla_absorbed_decode


def get_mla_metadata(cache_seqlens, num_heads_per_head_k, num_heads_k):
    assert cache_seqlens.dtype == torch.int32
    assert num_heads_k == 1
    return torch.tensor([num_heads_per_head_k]), torch.tensor([0, 3, 4])


def flash_mla_with_kvcache(
    q,
    k_cache,
    block_table,
    cache_seqlens,
    head_dim_v,
    tile_scheduler_metadata,
    num_splits,
    softmax_scale=None,
    causal=False,
):
    assert tile_scheduler_metadata.tolist() == [q.shape[1] * q.shape[2]]
    assert num_splits.tolist() == [0, 3, 4]
    out, lse = mla_absorbed_decode(q, k_cache[:, :, 0], block_table, cache_seqlens, head_dim_v, softmax_scale)
    return out.to(q.dtype), lse.float().transpose(1, 2).contiguous()
