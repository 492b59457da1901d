"""Float64 references of the parts of a layer before and behind the core, for checking; never timed.

With a reference of the core between them they are a reference of the whole layer. What a layer caches is rounded to the
cache's dtype before the core reads it, so that the caller does the same with the rows given here. Everything is written
as plain formulas, and shares no code with the parts.

Sources: DeepSeek-V2 (arXiv 2405.04434), equations 9 to 19; Su et al., "RoFormer" (arXiv 2104.09864), section 3.2.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

RMS_NORM_EPS = 1e-6
THETA = 10_000.0


def mla_before_core(
    form: str, weights: Mapping[str, Tensor], hidden: Tensor, positions: Tensor, num_q_heads: int, rope_dim: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The core's query `[tokens, num_q_heads, dim]`, and the rows that the caches get, by the caches' names.

    `weights` are those of `layer_parts.weight_shapes` for the form, `hidden [tokens, hidden_size]`.
    """
    x = hidden.double()
    q_input = _rms_norm(_project(x, weights["q_a_proj"]), weights["q_a_norm"]) if "q_a_proj" in weights else x
    rank = weights["kv_a_norm"].shape[0]
    row = _project(x, weights["kv_a_proj"])
    latent, rope = _rms_norm(row[:, :rank], weights["kv_a_norm"]), _rotate(row[:, None, rank:], positions)
    if form == "premultiplied":
        query = (q_input @ weights["q_premultiplied"].double()).transpose(0, 1)  # [T, H, C]
        q_rope = _project(q_input, weights["q_rope_proj"].flatten(0, 1)).unflatten(1, (num_q_heads, rope_dim))
        return torch.cat((query, _rotate(q_rope, positions)), dim=2), {"kv_cache": torch.cat((latent, rope[:, 0]), 1)}
    q = _project(q_input, weights["q_b_proj"].flatten(0, 1)).unflatten(1, (num_q_heads, -1))
    q_nope, q_rope = q[..., :-rope_dim], _rotate(q[..., -rope_dim:], positions)
    nope_dim = q_nope.shape[2]
    if form == "absorbed":
        k_up = weights["kv_b_proj"][:, :nope_dim].double()
        q_nope = (q_nope.transpose(0, 1) @ k_up).transpose(0, 1)  # [T, H, C]
    query = torch.cat((q_nope, q_rope), dim=2)
    if form != "expanded":
        return query, {"kv_cache": torch.cat((latent, rope[:, 0]), 1)}
    up = _project(latent, weights["kv_b_proj"].flatten(0, 1)).unflatten(1, (num_q_heads, -1))
    keys = torch.cat((up[..., :nope_dim], rope.expand(-1, num_q_heads, -1)), dim=2)
    return query, {"k_cache": keys, "v_cache": up[..., nope_dim:]}


def grouped_before_core(
    weights: Mapping[str, Tensor], hidden: Tensor, positions: Tensor, num_q_heads: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The same of MHA, GQA and MQA."""
    heads, head_dim, _ = weights["qkv_proj"].shape
    qkv = _project(hidden.double(), weights["qkv_proj"].flatten(0, 1)).unflatten(1, (heads, head_dim))
    num_kv_heads = (heads - num_q_heads) // 2
    q, k, v = qkv.split([num_q_heads, num_kv_heads, num_kv_heads], dim=1)
    rows = {"k_cache": _rotate(k, positions, interleaved=False), "v_cache": v}
    return _rotate(q, positions, interleaved=False), rows


def after_core(form: str | None, weights: Mapping[str, Tensor], out: Tensor) -> Tensor:
    """The layer's output `[tokens, hidden_size]` from the core's `out [tokens, num_q_heads, dim]`."""
    heads = out.double()
    if form == "premultiplied":
        return heads.flatten(1) @ weights["o_premultiplied"].double().flatten(0, 1)
    if form == "absorbed":
        v_head_dim = weights["o_proj"].shape[1] // heads.shape[1]
        v_up = weights["kv_b_proj"][:, -v_head_dim:].double()
        heads = (heads.transpose(0, 1) @ v_up.transpose(1, 2)).transpose(0, 1)
    return _project(heads.flatten(1), weights["o_proj"])


def _project(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.double().T


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + RMS_NORM_EPS).sqrt() * weight.double()


def _rotate(x: Tensor, positions: Tensor, interleaved: bool = True) -> Tensor:
    """`x [tokens, heads, rope_dim]` turned pair by pair."""
    half = x.shape[2] // 2
    step = torch.arange(half, dtype=torch.float64, device=x.device)
    angle = positions.double()[:, None, None] * THETA ** (-step / half)  # [T, 1, half]
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    pairs = (first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos())
    return torch.stack(pairs, dim=-1).flatten(2) if interleaved else torch.cat(pairs, dim=2)
