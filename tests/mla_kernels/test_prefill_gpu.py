"""The prefill kernels on a GPU at real sizes, and what a captured graph must survive."""

from importlib import import_module

import pytest
import torch

from mla_kernels import reference
from tests.mla_kernels import cases, prefill_cases, random_prefill
from tests.mla_kernels.test_gpu import HOPPER, SCALE, needs_hopper

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
PLAIN, GLUON = "grouped_prefill_triton", "grouped_prefill_gluon"
LENS = (0, 1, 63, 64, 65, 500, 1000, 4097)
Q_LENS = (0, 1, 63, 1, 65, 0, 700, 130)
"""Whole prompts, prefixes, and requests without a new token."""

on_both = pytest.mark.parametrize("kernel", [PLAIN, pytest.param(GLUON, marks=needs_hopper)])
dims_of_both = pytest.mark.parametrize("dims", [(128, 128), (192, 128), (64, 64)])


def make(kv_lens=LENS, q_lens=Q_LENS, heads=(32, 8), dims=(128, 128), page_size=64, dtype=torch.bfloat16, seed=0):
    return prefill_cases.grouped(kv_lens, q_lens, *heads, *dims, page_size, dtype, seed, "cuda")


def bind(tensors, kernel=PLAIN, **tunables):
    return import_module(f"mla_kernels.{kernel}").bind(**tensors, softmax_scale=SCALE, **tunables)


def check(inputs, kernel=PLAIN, **tunables):
    tensors = prefill_cases.with_outputs(inputs)
    bind(tensors, kernel, **tunables)()
    check_outputs(inputs, tensors)


def check_outputs(inputs, tensors, expected=None):
    """Rows past the last request's must be left as they were."""
    out, lse = expected or reference.grouped_prefill(**inputs, softmax_scale=SCALE)
    used = int(inputs["q_starts"][-1])
    assert bool(tensors["out"][used:].isnan().all() and tensors["lse"][used:].isnan().all())
    dtype = inputs["q"].dtype
    assert cases.mismatch(dtype, tensors["out"][:used], out[:used], tensors["lse"][:used], lse[:used]) == ""


@on_both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("heads", [(16, 16), (32, 8), (128, 1), (20, 4), (1, 1)])
@dims_of_both
def test_heads_and_dims(dims, heads, dtype, kernel):
    check(make(heads=heads, dims=dims, dtype=dtype), kernel)


@pytest.mark.parametrize("heads", [(16, 16), (32, 8)])
@dims_of_both
def test_float32(dims, heads):
    check(make(heads=heads, dims=dims, dtype=torch.float32))


@pytest.mark.parametrize("dims", [(16, 16), (80, 80), (112, 40), (192, 192), (256, 256)])
def test_other_head_dims(dims):
    check(make(heads=(16, 8), dims=dims))


@on_both
@dims_of_both
@pytest.mark.parametrize("page_size", [16, 32, 64, 128, 256, 384])
def test_page_sizes(page_size, dims, kernel):
    check(make((1000, 65, 3, 300, 128, 255), (700, 65, 3, 31, 128, 100), dims=dims, page_size=page_size), kernel)


@pytest.mark.parametrize("dims", [(128, 128), (192, 128)])
@pytest.mark.parametrize("page_size", [1, 24])
def test_other_page_sizes(page_size, dims):
    check(make((1000, 65, 3, 300), (700, 65, 3, 31), dims=dims, page_size=page_size))


@pytest.mark.parametrize("block_m", [16, 32, 64, 128])
@pytest.mark.parametrize("use_tma", [0, 1])
def test_tiles(block_m, use_tma):
    check(make(), block_m=block_m, use_tma=use_tma, num_warps=8 if block_m == 128 else 4)


@on_both
@pytest.mark.parametrize("q_len", [1, 2, 16, 64, 65, 127, 128, 129])
def test_few_queries_after_a_long_prefix(q_len, kernel):
    check(make((8192, 5000, 131), (q_len,) * 3), kernel)


