"""The layers on a GPU at the head dims of real models: against the plain formula, and captured in a CUDA graph."""

from dataclasses import replace

import pytest
import torch

from mla_kernels import layer_torch
from mla_kernels.layer_parts import MLA_PARTS, GroupedDims, MlaDims
from tests.mla_kernels import layers

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
MLA = MlaDims(1024, 16, 512, 128, 64, 128, 768)
KV_LEN = 100


def check(launches, output, expected):
    """Eagerly, and replayed from a graph with poisoned results; the cache has been written by then."""
    for launch in launches.values():
        launch()
    assert layers.relative_error(output, expected) <= layers.RELATIVE_ERROR_LIMITS[output.dtype]
    eager = output.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for launch in launches.values():
            launch()
    output.fill_(torch.nan)
    graph.replay()
    assert layers.relative_error(output, eager) <= layers.RELATIVE_ERROR_LIMITS[output.dtype]


@pytest.mark.parametrize("q_lora_rank", [768, None])
@pytest.mark.parametrize("form", MLA_PARTS)
def test_mla_layer(form, q_lora_rank):
    dims, dtype = replace(MLA, q_lora_rank=q_lora_rank), torch.bfloat16
    weights = layers.mla_weights(dims, dtype, "cuda")
    states = [layers.make_hidden(KV_LEN, dims.hidden_size, dtype, "cuda", seed) for seed in (1, 2)]
    kv_lens = torch.tensor([KV_LEN, KV_LEN], device="cuda")
    cache = layers.mla_cache(dims, form, (KV_LEN, KV_LEN), states[0])
    launches, output = layers.mla_launches(dims, form, weights, torch.cat(states), kv_lens, cache)
    check(launches, output, torch.cat([layers.plain_mla(dims, weights, state) for state in states]))


@pytest.mark.parametrize("num_kv_heads", [1, 8])
def test_grouped_layer(num_kv_heads):
    dims, dtype = GroupedDims(1024, 8, num_kv_heads, 128), torch.bfloat16
    weights = layer_torch.make_weights(dims.weight_shapes, dtype, device="cuda")
    states = [layers.make_hidden(KV_LEN, dims.hidden_size, dtype, "cuda", seed) for seed in (1, 2)]
    kv_lens = torch.tensor([KV_LEN, KV_LEN], device="cuda")
    cache = layers.Cache.empty((KV_LEN, KV_LEN), [(num_kv_heads, 128)] * 2, states[0])
    launches, output = layers.grouped_launches(dims, weights, torch.cat(states), kv_lens, cache)
    check(launches, output, torch.cat([layers.plain_grouped(dims, weights, state) for state in states]))
