"""A stand-in for `sgl-flash-mla`: the schedule is made in the first call, and `use_legacy` asks for dense decode."""

import torch

from mla_kernels.reference import mla_absorbed_decode


class Schedule:
    num_splits = None


def get_mla_metadata(*_arguments):
    return Schedule(), None


def flash_mla_with_kvcache(
    q,
    k_cache,
    block_table,
    cache_seqlens,
    head_dim_v,
    tile_scheduler_metadata,
    num_splits=None,
    softmax_scale=None,
    causal=False,
    use_legacy=False,
):
    assert use_legacy
    assert num_splits is None
    tile_scheduler_metadata.num_splits = torch.tensor([0, 3, 5])
    return attend(q, k_cache, block_table, cache_seqlens, head_dim_v, softmax_scale, causal)


def attend(q, k_cache, block_table, cache_seqlens, head_dim_v, softmax_scale, causal):
    assert k_cache.shape[1:] == (64, 1, 576)
    assert causal == (q.shape[1] > 1)
    out, lse = mla_absorbed_decode(q, k_cache[:, :, 0], block_table, cache_seqlens, head_dim_v, softmax_scale)
    return out.to(q.dtype), lse.float().transpose(1, 2).contiguous()
