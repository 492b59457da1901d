"""MLA decode in the absorbed form, by whichever kernel of this package is the fastest for the shape.

`choose` says which and why; notes-mla-decode-gluon.md has the measurements behind it.
"""

import torch

from mla_kernels import mla_decode_gluon, mla_decode_gluon_few_rows, mla_decode_triton
from mla_kernels.launch import Launch
from mla_kernels.mla_gluon_bind import unsupported
from mla_kernels.paged_gluon import BLOCK
from mla_kernels.split_kv import num_sms

KERNELS = {
    "mla_decode_gluon_few_rows": mla_decode_gluon_few_rows,
    "mla_decode_gluon": mla_decode_gluon,
    "mla_decode_triton": mla_decode_triton,
}

SHORT_BLOCKS_AN_SM = 8
"""Row tiles of 16 are the fastest up to so many blocks of 64 tokens an SM, each counted once for every row tile."""


def choose(
    q: torch.Tensor, kv_cache: torch.Tensor, block_table: torch.Tensor, kv_lora_rank: int, batch_invariant: bool = False
) -> str:
    """Name of the kernel for `q [batch, q_len, num_q_heads, kv_dim]`, `kv_cache [num_pages, page_size, kv_dim]` and
    `block_table [batch, max_pages]`, all of whose entries count as used.

    With batch_invariant, batch and table do not matter.
    """
    if unsupported(q, kv_cache, kv_lora_rank):
        return "mla_decode_triton"
    row_tiles = -(-q.shape[1] * q.shape[2] // mla_decode_gluon_few_rows.ROWS)
    blocks = block_table.numel() * kv_cache.shape[1] // BLOCK
    short = not batch_invariant and row_tiles * blocks <= SHORT_BLOCKS_AN_SM * num_sms(q.device)
    return "mla_decode_gluon_few_rows" if row_tiles == 1 or short else "mla_decode_gluon"


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
    name = choose(q, kv_cache, block_table, out.shape[-1], batch_invariant)
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
