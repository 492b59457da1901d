# ruff: noqa: ARG002
import math

import torch

from flashinfer import as_table
from mla_kernels.reference import mla_absorbed_decode


class BatchMLAPagedAttentionWrapper:
    def __init__(self, workspace, use_cuda_graph, *buffers, backend):
        assert use_cuda_graph
        assert backend in ("fa2", "fa3")
        self.buffers = buffers

    def plan(
        self,
        qo_indptr,
        kv_indptr,
        kv_indices,
        kv_len_arr,
        num_heads,
        dim_ckv,
        dim_kpe,
        page_size,
        causal,
        scale,
        *types,
    ):
        for buffer, tensor in zip(self.buffers, (qo_indptr, kv_indptr, kv_indices, kv_len_arr), strict=True):
            assert tensor.dtype == torch.int32
            buffer.copy_(tensor)
        self.shape, self.causal, self.scale = (num_heads, dim_ckv, dim_kpe, page_size), causal, scale
        assert types[0] == types[1]

    def run(self, q_nope, q_pe, ckv_cache, kpe_cache, *, out, lse, return_lse):
        assert return_lse
        assert self.shape == (q_pe.shape[1], q_nope.shape[2], q_pe.shape[2], kpe_cache.shape[1])
        starts, indptr, indices, lengths = self.buffers
        q = torch.cat((q_nope, q_pe), -1).unflatten(0, (len(lengths), -1))
        assert starts.tolist() == [i * q.shape[1] for i in range(len(starts))]
        assert self.causal == (q.shape[1] > 1)
        cache = torch.cat((ckv_cache, kpe_cache), -1)
        table = as_table(indptr, indices)
        result, result_lse = mla_absorbed_decode(q, cache, table, lengths, ckv_cache.shape[2], self.scale)
        out.copy_(result.flatten(0, 1))
        lse.copy_(result_lse.flatten(0, 1) / math.log(2))
