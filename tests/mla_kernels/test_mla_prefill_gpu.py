"""The kernels of absorbed MLA prefill on a GPU at real sizes, and what a captured graph must survive."""

import random
from importlib import import_module

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
Q_LENS = (0, 1, 63, 1, 65, 0, 70, 130)
"""Whole prompts, prefixes, and requests without a new token."""

TRITON = "mla_prefill_triton"
on_every_kernel = pytest.mark.parametrize("kernel", [TRITON, "mla_prefill_gluon"])


def make(
    kv_lens=LENS, q_lens=Q_LENS, num_q_heads=16, kv_lora_rank=512, rope_dim=64, page_size=64, dtype=torch.bfloat16,
    seed=0,
):  # fmt: skip
    return prefill_cases.mla(
        kv_lens, q_lens, num_q_heads, kv_lora_rank, rope_dim, page_size, dtype, seed, device="cuda"
    )


def bind(kernel, tensors, **tunables):
    return import_module(f"mla_kernels.{kernel}").bind(**tensors, softmax_scale=SCALE, **tunables)


def check(kernel, tensors, **tunables):
    bind(kernel, tensors, **tunables)()
    check_outputs(tensors)


def expected(tensors):
    inputs = {name: tensor for name, tensor in tensors.items() if name not in ("out", "lse")}
    return reference.mla_absorbed_prefill(**inputs, kv_lora_rank=tensors["out"].shape[2], softmax_scale=SCALE)


def check_outputs(tensors):
    out, lse = expected(tensors)
    assert cases.mismatch(tensors["q"].dtype, tensors["out"], out, tensors["lse"], lse) == ""


@on_every_kernel
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("num_q_heads", [1, 16, 20, 64, 128])
def test_head_counts(num_q_heads, dtype, kernel):
    check(kernel, make(num_q_heads=num_q_heads, dtype=dtype))


@pytest.mark.parametrize("num_q_heads", [1, 16, 128])
def test_float32(num_q_heads):
    check(TRITON, make((300, 65, 0, 3), (20, 65, 0, 1), num_q_heads, dtype=torch.float32))


@pytest.mark.parametrize("ranks", [(512, 32), (256, 64), (256, 32), (128, 16)])
def test_other_ranks(ranks):
    check(TRITON, make((1000, 65, 3), (70, 65, 3), 20, *ranks))


@pytest.mark.parametrize("num_q_heads", [16, 128])
@pytest.mark.parametrize("page_size", [1, 24])
def test_page_sizes_of_no_block(page_size, num_q_heads):
    check(TRITON, make((1000, 65, 3, 300), (70, 65, 3, 31), num_q_heads, page_size=page_size))


@on_every_kernel
@pytest.mark.parametrize("num_q_heads", [16, 128])
@pytest.mark.parametrize("page_size", [16, 32, 64, 128, 192])
def test_page_sizes(page_size, num_q_heads, kernel):
    check(kernel, make((1000, 65, 3, 300, 192), (70, 65, 3, 31, 2), num_q_heads, page_size=page_size))


@pytest.mark.parametrize(("block_m", "num_stages"), [(16, 3), (32, 3), (64, 2)])
@pytest.mark.parametrize(("block_n", "use_tma"), [(64, 0), (64, 1), (32, 0), (32, 1), (16, 1)])
def test_tiles(block_m, num_stages, block_n, use_tma):
    check(TRITON, make(), block_m=block_m, num_stages=num_stages, block_n=block_n, use_tma=use_tma)


@on_every_kernel
@pytest.mark.parametrize("q_len", [1, 2, 16, 64])
def test_few_queries_after_a_long_prefix(q_len, kernel):
    check(kernel, make((8192, 5000, 131), (q_len,) * 3, 128))


@on_every_kernel
@pytest.mark.parametrize("lens", [(4096,), (1024,) * 4, (2500, 300, 1000)])
def test_whole_prompts(lens, kernel):
    check(kernel, make(lens, lens))


@on_every_kernel
def test_more_queries_than_tokens(kernel):
    check(kernel, make((2, 0, 300), (150, 3, 400)))


