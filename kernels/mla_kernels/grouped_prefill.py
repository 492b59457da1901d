"""Grouped prefill, for MHA, GQA, MQA and MLA's expanded form, by whichever kernel of this package is meant for a shape.

`choose` says which.
"""

import torch

from mla_kernels import grouped_prefill_gluon, grouped_prefill_triton
from mla_kernels.launch import Launch

KERNELS = {"grouped_prefill_gluon": grouped_prefill_gluon, "grouped_prefill_triton": grouped_prefill_triton}

FEW_QUERIES = grouped_prefill_gluon.ROWS
"""Up to so many queries a request on the average, half of the Gluon kernel's tiles would be empty. The Triton kernel
has smaller ones, or fills them with the heads that share a KV head."""


def choose(q: torch.Tensor, v_cache: torch.Tensor, kv_lens: torch.Tensor) -> str:
    """Name of the kernel for `q [total_q, num_q_heads, qk_dim]`, `v_cache [num_pages, page_size, num_kv_heads, v_dim]`
    and `kv_lens [batch]`; rows of q past the last request's count as queries."""
    few = q.shape[0] <= FEW_QUERIES * len(kv_lens)
    if few or grouped_prefill_gluon.unsupported(q, v_cache):
        return "grouped_prefill_triton"
    return "grouped_prefill_gluon"


def bind(
    *,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_table: torch.Tensor,
    kv_lens: torch.Tensor,
    q_starts: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    softmax_scale: float,
) -> Launch:
    """Bind the chosen kernel to its tensors, as `grouped_prefill_triton.bind` describes them; `config["kernel"]` names
    it."""
    name = choose(q, v_cache, kv_lens)
    launch = KERNELS[name].bind(
        q=q, k_cache=k_cache, v_cache=v_cache, block_table=block_table, kv_lens=kv_lens, q_starts=q_starts, out=out,
        lse=lse, softmax_scale=softmax_scale,
    )  # fmt: skip
    return Launch({"kernel": name, **launch.config}, launch.workspace_bytes, launch.run)


def grouped_prefill(q, k_cache, v_cache, block_table, kv_lens, q_starts, softmax_scale, out=None, lse=None):
    """Grouped prefill at once, returning `(out, lse)`; shapes as in `bind`."""
    out = q.new_empty(*q.shape[:-1], v_cache.shape[-1]) if out is None else out
    lse = torch.empty(q.shape[:-1], device=q.device, dtype=torch.float32) if lse is None else lse
    bind(
        q=q, k_cache=k_cache, v_cache=v_cache, block_table=block_table, kv_lens=kv_lens, q_starts=q_starts, out=out,
        lse=lse, softmax_scale=softmax_scale,
    )()  # fmt: skip
    return out, lse
