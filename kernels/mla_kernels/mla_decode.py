"""MLA decode in the absorbed form, by whichever kernel of this package is the fastest for the shape.

`choose` says which and why; notes-mla-decode-gluon.md has the measurements behind it.
"""

import torch

from mla_kernels import mla_decode_gluon, mla_decode_gluon_few_rows, mla_decode_triton
from mla_kernels.launch import Launch

KERNELS = {
    "mla_decode_gluon_few_rows": mla_decode_gluon_few_rows,
    "mla_decode_gluon": mla_decode_gluon,
    "mla_decode_triton": mla_decode_triton,
}
"""The fastest first; the last one takes every shape."""


def choose(q: torch.Tensor, kv_cache: torch.Tensor, kv_lora_rank: int) -> str:
    """Name of the first kernel that takes `q [batch, q_len, num_q_heads, kv_dim]` and
    `kv_cache [num_pages, page_size, kv_dim]`. It does not depend on the batch."""
    for name in ("mla_decode_gluon_few_rows", "mla_decode_gluon"):
        if not KERNELS[name].unsupported(q, kv_cache, kv_lora_rank):
            return name
    return "mla_decode_triton"


def bind(
    *,
    q: torch.Tensor,
    kv_cache: torch.Tensor,
    block_table: torch.Tensor,
    kv_lens: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    softmax_scale: float,
    batch_invariant: bool = False,
) -> Launch:
    """Bind the chosen kernel to its tensors, as `mla_decode_triton.bind` describes them; `config["kernel"]` names it.

    With batch_invariant the result of a request does not depend, in any bit, on what else is in the batch: nothing is
    split, one program takes a request's 64 rows (or fewer) from its first token to its last. Long requests in a small
    batch are slow that way.
    """
    name = choose(q, kv_cache, out.shape[-1])
    launch = KERNELS[name].bind(
        q=q, kv_cache=kv_cache, block_table=block_table, kv_lens=kv_lens, out=out, lse=lse,
        softmax_scale=softmax_scale, num_splits=1 if batch_invariant else None,
    )  # fmt: skip
    return Launch({"kernel": name, **launch.config}, launch.workspace_bytes, launch.run)


def mla_decode(
    q, kv_cache, block_table, kv_lens, kv_lora_rank, softmax_scale, out=None, lse=None, *, batch_invariant=False
):
    """Absorbed MLA decode at once, returning `(out, lse)`; shapes and batch_invariant as in `bind`."""
    out = q.new_empty(*q.shape[:-1], kv_lora_rank) if out is None else out
    lse = torch.empty(q.shape[:-1], device=q.device, dtype=torch.float32) if lse is None else lse
    bind(
        q=q, kv_cache=kv_cache, block_table=block_table, kv_lens=kv_lens, out=out, lse=lse,
        softmax_scale=softmax_scale, batch_invariant=batch_invariant,
    )()  # fmt: skip
    return out, lse
