"""The Triton prefill kernel on a GPU at real sizes, and what a captured graph must survive."""

import pytest
import torch

from mla_kernels import reference
from tests.mla_kernels import cases, prefill_cases

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
SCALE = 192**-0.5
LENS = (0, 1, 63, 64, 65, 500, 1000, 4097)
Q_LENS = (0, 1, 63, 1, 65, 0, 700, 130)
"""Whole prompts, prefixes, and requests without a new token."""


def make(kv_lens=LENS, q_lens=Q_LENS, heads=(32, 8), dims=(128, 128), page_size=64, dtype=torch.bfloat16, seed=0):
    return prefill_cases.grouped(kv_lens, q_lens, *heads, *dims, page_size, dtype, seed, "cuda")


def bind(tensors, **tunables):
    from mla_kernels import grouped_prefill_triton

    return grouped_prefill_triton.bind(**tensors, softmax_scale=SCALE, **tunables)


def check(inputs, **tunables):
    tensors = prefill_cases.with_outputs(inputs)
    bind(tensors, **tunables)()
    check_outputs(inputs, tensors)


def check_outputs(inputs, tensors):
    out, lse = reference.grouped_prefill(**inputs, softmax_scale=SCALE)
    assert cases.mismatch(inputs["q"].dtype, tensors["out"], out, tensors["lse"], lse) == ""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("heads", [(16, 16), (32, 8), (128, 1), (20, 4)])
@pytest.mark.parametrize("dims", [(128, 128), (192, 128), (64, 64)])
def test_heads_and_dims(dims, heads, dtype):
    check(make(heads=heads, dims=dims, dtype=dtype))


@pytest.mark.parametrize("dims", [(16, 16), (80, 80), (112, 40), (192, 192), (256, 256)])
def test_other_head_dims(dims):
    check(make(heads=(16, 8), dims=dims))


@pytest.mark.parametrize("dims", [(128, 128), (192, 128)])
@pytest.mark.parametrize("page_size", [1, 16, 24, 32, 128])
def test_page_sizes(page_size, dims):
    check(make((1000, 65, 3, 300), (700, 65, 3, 31), dims=dims, page_size=page_size))


@pytest.mark.parametrize("block_m", [16, 32, 64, 128])
@pytest.mark.parametrize("use_tma", [0, 1])
def test_tiles(block_m, use_tma):
    check(make(), block_m=block_m, use_tma=use_tma, num_warps=8 if block_m == 128 else 4)


@pytest.mark.parametrize("q_len", [1, 2, 16, 64, 128])
def test_few_queries_after_a_long_prefix(q_len):
    check(make((8192, 5000, 131), (q_len,) * 3))


@pytest.mark.parametrize(
    ("heads", "dims"), [((16, 16), (128, 128)), ((16, 2), (128, 128)), ((16, 16), (192, 128)), ((16, 2), (64, 64))]
)
@pytest.mark.parametrize("lens", [(16384,), (2048,) * 4, (9000, 300, 4000)])
def test_whole_prompts(lens, heads, dims):
    check(make(lens, lens, heads, dims))


def test_more_queries_than_tokens():
    check(make((2, 0, 300), (150, 3, 400)))


def test_many_requests():
    lens = [(37 * i) % 301 for i in range(300)]
    check(make(lens, [kv_len * (i % 4) // 3 for i, kv_len in enumerate(lens)], heads=(8, 4)))


def test_scores_that_rise_and_fall_along_the_cache():
    inputs = make((2000, 700), (900, 700), heads=(8, 8))
    cache, table = inputs["k_cache"], inputs["block_table"]
    for b, kv_len in enumerate(inputs["kv_lens"].tolist()):
        position = torch.arange(kv_len, device="cuda")
        height = 100 * torch.sin(torch.linspace(-1.5, 3, kv_len, device="cuda"))
        pages = table[b, position // 64].long()
        cache[pages, position % 64, :, -1] = height.to(cache.dtype)[:, None]
    # the scores of half the heads climb over 200 powers of two, those of the others sink first
    inputs["q"][:, ::2, -1], inputs["q"][:, 1::2, -1] = 10.0, -10.0
    check(inputs)


def test_a_query_of_nan_stays_with_its_token():
    inputs = make()
    poisoned = sum(Q_LENS) - 200
    q = inputs["q"].clone()
    q[poisoned] = torch.nan
    tensors = prefill_cases.with_outputs(inputs) | {"q": q}
    bind(tensors)()
    assert bool(tensors["out"][poisoned].isnan().all())
    out, lse = reference.grouped_prefill(**inputs, softmax_scale=SCALE)
    tensors["out"][poisoned], tensors["lse"][poisoned] = out[poisoned].bfloat16(), lse[poisoned].float()
    assert cases.mismatch(torch.bfloat16, tensors["out"], out, tensors["lse"], lse) == ""


def test_a_captured_graph_follows_lengths_table_and_cache():
    before = make((700, 64, 130), (300, 64, 10), seed=1)
    after = make((64, 700, 129), (10, 300, 64), seed=2)
    tensors = prefill_cases.with_outputs(before)
    launch = bind(tensors)
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    for name, tensor in before.items():
        tensor.copy_(after[name])
    prefill_cases.poison(tensors)
    graph.replay()
    check_outputs(after, tensors)


@pytest.mark.parametrize("use_tma", [0, 1])
def test_offsets_into_a_cache_beyond_32_bits(use_tma):
    inputs = make((64 * 20, 64 * 10), (700, 64))
    pages = (2**31 + 2**28) // (64 * 8 * 128) + 100
    used = inputs["k_cache"].shape[0]
    for name in ("k_cache", "v_cache"):
        cache = torch.full((pages, 64, 8, 128), torch.nan, dtype=torch.bfloat16, device="cuda")
        cache[-used:] = inputs[name]
        inputs[name] = cache
    inputs["block_table"].add_(pages - used)
    check(inputs, use_tma=use_tma)
