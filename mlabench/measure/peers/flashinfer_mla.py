"""FlashInfer's MLA decode over pages, in its FlashAttention-2 and FlashAttention-3 versions.

It is planned in `bind`, as an engine does once a step; later changes to the block table or the lengths are not seen.
FlashInfer compiles its kernels with nvcc on first use.

Its log-sum-exp is written but not judged. It is asked for in base 2, as what it writes on the way to base e is
multiplied in place by more threads than one, and some values twice. And the FlashAttention-2 version sums weights that
were rounded to the dtype of the cache, which makes it 1e-4 off in bfloat16.
"""

from typing import TYPE_CHECKING, Any

from mla_kernels.launch import Launch
from mlabench.measure.peers.shapes import installed_version, list_pages, require_latent, require_tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WORKSPACE_BYTES = 128 << 20
"""What FlashInfer recommends; its own integer workspace comes on top."""


def bind_fa2(**tensors: Any) -> Launch:
    """Bind the FlashAttention-2 version to the tensors of absorbed MLA decode."""
    return _bind("fa2", **tensors)


def bind_fa3(**tensors: Any) -> Launch:
    """Bind the FlashAttention-3 version, for Hopper, to the tensors of absorbed MLA decode."""
    return _bind("fa3", **tensors)


def _bind(
    backend: str,
    *,
    q: "Tensor",
    kv_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    out: "Tensor",
    lse: "Tensor",
    softmax_scale: float,
) -> Launch:
    import torch
    from flashinfer.mla import BatchMLAPagedAttentionWrapper

    require_latent(q, out, "FlashInfer")
    require_tokens(kv_lens, "FlashInfer")
    _, q_len, num_q_heads, dim = q.shape
    rank = out.shape[3]
    pages = list_pages(block_table, kv_lens, kv_cache.shape[1])
    workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device=q.device)
    planned, buffers = planned_on(q.device, query_starts(q), pages.indptr, pages.indices, pages.kv_lens)
    wrapper = BatchMLAPagedAttentionWrapper(workspace, True, *buffers, backend=backend)
    causal = q_len > 1
    wrapper.plan(*planned, num_q_heads, rank, dim - rank, kv_cache.shape[1], causal, softmax_scale, q.dtype, q.dtype)
    rows = q.flatten(0, 1)
    parts = rows[..., :rank], rows[..., rank:], kv_cache[..., :rank], kv_cache[..., rank:]
    written = {"out": out.flatten(0, 1), "lse": lse.flatten(0, 1)}

    def run() -> None:
        wrapper.run(*parts, **written, return_lse=True)

    config = {"package": installed_version(("flashinfer-python",)), "flashinfer_backend": backend}
    return Launch(config, WORKSPACE_BYTES, run)


def query_starts(q: "Tensor") -> "Tensor":
    """Where the new tokens of each request begin among those of all, int32 on the host, and where the last end."""
    import torch

    batch, q_len = q.shape[:2]
    return torch.arange(0, (batch + 1) * q_len, q_len, dtype=torch.int32)


def planned_on(device: "torch.device", *lists: "Tensor") -> tuple[list["Tensor"], list["Tensor"]]:
    """The lists of a plan on the device, and the buffers in which a wrapper that is captured keeps them."""
    import torch

    planned = [tensor.to(device) for tensor in lists]
    return planned, [torch.empty_like(tensor) for tensor in planned]
