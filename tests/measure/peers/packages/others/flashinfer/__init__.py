# ruff: noqa: ARG002
"""A stand-in for FlashInfer's wrappers of paged attention: planned once, run with tensors to write."""

import torch

from mla_kernels.reference import grouped_prefill


def as_table(indptr, indices):
    """A block table of lists of pages."""
    counts = indptr.diff().tolist()
    rows = indices.split(counts)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=-(1 << 30))


class _Paged:
    def attend(self, q, caches, starts, out):
        k_cache, v_cache = caches
        assert k_cache.stride() == v_cache.stride()
        lengths = (self.indptr.diff() - 1) * k_cache.shape[1] + self.last_page_len
        table = as_table(self.indptr, self.indices)
        out.copy_(grouped_prefill(q, k_cache, v_cache, table, lengths, starts, self.scale)[0])


class BatchDecodeWithPagedKVCacheWrapper(_Paged):
    def __init__(
        self,
        workspace,
        kv_layout,
        *,
        use_cuda_graph,
        use_tensor_cores,
        paged_kv_indptr_buffer,
        paged_kv_indices_buffer,
        paged_kv_last_page_len_buffer,
    ):
        assert workspace.count_nonzero() == 0
        assert kv_layout == "NHD"
        assert use_cuda_graph
        assert use_tensor_cores
        self.buffers = paged_kv_indptr_buffer, paged_kv_indices_buffer, paged_kv_last_page_len_buffer

    def plan(
        self,
        indptr,
        indices,
        last_page_len,
        num_qo_heads,
        num_kv_heads,
        head_dim,
        page_size,
        *,
        q_data_type,
        kv_data_type,
        sm_scale,
    ):
        for buffer, tensor in zip(self.buffers, (indptr, indices, last_page_len), strict=True):
            buffer.copy_(tensor)
        self.indptr, self.indices, self.last_page_len = self.buffers
        self.shape, self.scale = (num_qo_heads, num_kv_heads, head_dim, page_size), sm_scale
        assert q_data_type == kv_data_type

    def run(self, q, paged_kv_cache, *, out):
        k_cache = paged_kv_cache[0]
        assert self.shape == (q.shape[1], k_cache.shape[2], q.shape[2], k_cache.shape[1])
        self.attend(q, paged_kv_cache, torch.arange(len(q) + 1), out)


class BatchPrefillWithPagedKVCacheWrapper(_Paged):
    def __init__(self, workspace, kv_layout, use_cuda_graph, *buffers):
        assert use_cuda_graph
        assert kv_layout == "NHD"
        self.buffers = buffers

    def plan(
        self,
        qo_indptr,
        indptr,
        indices,
        last_page_len,
        num_qo_heads,
        num_kv_heads,
        head_dim_qk,
        page_size,
        *,
        causal,
        sm_scale,
        q_data_type,
        kv_data_type,
    ):
        for buffer, tensor in zip(self.buffers, (qo_indptr, indptr, indices, last_page_len), strict=True):
            buffer.copy_(tensor)
        self.starts, self.indptr, self.indices, self.last_page_len = self.buffers
        self.shape, self.scale = (num_qo_heads, num_kv_heads, head_dim_qk, page_size), sm_scale
        assert causal
        assert q_data_type == kv_data_type

    def run(self, q, paged_kv_cache, *, out):
        k_cache = paged_kv_cache[0]
        assert self.shape == (q.shape[1], k_cache.shape[2], q.shape[2], k_cache.shape[1])
        assert self.starts[-1] == len(q)
        self.attend(q, paged_kv_cache, self.starts, out)


class BatchPrefillWithRaggedKVCacheWrapper:
    def __init__(self, workspace, kv_layout, use_cuda_graph, *buffers):
        assert use_cuda_graph
        assert kv_layout == "NHD"
        self.buffers = buffers
        self._backend = "auto"

    def plan(
        self,
        qo_indptr,
        kv_indptr,
        num_qo_heads,
        num_kv_heads,
        head_dim_qk,
        head_dim_vo,
        *,
        causal,
        sm_scale,
        q_data_type,
        kv_data_type,
    ):
        for buffer, tensor in zip(self.buffers, (qo_indptr, kv_indptr), strict=True):
            assert tensor.dtype == torch.int32
            buffer.copy_(tensor)
        self.shape, self.scale = (num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo), sm_scale
        assert causal
        assert q_data_type == kv_data_type
        self._backend = "fa3"

    def run(self, q, k, v, *, out):
        starts, kv_starts = self.buffers
        assert self.shape == (q.shape[1], k.shape[1], q.shape[2], v.shape[2])
        assert (starts[-1], kv_starts[-1], kv_starts[-1]) == (len(q), len(k), len(v))
        table = as_table(kv_starts, torch.arange(len(k)))
        out.copy_(grouped_prefill(q, k[:, None], v[:, None], table, kv_starts.diff(), starts, self.scale)[0])
