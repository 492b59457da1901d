"""Absorbed MLA prefill, by the faster kernel of this package that takes the shape: Gluon on sm_90, Triton elsewhere."""

import torch

from mla_kernels import mla_prefill_gluon, mla_prefill_triton
from mla_kernels.launch import Launch
from mla_kernels.mla_gluon_bind import unsupported

KERNELS = {"mla_prefill_gluon": mla_prefill_gluon, "mla_prefill_triton": mla_prefill_triton}


def choose(q: torch.Tensor, kv_cache: torch.Tensor, kv_lora_rank: int) -> str:
    """Name of the kernel for `q [total_q, num_q_heads, kv_dim]` and `kv_cache [num_pages, page_size, kv_dim]`."""
    return "mla_prefill_triton" if unsupported(q, kv_cache, kv_lora_rank) else "mla_prefill_gluon"


def bind(
    *,
    q: torch.Tensor,
    kv_cache: torch.Tensor,
    block_table: torch.Tensor,
    kv_lens: torch.Tensor,
    q_starts: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    softmax_scale: float,
) -> Launch:
    """Bind the chosen kernel to its tensors, as `mla_prefill_triton.bind` describes them; `config["kernel"]` names
    it."""
    name = choose(q, kv_cache, out.shape[-1])
    launch = KERNELS[name].bind(
        q=q, kv_cache=kv_cache, block_table=block_table, kv_lens=kv_lens, q_starts=q_starts, out=out, lse=lse,
        softmax_scale=softmax_scale,
    )  # fmt: skip
    return Launch({"kernel": name, **launch.config}, launch.workspace_bytes, launch.run)


def mla_prefill(q, kv_cache, block_table, kv_lens, q_starts, kv_lora_rank, softmax_scale, out=None, lse=None):
    """Absorbed MLA prefill at once, returning `(out, lse)`; shapes as in `bind`."""
    out = q.new_empty(*q.shape[:-1], kv_lora_rank) if out is None else out
    lse = torch.empty(q.shape[:-1], device=q.device, dtype=torch.float32) if lse is None else lse
    bind(
        q=q, kv_cache=kv_cache, block_table=block_table, kv_lens=kv_lens, q_starts=q_starts, out=out, lse=lse,
        softmax_scale=softmax_scale,
    )()  # fmt: skip
    return out, lse