@on_every_kernel
def test_many_requests(kernel):
    lens = [(37 * i) % 301 for i in range(200)]
    check(kernel, make(lens, [kv_len * (i % 4) // 3 for i, kv_len in enumerate(lens)], 8))


@on_every_kernel
@pytest.mark.parametrize("seed", range(24))
def test_random_cases(seed, kernel):
    draw = random.Random(seed)
    lens = [min(3000, int(30 * draw.paretovariate(0.6))) * (draw.random() > 0.1) for _ in range(draw.randint(1, 40))]
    q_lens = [draw.choice((0, 1, min(kv_len, 128), draw.randint(0, min(kv_len + 2, 200)))) for kv_len in lens]
    num_q_heads = draw.choice((draw.randint(1, 128), 16, 128))
    page_size, dtype = draw.choice((16, 32, 64, 128)), draw.choice((torch.bfloat16, torch.float16))
    tensors = make(lens, q_lens, num_q_heads, page_size=page_size, dtype=dtype, seed=seed)
    tensors["q"] *= draw.choice((0.1, 1.0, 4.0))
    bind(kernel, tensors)()
    out, lse = expected(tensors)
    error = float((tensors["out"].double() - out).norm() / out.norm().clamp_min(1e-30))
    assert error <= cases.RELATIVE_ERROR_LIMITS[dtype]
    assert torch.equal(tensors["lse"].isinf(), lse.isinf())
    torch.testing.assert_close(tensors["lse"].double(), lse, rtol=1e-5, atol=1e-4)


@on_every_kernel
def test_scores_that_rise_and_fall_along_the_cache(kernel):
    tensors = make((2000, 700), (90, 700))
    for b, kv_len in enumerate(tensors["kv_lens"].tolist()):
        position = torch.arange(kv_len, device="cuda")
        height = 100 * torch.sin(torch.linspace(-1.5, 3, kv_len, device="cuda"))
        pages = tensors["block_table"][b, position // 64].long()
        tensors["kv_cache"][pages, position % 64, -1] = height.bfloat16()
    # the scores of half the heads climb over 200 powers of two, those of the others sink first
    tensors["q"][:, ::2, -1], tensors["q"][:, 1::2, -1] = 10.0, -10.0
    check(kernel, tensors)


@on_every_kernel
def test_a_query_of_nan_stays_with_its_token(kernel):
    tensors = make()
    out, lse = expected(tensors)
    poisoned = sum(Q_LENS) - 100
    tensors["q"][poisoned] = torch.nan
    bind(kernel, tensors)()
    assert bool(tensors["out"][poisoned].isnan().all())
    tensors["out"][poisoned], tensors["lse"][poisoned] = out[poisoned].bfloat16(), lse[poisoned].float()
    assert cases.mismatch(torch.bfloat16, tensors["out"], out, tensors["lse"], lse) == ""


@on_every_kernel
def test_rows_past_the_last_request_are_left_alone(kernel):
    tensors = make((300, 65), (20, 65))
    tensors["q_starts"][-1] -= 7
    bind(kernel, tensors)()
    assert prefill_cases.mismatch(tensors, SCALE) == ""


@on_every_kernel
def test_a_captured_graph_follows_lengths_table_starts_and_cache(kernel):
    tensors = make((700, 64, 130), (300, 64, 10), seed=1)
    after = make((64, 700, 129), (10, 300, 64), seed=2)
    launch = bind(kernel, tensors)
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    for name, tensor in tensors.items():
        tensor.copy_(after[name])
    graph.replay()
    check_outputs(tensors)


@on_every_kernel
def test_offsets_into_a_cache_beyond_32_bits(kernel):
    check(kernel, far_away(make((64 * 20, 64 * 10), (70, 64))))


@pytest.mark.parametrize("page_size", [24, 64])
def test_offsets_beyond_32_bits_without_tma(page_size):
    check(TRITON, far_away(make((64 * 20, 64 * 10), (70, 64), page_size=page_size)), use_tma=0)


@on_every_kernel
def test_offsets_into_queries_and_outputs_beyond_32_bits(kernel):
    tensors = make((40, 3), (40, 3), 128)
    rows = 2**31 // (128 * 512) + 40
    for name in ("q", "out", "lse"):
        tensors[name] = torch.full((rows, *tensors[name].shape[1:]), torch.nan, device="cuda").to(tensors[name].dtype)
    # the first request has no token, and so many queries that the second one's lie behind 2**31 numbers
    tensors["kv_lens"][0] = 0
    tensors["q_starts"][1:] = torch.tensor([rows - 3, rows])
    tensors["q"][rows - 3 :] = torch.randn(3, 128, 576, device="cuda").bfloat16()
    bind(kernel, tensors)()
    assert not bool(tensors["out"][: rows - 3].any())
    assert bool((tensors["lse"][: rows - 3] == -torch.inf).all())
    last = tensors | {name: tensors[name][rows - 3 :] for name in ("q", "out", "lse")}
    last |= {name: tensors[name][1:] for name in ("kv_lens", "block_table")}
    check_outputs(last | {"q_starts": tensors["q_starts"][1:] - (rows - 3)})


def far_away(tensors):
    """The tensors with their pages at the end of a cache of more than 2**31 numbers."""
    cache = tensors["kv_cache"]
    pages = (2**31 + 2**28) // cache[0].numel() + 100
    large = torch.full((pages, *cache.shape[1:]), torch.nan, dtype=cache.dtype, device="cuda")
    large[-len(cache) :] = cache
    tensors["block_table"].add_(pages - len(cache))
    return tensors | {"kv_cache": large}
