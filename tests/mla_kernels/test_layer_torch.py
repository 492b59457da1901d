"""Each part of a layer against a plain formula, and what all parts promise."""

from dataclasses import replace

import pytest
import torch

from mla_kernels import grouped_layer_torch, layer_torch
from mla_kernels.layer_parts import MlaDims
from mla_kernels.rope import rope_table
from tests.mla_kernels import layers

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
KV_LENS, Q_LEN = (9, 5), 3
TOKENS = len(KV_LENS) * Q_LEN
POSITIONS = [6, 7, 8, 2, 3, 4]
NO_QUERY_RANK = replace(layers.MLA, q_lora_rank=None)
DIMS = pytest.mark.parametrize("dims", [layers.MLA, NO_QUERY_RANK], ids=["q_lora_rank", "none"])


def calls_of(form, dtype, dims=layers.MLA):
    """The bind and tensors of a form's parts; inputs that other parts would write are made finite here."""
    hidden, kv_lens = layers.make_hidden(TOKENS, dims.hidden_size, dtype), torch.tensor(KV_LENS)
    cache = layers.mla_cache(dims, form, KV_LENS, hidden)
    return layers.mla_part_calls(dims, form, layers.mla_weights(dims, dtype), hidden, kv_lens, cache)[0]


def fill(tensor):
    tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())))


def double(arguments):
    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    return {name: value.double() for name, value in tensors.items() if not value.is_complex()}


def run(part, calls):
    bind, arguments = calls[part]
    launch = bind(**arguments)
    assert launch() is None
    assert launch.workspace_bytes >= 0


def expect(got, want):
    assert layers.relative_error(got, want) <= layers.RELATIVE_ERROR_LIMITS[got.dtype]


def query_input(t, dims):
    return layers.plain_rms_norm(t["hidden"] @ t["q_a_proj"].T, t["q_a_norm"]) if dims.q_lora_rank else t["hidden"]


@DTYPES
@DIMS
@pytest.mark.parametrize("form", ["absorbed", "expanded"])
def test_query(form, dims, dtype):
    calls = calls_of(form, dtype, dims)
    run("query", calls)
    arguments = calls["query"][1]
    t, nope = double(arguments), dims.qk_nope_head_dim
    q = torch.einsum("ti,hdi->thd", query_input(t, dims), t["q_b_proj"])
    expect(arguments["q"][..., :nope], q[..., :nope])
    expect(arguments.get("q_rope", arguments["q"][..., nope:]), layers.plain_rotate(q[..., nope:], POSITIONS))


@DTYPES
@DIMS
def test_premultiplied_query_is_the_absorbed_one(dims, dtype):
    calls = calls_of("absorbed", dtype, dims) | calls_of("premultiplied", dtype, dims)
    for part in ("query", "query_absorb", "query_premultiplied"):
        run(part, calls)
    premultiplied, rank = calls["query_premultiplied"][1]["q"], dims.kv_lora_rank
    expect(premultiplied[..., :rank], calls["query_absorb"][1]["absorbed"])
    expect(premultiplied[..., rank:], calls["query"][1]["q_rope"])


@DTYPES
def test_latent(dtype):
    calls = calls_of("absorbed", dtype)
    run("latent", calls)
    t, rank = double(calls["latent"][1]), layers.MLA.kv_lora_rank
    row = t["hidden"] @ t["kv_a_proj"].T
    expect(calls["latent"][1]["latent"][:, :rank], layers.plain_rms_norm(row[:, :rank], t["kv_a_norm"]))
    expect(calls["latent"][1]["latent"][:, None, rank:], layers.plain_rotate(row[:, None, rank:], POSITIONS))


@DTYPES
def test_query_absorb(dtype):
    calls = calls_of("absorbed", dtype)
    arguments = calls["query_absorb"][1]
    fill(arguments["q_nope"])
    run("query_absorb", calls)
    t = double(arguments)
    expect(arguments["absorbed"], torch.einsum("thn,hnc->thc", t["q_nope"], t["k_up_proj"]))


@DTYPES
def test_output_parts(dtype):
    calls = calls_of("premultiplied", dtype) | calls_of("absorbed", dtype)
    up, last, premultiplied = (calls[part][1] for part in ("output_up", "output", "output_premultiplied"))
    fill(up["latent_out"])
    premultiplied["latent_out"].copy_(up["latent_out"])
    for part in ("output_up", "output", "output_premultiplied"):
        run(part, calls)
    t = double(up)
    expect(up["heads_out"], torch.einsum("thc,hvc->thv", t["latent_out"], t["v_up_proj"]))
    want = torch.einsum("thc,hvc->thv", t["latent_out"], t["v_up_proj"]).flatten(1) @ double(last)["o_proj"].T
    expect(last["output"], want)
    expect(premultiplied["output"], want)


