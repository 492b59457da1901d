"""Whole attention layers for the tests: assembled from the parts over paged caches, and as plain formulas.

Caches start as NaN, so that whatever is read before it is written shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mla_kernels import grouped_decode_torch, grouped_layer_torch, layer_torch, mla_decode_torch, mla_layer_torch
from mla_kernels.launch import Launch
from mla_kernels.layer_parts import MLA_PARTS, GroupedDims, MlaDims
from mla_kernels.rope import rope_table
from tests.mla_kernels import cases

MLA = MlaDims(
    hidden_size=48, num_q_heads=3, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6, q_lora_rank=20
)
GQA = GroupedDims(hidden_size=48, num_q_heads=6, num_kv_heads=2, head_dim=8)
MAX_POSITIONS = 256
RELATIVE_ERROR_LIMITS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}
EPS = 1e-6
"""Of DeepSeek-V2 and V3, `rms_norm_eps` of their config.json."""
PartCall = tuple[Callable[..., Launch], dict[str, Any]]


@dataclass(frozen=True)
class Cache:
    """Pages for requests of `lens` tokens, all NaN."""

    caches: list[Tensor]
    block_table: Tensor
    page_size: int

    @classmethod
    def empty(cls, lens, shapes, like: Tensor, page_size=4) -> "Cache":
        caches, block_table, _ = cases.paged_cache(lens, page_size, shapes, like.dtype, 0, like.device)
        return cls([cache.fill_(torch.nan) for cache in caches], block_table, page_size)

    def of_request(self, request: int) -> "Cache":
        return Cache(self.caches, self.block_table[request : request + 1], self.page_size)

    def place(self, starts: Tensor, kv_lens: Tensor) -> tuple[Tensor, Tensor]:
        return layer_torch.place_tokens(starts, kv_lens, self.block_table, self.page_size)


def mla_cache(dims: MlaDims, form: str, lens, like: Tensor) -> Cache:
    heads = dims.num_q_heads
    expanded = [(heads, dims.qk_head_dim), (heads, dims.v_head_dim)]
    return Cache.empty(lens, expanded if form == "expanded" else [(dims.latent_dim,)], like)


def mla_weights(dims: MlaDims, dtype, device="cpu", seed=0) -> dict[str, Tensor]:
    """All weights, the premultiplied and the views of `kv_b_proj` too."""
    weights = layer_torch.make_weights(dims.weight_shapes, dtype, seed, device)
    up = mla_layer_torch.split_kv_b_proj(weights["kv_b_proj"], dims.qk_nope_head_dim)
    premultiplied = mla_layer_torch.premultiply(weights, dims.qk_nope_head_dim)
    return weights | premultiplied | {"k_up_proj": up[0], "v_up_proj": up[1]}


def make_hidden(tokens: int, hidden_size: int, dtype, device="cpu", seed=7) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(tokens, hidden_size, generator=generator, device=device).to(dtype)


def table_for(hidden: Tensor, rope_dim: int) -> Tensor:
    dtype = torch.complex128 if hidden.dtype == torch.float64 else torch.complex64
    return rope_table(MAX_POSITIONS, rope_dim, dtype=dtype, device=hidden.device)


def mla_part_calls(
    dims: MlaDims, form: str, weights: dict[str, Tensor], hidden: Tensor, kv_lens: Tensor, cache: Cache
) -> tuple[dict[str, PartCall], dict[str, Tensor]]:
    """The bind and the tensors of each of a form's parts, and the tensors that the core takes, for equally many new
    tokens of each request.
    """
    tokens, heads, rank = len(hidden), dims.num_q_heads, dims.kv_lora_rank

    def empty(count: int, *shape: int) -> Tensor:
        return torch.full((count, *shape), torch.nan, dtype=hidden.dtype, device=hidden.device)

    latent_form = form in ("absorbed", "premultiplied")
    positions, slots = cache.place(_starts(torch.full_like(kv_lens, tokens // len(kv_lens))), kv_lens)
    _, cached_slots = cache.place(_starts(kv_lens), kv_lens)
    expanded_tokens = len(cached_slots) if form == "recompute" else tokens
    where = {"positions": positions, "rope_table": table_for(hidden, dims.qk_rope_head_dim)}
    q, absorbed_q = empty(tokens, heads, dims.qk_head_dim), empty(tokens, heads, dims.latent_dim)
    keys = empty(expanded_tokens, heads, dims.qk_head_dim)
    values = empty(expanded_tokens, heads, dims.v_head_dim)
    latent, output = empty(tokens, dims.latent_dim), empty(tokens, dims.hidden_size)
    latent_out, heads_out = empty(tokens, heads, rank), empty(tokens, heads, dims.v_head_dim)

    def pick(*names: str) -> dict[str, Tensor]:
        return {name: weights[name] for name in names if name in weights}

    module, up = mla_layer_torch, pick("k_up_proj", "v_up_proj")
    query_down = pick("q_a_proj", "q_a_norm") | {"hidden": hidden}
    q_rope = {"q_rope": absorbed_q[..., rank:]} if form == "absorbed" else {}
    rows = [keys, values] if form == "expanded" else [latent]
    calls: dict[str, PartCall] = {
        "query": (module.bind_query, query_down | pick("q_b_proj") | where | {"q": q} | q_rope),
        "query_absorb": (
            module.bind_query_absorb,
            {"q_nope": q[..., : dims.qk_nope_head_dim], "absorbed": absorbed_q[..., :rank]} | pick("k_up_proj"),
        ),
        "query_premultiplied": (
            module.bind_query_premultiplied,
            query_down | pick("q_premultiplied", "q_rope_proj") | where | {"q": absorbed_q},
        ),
        "latent": (
            module.bind_latent,
            {"hidden": hidden, "latent": latent} | pick("kv_a_proj", "kv_a_norm") | where,
        ),
        "cache_write": (layer_torch.bind_cache_write, {"rows": rows, "slots": slots, "caches": cache.caches}),
        "expand": (module.bind_expand, up | {"latent": latent, "keys": keys, "values": values}),
        "expand_cached": (
            module.bind_expand_cached,
            up | {"kv_cache": cache.caches[0], "slots": cached_slots, "keys": keys, "values": values},
        ),
        "output_up": (module.bind_output_up, {"latent_out": latent_out, "heads_out": heads_out} | pick("v_up_proj")),
        "output": (layer_torch.bind_output, {"heads_out": heads_out, "output": output} | pick("o_proj")),
        "output_premultiplied": (
            module.bind_output_premultiplied,
            {"latent_out": latent_out, "output": output} | pick("o_premultiplied"),
        ),
    }
    core = {"q": absorbed_q if latent_form else q, "out": latent_out if latent_form else heads_out}
    core |= {"keys": keys, "values": values, "output": output}
    return {name: calls[name] for name in MLA_PARTS[form]}, core


def mla_launches(
    dims: MlaDims, form: str, weights: dict[str, Tensor], hidden: Tensor, kv_lens: Tensor, cache: Cache
) -> tuple[dict[str, Launch], Tensor]:
    """A form's layer as launches in the order in which they run, with `core` among them, and the output."""
    calls, tensors = mla_part_calls(dims, form, weights, hidden, kv_lens, cache)
    batch = {"q": _by_request(tensors["q"], kv_lens), "out": _by_request(tensors["out"], kv_lens), "kv_lens": kv_lens}
    batch |= {"softmax_scale": dims.qk_head_dim**-0.5, "block_table": cache.block_table}
    if form in ("absorbed", "premultiplied"):
        core = mla_decode_torch.bind(kv_cache=cache.caches[0], **batch)
    elif form == "expanded":
        core = grouped_decode_torch.bind(k_cache=cache.caches[0], v_cache=cache.caches[1], **batch)
    else:  # the expanded tokens lie one after the other: pages of one token
        starts = _starts(kv_lens)[:-1].int()
        batch["block_table"] = starts[:, None] + torch.arange(int(kv_lens.max()), device=starts.device, dtype=torch.int)
        keys, values = tensors["keys"][:, None], tensors["values"][:, None]
        core = grouped_decode_torch.bind(k_cache=keys, v_cache=values, **batch)
    bound = {name: bind(**arguments) for name, (bind, arguments) in calls.items()}
    before = {name: launch for name, launch in bound.items() if not name.startswith("output")}
    return before | {"core": core} | bound, tensors["output"]


