# ruff: noqa: ARG002
"""A stand-in for FlashInfer's wrappers of paged attention: planned once, run with tensors to write."""

import torch

from mla_kernels.reference import grouped_decode


def as_table(indptr, indices):
    """A block table of lists of pages."""
    counts = indptr.diff().tolist()
    rows = indices.split(counts)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=-(1 << 30))


class _Paged:
    def attend(self, q, caches, out):
        k_cache, v_cache = caches
        lengths = (self.indptr.diff() - 1) * k_cache.shape[1] + self.last_page_len
        rows = q.unflatten(0, (len(lengths), -1))
        table = as_table(self.indptr, self.indices)
        result, _ = grouped_decode(rows, k_cache, v_cache, table, lengths, self.scale)
        out.copy_(result.flatten(0, 1))


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
        self.attend(q, paged_kv_cache, out)


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
        self.attend(q, paged_kv_cache, out)
