"""FlashInfer's paged decode of grouped attention, on tensor cores; several new tokens by its paged prefill.

It is planned in `bind`, as an engine does once a step; later changes to the block table or the lengths are not seen.
Its log-sum-exp is of base 2 and is not asked for. FlashInfer compiles its kernels with nvcc on first use.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mla_kernels.launch import Launch
from mlabench.measure.peers.flashinfer_mla import WORKSPACE_BYTES, planned_on, query_starts
from mlabench.measure.peers.shapes import (
    PageLists,
    installed_version,
    list_pages,
    require,
    require_half,
    require_tokens,
)

if TYPE_CHECKING:
    from torch import Tensor

BLOCKS_A_MULTIPROCESSOR = 2
"""What FlashInfer plans for."""

ALIGNMENT_BYTES = 256
"""Room for the alignment of what lies in the workspace."""


def bind(
    *,
    q: "Tensor",
    k_cache: "Tensor",
    v_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    out: "Tensor",
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> Launch:
    """Bind to the tensors of grouped decode. Raises NotImplementedError for what FlashInfer does not do."""
    import torch

    require_half(q, "FlashInfer")
    require_tokens(kv_lens, "FlashInfer")
    dims = k_cache.shape[3], v_cache.shape[3]
    require(
        dims[0] == dims[1], f"FlashInfer takes pages of keys and values of one head dim, not {dims[0]} and {dims[1]}"
    )
    pages = list_pages(block_table, kv_lens, k_cache.shape[1])
    multiprocessors = torch.cuda.get_device_properties(q.device).multi_processor_count
    # Its decode wrapper wants zeros at first use.
    size = workspace_size(q.shape, k_cache.shape[2], multiprocessors)
    workspace = torch.zeros(size, dtype=torch.uint8, device=q.device)
    plan = _plan_decode if q.shape[1] == 1 else _plan_prefill
    wrapper = plan(q, k_cache, pages, softmax_scale, workspace)
    rows, written = q.flatten(0, 1), out.flatten(0, 1)

    def run() -> None:
        wrapper.run(rows, (k_cache, v_cache), out=written)

    package = installed_version(("flashinfer-python",))
    return Launch({"package": package, "wrapper": type(wrapper).__name__}, size, run)


def workspace_size(q_shape: Sequence[int], num_kv_heads: int, multiprocessors: int) -> int:
    """Bytes of the workspace: what FlashInfer recommends, or more where its plan for partial results needs it.

    The plan takes a block of query rows for each head, also where a block holds the rows of several; MQA with 128 heads
    needs 2.2 GB. From FlashInfer 0.6.4.
    """
    batch, q_len, num_q_heads, dim = q_shape
    group = num_q_heads // num_kv_heads
    most_rows = (batch * (q_len - 1) + 1) * group
    block_rows = next((rows for rows in (16, 64) if most_rows <= rows), 128 if dim < 256 else 64)
    blocks = math.ceil(batch * q_len * group / block_rows) + batch - 1
    blocks = max(blocks, BLOCKS_A_MULTIPROCESSOR * multiprocessors // num_kv_heads)
    partial_bytes = num_q_heads * blocks * block_rows * (dim + 1) * 4
    return max(WORKSPACE_BYTES, partial_bytes + ALIGNMENT_BYTES)


def _plan_decode(q: "Tensor", k_cache: "Tensor", pages: PageLists, softmax_scale: float, workspace: "Tensor") -> Any:
    from flashinfer import BatchDecodeWithPagedKVCacheWrapper

    planned, buffers = planned_on(q.device, pages.indptr, pages.indices, pages.last_page_len)
    wrapper = BatchDecodeWithPagedKVCacheWrapper(
        workspace,
        "NHD",
        use_cuda_graph=True,
        # As vLLM does for every group: at least as fast as the other kernel.
        use_tensor_cores=True,
        paged_kv_indptr_buffer=buffers[0],
        paged_kv_indices_buffer=buffers[1],
        paged_kv_last_page_len_buffer=buffers[2],
    )
    heads = q.shape[2], k_cache.shape[2], q.shape[3]
    wrapper.plan(*planned, *heads, k_cache.shape[1], q_data_type=q.dtype, kv_data_type=q.dtype, sm_scale=softmax_scale)
    return wrapper


def _plan_prefill(q: "Tensor", k_cache: "Tensor", pages: PageLists, softmax_scale: float, workspace: "Tensor") -> Any:
    from flashinfer import BatchPrefillWithPagedKVCacheWrapper

    planned, buffers = planned_on(q.device, query_starts(q), pages.indptr, pages.indices, pages.last_page_len)
    wrapper = BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD", True, *buffers)
    wrapper.plan(
        *planned,
        q.shape[2],
        k_cache.shape[2],
        q.shape[3],
        k_cache.shape[1],
        causal=True,
        sm_scale=softmax_scale,
        q_data_type=q.dtype,
        kv_data_type=q.dtype,
    )
    return wrapper
