"""FlashInfer's paged decode of grouped attention, on tensor cores, and its prefill, also for several new tokens.

Which version of its prefill runs, FlashInfer picks; on Hopper that of FlashAttention-3. Its pages hold keys and values
of one head dim. Where the dims differ, its prefill without pages (ragged) is bound and the tokens are gathered in the
call; where they lie one behind the other already, that prefill reads them in place, whatever the dims: see `dense.py`.

It is planned in `bind`, as an engine does once a step; later changes to the block table or the lengths are not seen.
Its log-sum-exp is of base 2 and is not asked for. FlashInfer compiles its kernels with nvcc on first use.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mla_kernels.launch import Launch
from mlabench.measure.peers.dense import find_dense
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

PREFILL_DIMS = ((64, 64), (128, 128), (256, 256), (192, 128))
"""Head dims of keys and values that its prefill is made for."""


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
    require_half(q, "FlashInfer")
    require_tokens(kv_lens, "FlashInfer")
    dims = k_cache.shape[3], v_cache.shape[3]
    require(
        dims[0] == dims[1], f"FlashInfer takes pages of keys and values of one head dim, not {dims[0]} and {dims[1]}"
    )
    pages = list_pages(block_table, kv_lens, k_cache.shape[1])
    workspace = _make_workspace(q.shape, k_cache)
    rows, written = q.flatten(0, 1), out.flatten(0, 1)
    if q.shape[1] == 1:
        wrapper = _plan_decode(rows, k_cache, pages, softmax_scale, workspace)
    else:
        wrapper = _plan_prefill(rows, query_starts(q), k_cache, pages, softmax_scale, workspace)

    def run() -> None:
        wrapper.run(rows, (k_cache, v_cache), out=written)

    return Launch(_config(wrapper), workspace.nbytes, run)


def bind_prefill(
    *,
    q: "Tensor",
    k_cache: "Tensor",
    v_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    q_starts: "Tensor",
    out: "Tensor",
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> Launch:
    """Bind to the tensors of grouped prefill. Raises NotImplementedError for what FlashInfer does not do."""
    require_half(q, "FlashInfer")
    require_tokens(kv_lens, "FlashInfer")
    page_size, dims = k_cache.shape[1], (k_cache.shape[3], v_cache.shape[3])
    require(
        dims in PREFILL_DIMS,
        f"FlashInfer's prefill has no kernel for head dims {dims[0]} of keys and {dims[1]} of values",
    )
    starts, batch = q_starts.cpu(), len(kv_lens)
    workspace = _make_workspace((batch, math.ceil(len(q) / batch), *q.shape[1:]), k_cache)
    dense = find_dense(block_table, kv_lens, page_size)
    if not dense.in_place and dims[0] == dims[1]:
        pages = list_pages(block_table, kv_lens, page_size)
        wrapper = _plan_prefill(q, starts, k_cache, pages, softmax_scale, workspace)
        return Launch(_config(wrapper), workspace.nbytes, lambda: wrapper.run(q, (k_cache, v_cache), out=out))
    wrapper = _plan_ragged(q, starts, k_cache, v_cache, kv_lens, softmax_scale, workspace)
    keys, values = dense.reader(k_cache), dense.reader(v_cache)
    gathered_bytes = dense.gathered_bytes(k_cache, v_cache)
    return Launch(
        _config(wrapper) | {"layout": dense.layout},
        workspace.nbytes + gathered_bytes,
        lambda: wrapper.run(q, keys(), values(), out=out),
    )


def _config(wrapper: Any) -> dict[str, int | str | float]:
    package = installed_version(("flashinfer-python",))
    # What it picked, which nothing public tells.
    picked = {"flashinfer_backend": wrapper._backend} if hasattr(wrapper, "_backend") else {}
    return {"package": package, "wrapper": type(wrapper).__name__, **picked}


def _make_workspace(q_shape: Sequence[int], k_cache: "Tensor") -> "Tensor":
    import torch

    multiprocessors = torch.cuda.get_device_properties(k_cache.device).multi_processor_count
    size = workspace_size(q_shape, k_cache.shape[2], multiprocessors)
    # The decode wrapper wants zeros at first use.
    return torch.zeros(size, dtype=torch.uint8, device=k_cache.device)


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


def _plan_decode(rows: "Tensor", k_cache: "Tensor", pages: PageLists, softmax_scale: float, workspace: "Tensor") -> Any:
    from flashinfer import BatchDecodeWithPagedKVCacheWrapper

    planned, buffers = planned_on(rows.device, pages.indptr, pages.indices, pages.last_page_len)
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
    _plan(wrapper, planned, rows, k_cache, sm_scale=softmax_scale)
    return wrapper


def _plan_prefill(
    rows: "Tensor", starts: "Tensor", k_cache: "Tensor", pages: PageLists, softmax_scale: float, workspace: "Tensor"
) -> Any:
    from flashinfer import BatchPrefillWithPagedKVCacheWrapper

    planned, buffers = planned_on(rows.device, starts, pages.indptr, pages.indices, pages.last_page_len)
    wrapper = BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD", True, *buffers)
    _plan(wrapper, planned, rows, k_cache, causal=True, sm_scale=softmax_scale)
    return wrapper


def _plan_ragged(
    q: "Tensor",
    starts: "Tensor",
    k_cache: "Tensor",
    v_cache: "Tensor",
    kv_lens: "Tensor",
    softmax_scale: float,
    workspace: "Tensor",
) -> Any:
    import torch
    from flashinfer import BatchPrefillWithRaggedKVCacheWrapper

    kv_starts = torch.zeros_like(starts)
    kv_starts[1:] = kv_lens.cpu().cumsum(0)
    planned, buffers = planned_on(q.device, starts, kv_starts)
    wrapper = BatchPrefillWithRaggedKVCacheWrapper(workspace, "NHD", True, *buffers)
    wrapper.plan(
        *planned,
        q.shape[1],
        *k_cache.shape[2:],
        v_cache.shape[3],
        causal=True,
        sm_scale=softmax_scale,
        q_data_type=q.dtype,
        kv_data_type=q.dtype,
    )
    return wrapper


def _plan(wrapper: Any, planned: Sequence["Tensor"], rows: "Tensor", k_cache: "Tensor", **options: Any) -> None:
    page_size, num_kv_heads, dim = k_cache.shape[1:]
    types = {"q_data_type": rows.dtype, "kv_data_type": rows.dtype}
    wrapper.plan(*planned, rows.shape[1], num_kv_heads, dim, page_size, **types, **options)