@DTYPES
@pytest.mark.parametrize("part", ["expand", "expand_cached"])
def test_expand(part, dtype):
    calls = calls_of("expanded" if part == "expand" else "recompute", dtype)
    arguments = calls[part][1]
    if part == "expand":
        fill(arguments["latent"])
        rows = arguments["latent"]
    else:
        slots, flat = arguments["slots"], arguments["kv_cache"].view(-1, layers.MLA.latent_dim)
        rows = torch.empty(len(slots), flat.shape[1], dtype=dtype)
        fill(rows)
        flat[slots] = rows
    run(part, calls)
    t, rank, nope = double(arguments), layers.MLA.kv_lora_rank, layers.MLA.qk_nope_head_dim
    latent, rope = rows.double().split([rank, layers.MLA.qk_rope_head_dim], dim=1)
    expect(arguments["keys"][..., :nope], torch.einsum("tc,hnc->thn", latent, t["k_up_proj"]))
    assert torch.equal(arguments["keys"][..., nope:].double(), rope[:, None].expand(-1, 3, -1))
    expect(arguments["values"], torch.einsum("tc,hvc->thv", latent, t["v_up_proj"]))


@DTYPES
def test_qkv(dtype):
    dims, kv_lens = layers.GQA, torch.tensor(KV_LENS)
    hidden = layers.make_hidden(TOKENS, dims.hidden_size, dtype)
    cache = layers.Cache.empty(KV_LENS, [(dims.num_kv_heads, dims.head_dim)] * 2, hidden)
    weights = layer_torch.make_weights(dims.weight_shapes, dtype)
    calls = layers.grouped_part_calls(dims, weights, hidden, kv_lens, cache)
    run("qkv", calls)
    arguments = calls["qkv"][1]
    t = double(arguments)
    want = torch.einsum("ti,hdi->thd", t["hidden"], t["qkv_proj"])
    keys, values = grouped_layer_torch.split_kv(arguments["qkv"], dims.num_q_heads)
    expect(arguments["q"], layers.plain_rotate(want[:, :6], POSITIONS, interleaved=False))
    expect(keys, layers.plain_rotate(want[:, 6:8], POSITIONS, interleaved=False))
    expect(values, want[:, 8:])


def test_tokens_are_placed_by_the_block_table():
    block_table = torch.tensor([[3, 0, -1], [2, 2**30, -1], [5, 4, 1]], dtype=torch.int32)
    starts, kv_lens = torch.tensor([0, 2, 2, 5], dtype=torch.int32), torch.tensor([5, 2, 9], dtype=torch.int32)
    positions, slots = layer_torch.place_tokens(starts, kv_lens, block_table, 4)
    assert positions.tolist() == [3, 4, 6, 7, 8]
    assert slots.tolist() == [15, 0, 18, 19, 4]
    assert positions.dtype == slots.dtype == torch.int64


def test_the_cache_is_written_at_the_slots_alone():
    caches = [torch.full((3, 4, 2), torch.nan), torch.full((3, 4, 1, 3), torch.nan)]
    slots = torch.tensor([9, 0, 6])
    rows = [torch.arange(6.0).view(3, 2), torch.arange(18.0).view(3, 2, 3)[:, 1:]]
    launch = layer_torch.bind_cache_write(rows=rows, slots=slots, caches=caches)
    launch()
    for row, cache in zip(rows, caches, strict=True):
        flat = cache.flatten(0, 1)
        assert torch.equal(flat[slots], row)
        assert int(flat.flatten(1).isnan().any(1).sum()) == 9
    slots.add_(1)
    launch()
    assert torch.equal(caches[0].flatten(0, 1)[slots], rows[0])


def test_calls_see_new_positions_hidden_states_and_weights():
    calls = calls_of("expanded", torch.float64)
    bind, arguments = calls["query"]
    launch = bind(**arguments)
    launch()
    arguments["positions"].add_(20)
    arguments["hidden"].mul_(-0.5)
    arguments["q_b_proj"].add_(0.25)
    launch()
    t, nope = double(arguments), layers.MLA.qk_nope_head_dim
    q = torch.einsum("ti,hdi->thd", query_input(t, layers.MLA), t["q_b_proj"])
    expect(arguments["q"][..., nope:], layers.plain_rotate(q[..., nope:], [p + 20 for p in POSITIONS]))


