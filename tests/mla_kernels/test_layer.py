"""Whole layers: all forms of MLA are one function, and decode goes on where prefill stopped."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from mla_kernels import layer_torch, mla_recompute_decode_torch
from mla_kernels.layer_parts import MLA_PARTS, GroupedDims
from tests.mla_kernels import layers

FORMS = tuple(MLA_PARTS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
DIMS = pytest.mark.parametrize("dims", [layers.MLA, replace(layers.MLA, q_lora_rank=None)], ids=["q_lora_rank", "none"])
LENS = (11, 1, 6)


def expect(got, want):
    assert layers.relative_error(got, want) <= layers.RELATIVE_ERROR_LIMITS[got.dtype]


def hidden_states(lens, hidden_size, dtype):
    return [layers.make_hidden(length, hidden_size, dtype, seed=length) for length in lens]


def prefill_then_decode(layer, cache, states):
    """Every request by itself in chunks but for its last token, then the last tokens of all in one batch."""
    outputs = []
    for request, state in enumerate(states):
        own, ends = cache.of_request(request), sorted({0, len(state) // 2, len(state) - 1})
        chunks = [layer(state[first:last], torch.tensor([last]), own) for first, last in pairwise(ends)]
        outputs.append(torch.cat(chunks) if chunks else state[:0])
    last = layer(torch.stack([state[-1] for state in states]), torch.tensor([len(s) for s in states]), cache)
    return [torch.cat((output, row[None])) for output, row in zip(outputs, last, strict=True)]


@DTYPES
@DIMS
@pytest.mark.parametrize("form", FORMS)
def test_mla_prefill_is_the_formula(form, dims, dtype):
    weights = layers.mla_weights(dims, dtype)
    states = hidden_states((9, 9), dims.hidden_size, dtype)
    cache = layers.mla_cache(dims, form, (9, 9), states[0])
    output = layers.mla_layer(dims, form, weights, torch.cat(states), torch.tensor([9, 9]), cache)
    expect(output, torch.cat([layers.plain_mla(dims, weights, state) for state in states]))


@DTYPES
@pytest.mark.parametrize("form", FORMS)
def test_mla_decode_goes_on_where_prefill_stopped(form, dtype):
    dims, weights = layers.MLA, layers.mla_weights(layers.MLA, dtype)
    states = hidden_states(LENS, dims.hidden_size, dtype)
    cache = layers.mla_cache(dims, form, LENS, states[0])

    def layer(hidden, kv_lens, cache):
        return layers.mla_layer(dims, form, weights, hidden, kv_lens, cache)

    for output, state in zip(prefill_then_decode(layer, cache, states), states, strict=True):
        expect(output, layers.plain_mla(dims, weights, state))


def test_forms_change_over_on_one_cache_of_latents():
    dims, dtype = layers.MLA, torch.float64
    weights, state = layers.mla_weights(dims, dtype), layers.make_hidden(9, dims.hidden_size, dtype)
    cache = layers.mla_cache(dims, "recompute", (9,), state)
    outputs, last = [], 0
    for form, end in (("recompute", 6), ("absorbed", 7), ("premultiplied", 8), ("recompute", 9)):
        outputs.append(layers.mla_layer(dims, form, weights, state[last:end], torch.tensor([end]), cache))
        last = end
    expect(torch.cat(outputs), layers.plain_mla(dims, weights, state))


@DTYPES
def test_the_recomputing_kernel_takes_what_the_parts_give(dtype):
    dims, weights, kv_lens = layers.MLA, layers.mla_weights(layers.MLA, dtype), torch.tensor([9, 9])
    hidden = torch.cat(hidden_states((9, 9), dims.hidden_size, dtype))
    cache = layers.mla_cache(dims, "recompute", (9, 9), hidden)
    layers.mla_layer(dims, "recompute", weights, hidden, kv_lens, cache)
    calls, core = layers.mla_part_calls(dims, "recompute", weights, hidden, kv_lens, cache)
    bound = {name: bind(**arguments) for name, (bind, arguments) in calls.items()}
    kernel = mla_recompute_decode_torch.bind(
        q=core["q"].unflatten(0, (2, 9)),
        kv_cache=cache.caches[0],
        kv_b_proj=weights["kv_b_proj"],
        block_table=cache.block_table,
        kv_lens=kv_lens,
        out=core["out"].unflatten(0, (2, 9)),
        softmax_scale=dims.qk_head_dim**-0.5,
    )
    for launch in (bound["query"], kernel, bound["output"]):
        launch()
    expect(core["output"], torch.cat([layers.plain_mla(dims, weights, state) for state in hidden.chunk(2)]))


@DTYPES
@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
def test_grouped_prefill_is_the_formula_and_decode_goes_on(num_kv_heads, dtype):
    dims = GroupedDims(hidden_size=48, num_q_heads=6, num_kv_heads=num_kv_heads, head_dim=8)
    weights = layer_torch.make_weights(dims.weight_shapes, dtype)
    states = hidden_states(LENS, dims.hidden_size, dtype)
    cache = layers.Cache.empty(LENS, [(num_kv_heads, 8)] * 2, states[0])

    def layer(hidden, kv_lens, cache):
        return layers.grouped_layer(dims, weights, hidden, kv_lens, cache)

    for output, state in zip(prefill_then_decode(layer, cache, states), states, strict=True):
        expect(output, layers.plain_grouped(dims, weights, state))
