"""The parts of an MLA layer around its core, each a call of its own, with torch on any device.

`layer_parts.MLA_PARTS` says which form runs which; `layer_torch` has `bind_cache_write` and `bind_output`. Weights are
those of `MlaDims.weight_shapes`, `k_up_proj` and `v_up_proj` the views of `kv_b_proj` that `split_kv_b_proj` gives.
Products write straight into their part of a tensor, so that the rotated columns of a query can be put beside the
absorbed ones without a copy. Norms and rotation are torch's own operations, several launches each.

Sources: DeepSeek-V2 (arXiv 2405.04434), equations 9 to 19 and appendix C.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor

from mla_kernels.launch import Launch
from mla_kernels.layer_torch import check_tensor, check_view, launch_product
from mla_kernels.rope import rotate

RMS_NORM_EPS = 1e-6


def split_kv_b_proj(kv_b_proj: Tensor, qk_nope_head_dim: int) -> tuple[Tensor, Tensor]:
    """`k_up_proj [num_q_heads, qk_nope_head_dim, kv_lora_rank]` and `v_up_proj [num_q_heads, v_head_dim, the same]`."""
    return kv_b_proj[:, :qk_nope_head_dim], kv_b_proj[:, qk_nope_head_dim:]


def premultiply(weights: Mapping[str, Tensor], qk_nope_head_dim: int) -> dict[str, Tensor]:
    """The weights of the premultiplied form, as in `MlaDims.premultiplied_shapes`, each rounded once to the dtype."""
    k_up_proj, v_up_proj = split_kv_b_proj(weights["kv_b_proj"], qk_nope_head_dim)
    q_nope_proj, q_rope_proj = weights["q_b_proj"][:, :qk_nope_head_dim], weights["q_b_proj"][:, qk_nope_head_dim:]
    o_proj = weights["o_proj"].unflatten(1, v_up_proj.shape[:2])  # [hidden, H, V]
    return {
        "q_premultiplied": torch.bmm(q_nope_proj.transpose(1, 2), k_up_proj),
        "q_rope_proj": q_rope_proj.contiguous(),
        "o_premultiplied": torch.bmm(v_up_proj.transpose(1, 2), o_proj.permute(1, 2, 0)),
    }


def bind_query(
    *,
    hidden: Tensor,
    q_b_proj: Tensor,
    positions: Tensor,
    rope_table: Tensor,
    q: Tensor,
    q_a_proj: Tensor | None = None,
    q_a_norm: Tensor | None = None,
    q_rope: Tensor | None = None,
) -> Launch:
    """`q [tokens, num_q_heads, qk_nope_head_dim + qk_rope_head_dim]` from `hidden [tokens, hidden_size]`.

    `q_a_proj [q_lora_rank, hidden_size]` and `q_a_norm [q_lora_rank]` come before `q_b_proj [num_q_heads, qk_head_dim,
    q_lora_rank]`; without them `q_b_proj` takes `hidden`. The rope columns are turned in place, or go to `q_rope
    [tokens, num_q_heads, qk_rope_head_dim]` where it is given: the last columns of an absorbed query.
    """
    heads, qk_head_dim, input_dim = q_b_proj.shape
    query_input = _query_input(hidden, q_a_proj, q_a_norm, input_dim)
    check_view("positions", positions, positions, len(hidden))
    check_tensor("q_b_proj", q_b_proj, hidden, heads, qk_head_dim, input_dim)
    check_tensor("q", q, hidden, len(hidden), heads, qk_head_dim)
    unturned = q[..., -2 * rope_table.shape[1] :]
    turned = unturned if q_rope is None else q_rope
    check_view("q_rope", turned, hidden, *unturned.shape)
    projection, columns = q_b_proj.flatten(0, 1).T, q.view(len(q), -1)

    def run() -> None:
        torch.mm(query_input(), projection, out=columns)
        rotate(unturned, positions, rope_table, out=turned)

    return Launch({}, 0, run)


def bind_latent(
    *, hidden: Tensor, kv_a_proj: Tensor, kv_a_norm: Tensor, positions: Tensor, rope_table: Tensor, latent: Tensor
) -> Launch:
    """`latent [tokens, kv_lora_rank + qk_rope_head_dim]`, a cache's rows, from `hidden [tokens, hidden_size]`.

    `kv_a_proj [latent_dim, hidden_size]`; `kv_a_norm [kv_lora_rank]` scales the normalised latent, and the other
    columns are turned.
    """
    rank = kv_a_norm.shape[0]
    check_view("kv_a_proj", kv_a_proj, hidden, rank + 2 * rope_table.shape[1], hidden.shape[1])
    check_view("positions", positions, positions, len(hidden))
    check_view("latent", latent, hidden, len(hidden), len(kv_a_proj))
    content, rope = latent[:, :rank], latent[:, None, rank:]

    def run() -> None:
        torch.mm(hidden, kv_a_proj.T, out=latent)
        content.copy_(_rms_norm(content, kv_a_norm))
        rotate(rope, positions, rope_table, out=rope)

    return Launch({}, 0, run)


def bind_query_absorb(*, q_nope: Tensor, k_up_proj: Tensor, absorbed: Tensor) -> Launch:
    """`absorbed [tokens, num_q_heads, kv_lora_rank]`, the first columns of an absorbed query, from `q_nope [tokens,
    num_q_heads, qk_nope_head_dim]`: a product for each head.
    """
    heads, nope_dim, rank = k_up_proj.shape
    check_view("q_nope", q_nope, k_up_proj, len(absorbed), heads, nope_dim)
    check_view("absorbed", absorbed, k_up_proj, len(absorbed), heads, rank)
    return launch_product(q_nope.transpose(0, 1), k_up_proj, absorbed.transpose(0, 1))


def bind_output_up(*, latent_out: Tensor, v_up_proj: Tensor, heads_out: Tensor) -> Launch:
    """`heads_out [tokens, num_q_heads, v_head_dim]` from the absorbed core's `latent_out [tokens, num_q_heads,
    kv_lora_rank]`: a product for each head.
    """
    heads, v_head_dim, rank = v_up_proj.shape
    check_view("latent_out", latent_out, v_up_proj, len(heads_out), heads, rank)
    check_view("heads_out", heads_out, v_up_proj, len(heads_out), heads, v_head_dim)
    return launch_product(latent_out.transpose(0, 1), v_up_proj.transpose(1, 2), heads_out.transpose(0, 1))


def bind_query_premultiplied(
    *,
    hidden: Tensor,
    q_premultiplied: Tensor,
    q_rope_proj: Tensor,
    positions: Tensor,
    rope_table: Tensor,
    q: Tensor,
    q_a_proj: Tensor | None = None,
    q_a_norm: Tensor | None = None,
) -> Launch:
    """The absorbed query `q [tokens, num_q_heads, kv_lora_rank + qk_rope_head_dim]` from `hidden`.

    `q_premultiplied [num_q_heads, q_lora_rank, kv_lora_rank]` stands for two products; the rest is as in `bind_query`.
    """
    heads, input_dim, rank = q_premultiplied.shape
    query_input = _query_input(hidden, q_a_proj, q_a_norm, input_dim)
    rope_dim = 2 * rope_table.shape[1]
    check_view("positions", positions, positions, len(hidden))
    check_tensor("q_rope_proj", q_rope_proj, hidden, heads, rope_dim, input_dim)
    check_view("q", q, hidden, len(hidden), heads, rank + rope_dim)
    absorbed, rope = q[..., :rank].transpose(0, 1), q[..., rank:]
    rope_projection = q_rope_proj.flatten(0, 1).T

    def run() -> None:
        rows = query_input()
        torch.bmm(rows.expand(heads, -1, -1), q_premultiplied, out=absorbed)
        unturned = torch.mm(rows, rope_projection).unflatten(1, (heads, rope_dim))
        rotate(unturned, positions, rope_table, out=rope)

    return Launch({}, 0, run)


def bind_output_premultiplied(*, latent_out: Tensor, o_premultiplied: Tensor, output: Tensor) -> Launch:
    """`output [tokens, hidden_size]` from `latent_out [tokens, num_q_heads, kv_lora_rank]` and `o_premultiplied
    [num_q_heads, kv_lora_rank, hidden_size]`, in one product.
    """
    heads, rank, hidden_size = o_premultiplied.shape
    check_tensor("o_premultiplied", o_premultiplied, latent_out, heads, rank, hidden_size)
    check_tensor("latent_out", latent_out, latent_out, len(output), heads, rank)
    check_view("output", output, o_premultiplied, len(output), hidden_size)
    return launch_product(latent_out.flatten(1), o_premultiplied.flatten(0, 1), output)


def bind_expand(*, latent: Tensor, k_up_proj: Tensor, v_up_proj: Tensor, keys: Tensor, values: Tensor) -> Launch:
    """`keys [tokens, num_q_heads, qk_nope_head_dim + qk_rope_head_dim]` and `values [tokens, num_q_heads, v_head_dim]`
    from `latent [tokens, kv_lora_rank + qk_rope_head_dim]`, whose rope columns all heads share.
    """
    heads, nope_dim, rank = k_up_proj.shape
    v_head_dim, tokens, rope = v_up_proj.shape[1], len(latent), latent[:, None, rank:]
    check_view("v_up_proj", v_up_proj, latent, heads, v_head_dim, rank)
    check_view("keys", keys, latent, tokens, heads, nope_dim + rope.shape[2])
    check_view("values", values, latent, tokens, heads, v_head_dim)
    content = latent[:, :rank].expand(heads, -1, -1)  # [H, T, C]
    keys_nope, keys_rope = keys[..., :nope_dim].transpose(0, 1), keys[..., nope_dim:]

    def run() -> None:
        torch.bmm(content, k_up_proj.transpose(1, 2), out=keys_nope)
        keys_rope.copy_(rope)
        torch.bmm(content, v_up_proj.transpose(1, 2), out=values.transpose(0, 1))

    return Launch({}, 0, run)


def bind_expand_cached(
    *, kv_cache: Tensor, slots: Tensor, k_up_proj: Tensor, v_up_proj: Tensor, keys: Tensor, values: Tensor
) -> Launch:
    """As `bind_expand`, of the tokens at `slots int64 [tokens]` of `kv_cache [num_pages, page_size, latent_dim]`.

    `keys` and `values` are in the order of `slots`: where these cover whole pages, they are the pages of a cache.
    """
    rows = kv_cache.view(-1, kv_cache.shape[2])
    latent = kv_cache.new_empty(len(slots), kv_cache.shape[2])
    expand = bind_expand(latent=latent, k_up_proj=k_up_proj, v_up_proj=v_up_proj, keys=keys, values=values)

    def run() -> None:
        torch.index_select(rows, 0, slots, out=latent)
        expand()

    return Launch({}, latent.nbytes, run)


def _query_input(
    hidden: Tensor, q_a_proj: Tensor | None, q_a_norm: Tensor | None, input_dim: int
) -> Callable[[], Tensor]:
    """What the heads' queries are projected from, computed in the call: the compressed query, or `hidden`."""
    if q_a_proj is None or q_a_norm is None:
        check_view("hidden", hidden, hidden, len(hidden), input_dim)
        return lambda: hidden
    check_view("q_a_proj", q_a_proj, hidden, input_dim, hidden.shape[1])
    check_view("q_a_norm", q_a_norm, hidden, input_dim)
    down, norm = q_a_proj.T, q_a_norm
    return lambda: _rms_norm(torch.mm(hidden, down), norm)


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return functional.rms_norm(x, weight.shape, weight, RMS_NORM_EPS)