@on_both
@pytest.mark.parametrize(
    ("heads", "dims"), [((16, 16), (128, 128)), ((16, 2), (128, 128)), ((16, 16), (192, 128)), ((16, 2), (64, 64))]
)
@pytest.mark.parametrize("lens", [(16384,), (2048,) * 4, (9000, 300, 4000)])
def test_whole_prompts(lens, heads, dims, kernel):
    check(make(lens, lens, heads, dims), kernel)


@on_both
def test_a_prompt_in_a_page_of_its_own(kernel):
    check(make((2048, 2048, 1500), (2048, 2048, 1500), page_size=2048), kernel)


@on_both
@dims_of_both
def test_more_queries_than_tokens(dims, kernel):
    check(make((2, 0, 300), (150, 300, 400), dims=dims), kernel)


@on_both
@pytest.mark.parametrize("batch", [32, 33, 200, 1200])
def test_many_requests(batch, kernel):
    lens = [(37 * i) % 301 for i in range(batch)]
    check(make(lens, [kv_len * (i % 4) // 3 for i, kv_len in enumerate(lens)], heads=(8, 4)), kernel)


@on_both
@dims_of_both
def test_rows_that_are_no_requests_are_left_alone(dims, kernel):
    inputs = make((130, 64), (130, 40), dims=dims)
    spare = torch.full_like(inputs["q"][:1], torch.nan).expand(200, -1, -1)
    check(inputs | {"q": torch.cat([inputs["q"], spare])}, kernel)


@on_both
def test_scores_that_rise_and_fall_along_the_cache(kernel):
    inputs = make((2000, 700), (900, 700), heads=(8, 8))
    cache, table = inputs["k_cache"], inputs["block_table"]
    for b, kv_len in enumerate(inputs["kv_lens"].tolist()):
        position = torch.arange(kv_len, device="cuda")
        height = 100 * torch.sin(torch.linspace(-1.5, 3, kv_len, device="cuda"))
        pages = table[b, position // 64].long()
        cache[pages, position % 64, :, -1] = height.to(cache.dtype)[:, None]
    # the scores of half the heads climb over 200 powers of two, those of the others sink first
    inputs["q"][:, ::2, -1], inputs["q"][:, 1::2, -1] = 10.0, -10.0
    check(inputs, kernel)


@on_both
def test_a_query_of_nan_stays_with_its_token(kernel):
    inputs = make()
    poisoned = sum(Q_LENS) - 200
    q = inputs["q"].clone()
    q[poisoned] = torch.nan
    tensors = prefill_cases.with_outputs(inputs) | {"q": q}
    bind(tensors, kernel)()
    assert bool(tensors["out"][poisoned].isnan().all())
    out, lse = reference.grouped_prefill(**inputs, softmax_scale=SCALE)
    tensors["out"][poisoned], tensors["lse"][poisoned] = out[poisoned].bfloat16(), lse[poisoned].float()
    check_outputs(inputs, tensors, (out, lse))


@on_both
def test_a_captured_graph_follows_lengths_table_and_cache(kernel):
    before = make((700, 64, 130), (300, 64, 10), seed=1)
    after = make((64, 700, 129), (10, 300, 64), seed=2)
    fewer = make((700, 3, 0), (250, 1, 0), seed=3)
    tensors = prefill_cases.with_outputs(before)
    launch = bind(tensors, kernel)
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    for other in (after, fewer):
        now = {name: fitted(tensor, before[name]) for name, tensor in other.items()}
        for name, tensor in now.items():
            tensors[name].copy_(tensor)
        prefill_cases.poison(tensors)
        graph.replay()
        check_outputs(now, tensors)


def fitted(tensor, like):
    """The tensor in the other's shape: room at the end holds NaN, or the id of no page."""
    if tensor.shape == like.shape:
        return tensor
    wide = torch.full_like(like, torch.nan if like.is_floating_point() else -1)
    wide[tuple(map(slice, tensor.shape))] = tensor
    return wide


@on_both
@dims_of_both
def test_calls_agree_to_the_bit(dims, kernel):
    tensors = prefill_cases.with_outputs(make((2000, 700, 65), (1300, 700, 65), dims=dims))
    launch = bind(tensors, kernel)
    launch()
    out, lse = tensors["out"].clone(), tensors["lse"].clone()
    for _ in range(50):
        prefill_cases.poison(tensors)
        launch()
        assert torch.equal(tensors["out"], out)
        assert torch.equal(tensors["lse"], lse)


@pytest.mark.parametrize(
    ("kernel", "tunables"),
    [
        (PLAIN, {"use_tma": 0}),
        (PLAIN, {"use_tma": 1}),
        pytest.param(GLUON, {}, marks=needs_hopper),
    ],
)
def test_offsets_into_a_cache_beyond_32_bits(kernel, tunables):
    inputs = make((64 * 20, 64 * 10), (700, 64))
    pages = (2**31 + 2**28) // (64 * 8 * 128) + 100
    used = inputs["k_cache"].shape[0]
    for name in ("k_cache", "v_cache"):
        cache = torch.full((pages, 64, 8, 128), torch.nan, dtype=torch.bfloat16, device="cuda")
        cache[-used:] = inputs[name]
        inputs[name] = cache
    inputs["block_table"].add_(pages - used)
    check(inputs, kernel, **tunables)


@on_both
@pytest.mark.parametrize("dims", [(128, 128), (192, 128)])
def test_offsets_into_queries_beyond_32_bits(dims, kernel):
    blind, seeing = 2**31 // (128 * 128), 200
    inputs = make((0, 300), (blind, seeing), heads=(128, 1), dims=dims)
    tensors = prefill_cases.with_outputs(inputs)
    bind(tensors, kernel)()
    assert not bool(tensors["out"][:blind].any())
    assert bool((tensors["lse"][:blind] == -torch.inf).all())
    last = {"q": inputs["q"][blind:], "q_starts": torch.tensor([0, seeing], dtype=torch.int32, device="cuda")}
    last |= {name: inputs[name][1:] for name in ("block_table", "kv_lens")}
    check_outputs(inputs | last, {name: tensors[name][blind:] for name in ("out", "lse")})


@pytest.mark.parametrize("shape", random_prefill.shapes(), ids=str)
def test_random_cases(shape):
    from mla_kernels import grouped_prefill, grouped_prefill_gluon

    for number, inputs in enumerate(random_prefill.batches(shape, "cuda")):
        expected = reference.grouped_prefill(**inputs, softmax_scale=SCALE)
        kernels = [PLAIN] if grouped_prefill_gluon.unsupported(inputs["q"], inputs["v_cache"]) else [PLAIN, GLUON]
        assert HOPPER or kernels == [PLAIN]
        for kernel in kernels:
            tensors = prefill_cases.with_outputs(inputs)
            bind(tensors, kernel)()
            assert wrong_requests(inputs, tensors, expected) == [], f"{kernel}, batch {number}"
        out, lse = grouped_prefill.grouped_prefill(**inputs, softmax_scale=SCALE)
        used = int(inputs["q_starts"][-1])
        assert cases.mismatch(out.dtype, out[:used], expected[0][:used], lse[:used], expected[1][:used]) == ""


def wrong_requests(inputs, tensors, expected) -> list[str]:
    """What is wrong with which request; each is held to the limits of a whole batch."""
    starts, lens = inputs["q_starts"].tolist(), inputs["kv_lens"].tolist()
    found = []
    for b, kv_len in enumerate(lens):
        rows = slice(starts[b], starts[b + 1])
        out, lse = (each[rows] for each in expected)
        wrong = cases.mismatch(inputs["q"].dtype, tensors["out"][rows], out, tensors["lse"][rows], lse)
        if wrong:
            found.append(f"request {b} of {len(lens)}, {rows.stop - rows.start} queries, kv_len {kv_len}: {wrong}")
    left = all(bool(tensors[name][starts[-1] :].isnan().all()) for name in ("out", "lse"))
    return found if left else [*found, "rows past the last request's were written"]