def mla_layer(dims, form, weights, hidden, kv_lens, cache) -> Tensor:
    """The output `[tokens, hidden_size]` of a form's layer; writes the cache."""
    launches, output = mla_launches(dims, form, weights, hidden, kv_lens, cache)
    for launch in launches.values():
        launch()
    return output


def grouped_part_calls(dims: GroupedDims, weights, hidden, kv_lens, cache) -> dict[str, PartCall]:
    tokens, heads = len(hidden), dims.num_q_heads + 2 * dims.num_kv_heads
    qkv = hidden.new_full((tokens, heads, dims.head_dim), torch.nan)
    q = qkv[:, : dims.num_q_heads].clone(memory_format=torch.contiguous_format)
    heads_out, output = torch.full_like(q, torch.nan), torch.full_like(hidden, torch.nan)
    positions, slots = cache.place(_starts(torch.full_like(kv_lens, tokens // len(kv_lens))), kv_lens)
    where = {"positions": positions, "rope_table": table_for(hidden, dims.head_dim)}
    qkv_arguments = {"hidden": hidden, "qkv_proj": weights["qkv_proj"], "qkv": qkv, "q": q} | where
    rows = grouped_layer_torch.split_kv(qkv, dims.num_q_heads)
    return {
        "qkv": (grouped_layer_torch.bind_qkv, qkv_arguments),
        "cache_write": (layer_torch.bind_cache_write, {"rows": rows, "slots": slots, "caches": cache.caches}),
        "output": (
            layer_torch.bind_output,
            {"heads_out": heads_out, "o_proj": weights["o_proj"], "output": output},
        ),
    }


def grouped_launches(dims: GroupedDims, weights, hidden, kv_lens, cache) -> tuple[dict[str, Launch], Tensor]:
    """The layer as launches in the order in which they run, and the output."""
    calls = grouped_part_calls(dims, weights, hidden, kv_lens, cache)
    output = calls["output"][1]
    core = grouped_decode_torch.bind(
        q=_by_request(calls["qkv"][1]["q"], kv_lens),
        out=_by_request(output["heads_out"], kv_lens),
        k_cache=cache.caches[0],
        v_cache=cache.caches[1],
        block_table=cache.block_table,
        kv_lens=kv_lens,
        softmax_scale=dims.head_dim**-0.5,
    )
    bound = {name: bind(**arguments) for name, (bind, arguments) in calls.items()}
    last = bound.pop("output")
    return bound | {"core": core, "output": last}, output["output"]


def grouped_layer(dims: GroupedDims, weights, hidden, kv_lens, cache) -> Tensor:
    """The output `[tokens, hidden_size]` of the layer; writes the cache."""
    launches, output = grouped_launches(dims, weights, hidden, kv_lens, cache)
    for launch in launches.values():
        launch()
    return output


def plain_mla(dims: MlaDims, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
    """One request from position 0, without cache or absorption: every key expanded, in float64."""
    w = {name: weights[name].double() for name in dims.weight_shapes}
    x = hidden.double()
    q_input = plain_rms_norm(x @ w["q_a_proj"].T, w["q_a_norm"]) if dims.q_lora_rank else x
    q = torch.einsum("ti,hdi->thd", q_input, w["q_b_proj"])
    latent, rope = (x @ w["kv_a_proj"].T).split([dims.kv_lora_rank, dims.qk_rope_head_dim], dim=1)
    up = torch.einsum("tc,hdc->thd", plain_rms_norm(latent, w["kv_a_norm"]), w["kv_b_proj"])
    k_nope, v = up.split([dims.qk_nope_head_dim, dims.v_head_dim], dim=2)
    k_rope = plain_rotate(rope[:, None]).expand(-1, dims.num_q_heads, -1)
    q = torch.cat((q[..., : dims.qk_nope_head_dim], plain_rotate(q[..., dims.qk_nope_head_dim :])), dim=2)
    out = plain_attention(q, torch.cat((k_nope, k_rope), dim=2), v)
    return out.flatten(1) @ w["o_proj"].T


def plain_grouped(dims: GroupedDims, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
    """One request from position 0, without cache, in float64."""
    qkv = torch.einsum("ti,hdi->thd", hidden.double(), weights["qkv_proj"].double())
    q, k, v = qkv.split([dims.num_q_heads, dims.num_kv_heads, dims.num_kv_heads], dim=1)
    group = dims.num_q_heads // dims.num_kv_heads
    k, v = (plain_rotate(k, interleaved=False).repeat_interleave(group, 1), v.repeat_interleave(group, 1))
    out = plain_attention(plain_rotate(q, interleaved=False), k, v)
    return out.flatten(1) @ weights["o_proj"].double().T


def plain_rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight


def plain_rotate(x: Tensor, positions=None, interleaved=True, theta=10_000.0) -> Tensor:
    """`x [tokens, heads, dim]` pair by pair; without positions token `i` is at position `i`."""
    positions, dim = range(len(x)) if positions is None else positions, x.shape[-1]
    turned = torch.empty_like(x)
    for i in range(dim // 2):
        a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + dim // 2)
        angle = torch.tensor([p * theta ** (-2 * i / dim) for p in positions], dtype=torch.float64, device=x.device)
        cos, sin = angle.cos()[:, None].to(x.dtype), angle.sin()[:, None].to(x.dtype)
        turned[..., a] = x[..., a] * cos - x[..., b] * sin
        turned[..., b] = x[..., a] * sin + x[..., b] * cos
    return turned


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of `[tokens, heads, dim]` over itself."""
    scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[2] ** -0.5
    hidden = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(2), v)


def relative_error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


def _starts(counts: Tensor) -> Tensor:
    """Where each request's tokens begin among packed ones, and where the last one's end."""
    return torch.cat((counts.new_zeros(1), counts.cumsum(0))).long()


def _by_request(packed: Tensor, kv_lens: Tensor) -> Tensor:
    return packed.unflatten(0, (len(kv_lens), -1))
