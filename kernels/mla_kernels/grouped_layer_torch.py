"""The parts of an MHA, GQA or MQA layer around its core, each a call of its own, with torch on any device.

`layer_parts.GROUPED_PARTS` names them; `layer_torch` has `bind_cache_write` and `bind_output`. The three projections
are one product, as serving engines run them. Biases, which a few models have on them, are left out.
"""

import torch
from torch import Tensor

from mla_kernels.launch import Launch
from mla_kernels.layer_torch import check_tensor, check_view
from mla_kernels.rope import rotate


def bind_qkv(
    *, hidden: Tensor, qkv_proj: Tensor, positions: Tensor, rope_table: Tensor, qkv: Tensor, q: Tensor
) -> Launch:
    """`qkv [tokens, num_q_heads + 2 * num_kv_heads, head_dim]` from `hidden [tokens, hidden_size]` and `qkv_proj
    [num_q_heads + 2 * num_kv_heads, head_dim, hidden_size]`: query heads, key heads, value heads.

    Queries and keys are turned (half-split pairs, all columns); the queries are also copied to `q [tokens, num_q_heads,
    head_dim]`, which kernels take contiguous. Keys and values are `split_kv(qkv, num_q_heads)`.
    """
    heads, head_dim, hidden_size = qkv_proj.shape
    num_q_heads = q.shape[1]
    num_kv_heads = (heads - num_q_heads) // 2
    check_tensor("qkv_proj", qkv_proj, hidden, heads, head_dim, hidden_size)
    check_view("hidden", hidden, qkv_proj, len(qkv), hidden_size)
    check_view("positions", positions, positions, len(qkv))
    check_view("q", q, qkv_proj, len(qkv), heads - 2 * num_kv_heads, 2 * rope_table.shape[1])
    check_tensor("qkv", qkv, qkv_proj, len(qkv), heads, q.shape[2])
    projection, columns = qkv_proj.flatten(0, 1).T, qkv.flatten(1)
    turned = qkv[:, : num_q_heads + num_kv_heads]

    def run() -> None:
        torch.mm(hidden, projection, out=columns)
        rotate(turned, positions, rope_table, interleaved=False, out=turned)
        q.copy_(qkv[:, :num_q_heads])

    return Launch({}, 0, run)


def split_kv(qkv: Tensor, num_q_heads: int) -> tuple[Tensor, Tensor]:
    """The keys and the values of `qkv`, `[tokens, num_kv_heads, head_dim]` each; views."""
    keys, values = qkv[:, num_q_heads:].chunk(2, dim=1)
    return keys, values
