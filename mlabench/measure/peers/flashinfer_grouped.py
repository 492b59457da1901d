"""FlashInfer's paged decode of grouped attention, on tensor cores; several new tokens by its paged prefill.

It is planned in `bind`, as an engine does once a step; later changes to the block table or the lengths are not seen.
Its log-sum-exp is of base 2 and is not asked for. FlashInfer compiles its kernels with nvcc on first use.
"""

from typing import TYPE_CHECKING, Any

from mla_kernels.launch import Launch
from mlabench.measure.peers.flashinfer_mla import WORKSPACE_BYTES
from mlabench.measure.peers.shapes import PageLists, installed_version, list_pages, require_half, require_tokens

if TYPE_CHECKING:
    from torch import Tensor


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
    pages = list_pages(block_table, kv_lens, k_cache.shape[1])
    plan = _plan_decode if q.shape[1] == 1 and k_cache.shape[3] == v_cache.shape[3] else _plan_prefill
    wrapper = plan(q, k_cache, v_cache, pages, softmax_scale)
    rows, written = q.flatten(0, 1), out.flatten(0, 1)

    def run() -> None:
        wrapper.run(rows, (k_cache, v_cache), out=written)

    package = installed_version(("flashinfer-python",))
    return Launch({"package": package, "wrapper": type(wrapper).__name__}, WORKSPACE_BYTES, run)


def _plan_decode(q: "Tensor", k_cache: "Tensor", v_cache: "Tensor", pages: PageLists, softmax_scale: float) -> Any:
    from flashinfer import BatchDecodeWithPagedKVCacheWrapper

    planned, buffers = _on_device(q, pages.indptr, pages.indices, pages.last_page_len)
    wrapper = BatchDecodeWithPagedKVCacheWrapper(
        _workspace(q),
        "NHD",
        use_cuda_graph=True,
        # As vLLM does for every group: at least as fast as the other kernel.
        use_tensor_cores=True,
        paged_kv_indptr_buffer=buffers[0],
        paged_kv_indices_buffer=buffers[1],
        paged_kv_last_page_len_buffer=buffers[2],
    )
    heads = q.shape[2], k_cache.shape[2], v_cache.shape[3]
    wrapper.plan(*planned, *heads, k_cache.shape[1], q_data_type=q.dtype, kv_data_type=q.dtype, sm_scale=softmax_scale)
    return wrapper


def _plan_prefill(q: "Tensor", k_cache: "Tensor", v_cache: "Tensor", pages: PageLists, softmax_scale: float) -> Any:
    import torch
    from flashinfer import BatchPrefillWithPagedKVCacheWrapper

    batch, q_len = q.shape[:2]
    starts = torch.arange(0, (batch + 1) * q_len, q_len, dtype=torch.int32)
    planned, buffers = _on_device(q, starts, pages.indptr, pages.indices, pages.last_page_len)
    wrapper = BatchPrefillWithPagedKVCacheWrapper(_workspace(q), "NHD", True, *buffers)
    wrapper.plan(
        *planned,
        q.shape[2],
        k_cache.shape[2],
        q.shape[3],
        k_cache.shape[1],
        head_dim_vo=v_cache.shape[3],
        causal=True,
        sm_scale=softmax_scale,
        q_data_type=q.dtype,
        kv_data_type=q.dtype,
    )
    return wrapper


def _on_device(q: "Tensor", *lists: "Tensor") -> tuple[list["Tensor"], list["Tensor"]]:
    import torch

    planned = [tensor.to(q.device) for tensor in lists]
    return planned, [torch.empty_like(tensor) for tensor in planned]


def _workspace(q: "Tensor") -> "Tensor":
    import torch

    # Its decode wrapper wants zeros at first use.
    return torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=q.device)