def test_a_seed_gives_the_same_weights_in_every_dtype():
    shapes = layers.MLA.weight_shapes
    exact, rounded = (layer_torch.make_weights(shapes, dtype, seed=3) for dtype in (torch.float32, torch.bfloat16))
    other = layer_torch.make_weights(shapes, torch.float32, seed=4)
    assert {name: tuple(weight.shape) for name, weight in exact.items()} == shapes
    for name, weight in exact.items():
        assert torch.equal(weight.bfloat16(), rounded[name])
        assert not torch.equal(weight, other[name])
    assert float(exact["o_proj"].std()) == pytest.approx(18**-0.5, rel=0.1)
    assert float(exact["kv_a_norm"].mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("form", "part", "name", "broken"),
    [
        ("absorbed", "query", "q_a_proj", torch.zeros(20, 47)),
        ("absorbed", "query", "q_a_norm", torch.zeros(19)),
        ("absorbed", "query", "q", torch.zeros(TOKENS, 3, 13)),
        ("absorbed", "query", "q", torch.zeros(3, TOKENS, 12).transpose(0, 1)),
        ("absorbed", "query", "q_rope", torch.zeros(TOKENS, 3, 6)),
        ("absorbed", "query", "positions", torch.arange(1)),
        ("absorbed", "latent", "positions", torch.arange(1)),
        ("absorbed", "latent", "kv_a_proj", torch.zeros(21, 48)),
        ("absorbed", "latent", "latent", torch.zeros(TOKENS, 20, dtype=torch.bfloat16)),
        ("absorbed", "cache_write", r"rows\[0\]", [torch.zeros(TOKENS, 19)]),
        ("absorbed", "query_absorb", "absorbed", torch.zeros(TOKENS, 3, 20)),
        ("absorbed", "output_up", "latent_out", torch.zeros(TOKENS, 4, 16)),
        ("absorbed", "output", "heads_out", torch.zeros(3, TOKENS, 6).transpose(0, 1)),
        ("absorbed", "output", "o_proj", torch.zeros(48, 17)),
        ("premultiplied", "query_premultiplied", "q_rope_proj", torch.zeros(3, 4, 21)),
        ("premultiplied", "query_premultiplied", "positions", torch.arange(1)),
        ("premultiplied", "query_premultiplied", "q_a_proj", torch.zeros(20, 47)),
        ("premultiplied", "output_premultiplied", "output", torch.zeros(TOKENS, 47)),
        ("premultiplied", "output_premultiplied", "latent_out", torch.zeros(3, TOKENS, 16).transpose(0, 1)),
        ("expanded", "expand", "keys", torch.zeros(TOKENS, 3, 11)),
        ("recompute", "expand_cached", "values", torch.zeros(TOKENS, 3, 6)),
    ],
)  # fmt: skip
def test_tensors_that_contradict_are_refused(form, part, name, broken):
    bind, arguments = calls_of(form, torch.float32)[part]
    with pytest.raises(ValueError, match=name):
        bind(**arguments | {name.removesuffix(r"\[0\]"): broken})


def test_hidden_states_of_another_width_are_refused():
    bind, arguments = calls_of("absorbed", torch.float32, NO_QUERY_RANK)["query"]
    with pytest.raises(ValueError, match="hidden has shape"):
        bind(**arguments | {"hidden": torch.zeros(TOKENS, 47)})


@pytest.mark.parametrize(
    ("name", "broken"), [("q", torch.zeros(2, 5, 8)), ("positions", torch.arange(1)), ("qkv", torch.zeros(2, 10, 9))]
)
def test_qkv_refuses_tensors_that_contradict(name, broken):
    tensors = {"hidden": torch.zeros(2, 48), "qkv_proj": torch.zeros(10, 8, 48), "qkv": torch.zeros(2, 10, 8)}
    tensors |= {"positions": torch.arange(2), "rope_table": rope_table(4, 8), "q": torch.zeros(2, 6, 8)}
    with pytest.raises(ValueError, match=f"{name} has shape"):
        grouped_layer_torch.bind_qkv(**tensors | {name: broken})


def test_dims_say_what_follows_from_them():
    dims = MlaDims(7168, 128, 512, 128, 64, 128, 1536)
    assert (dims.qk_head_dim, dims.latent_dim, dims.query_input_dim) == (192, 576, 1536)
    assert replace(dims, q_lora_rank=None).query_input_dim == 7168
