"""The kernels on a GPU at real sizes, and what a captured graph must survive."""

from functools import partial
from importlib import import_module

import pytest
import torch

from mla_kernels import reference
from mla_kernels.paged_torch import find_tokens
from tests.mla_kernels import cases

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
DTYPES = [torch.bfloat16, torch.float16]
SCALE = 192**-0.5
RAGGED = (0, 1, 63, 64, 65, 1000, 4097, 8192)
HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
needs_hopper = pytest.mark.skipif(not HOPPER, reason="needs compute capability 9.0")
TRITON = "mla_decode_triton"
KERNELS = (TRITON, "mla_decode_gluon", "mla_decode_gluon_few_rows")


def on_mla_kernels(*shapes, kernels=KERNELS):
    """Each num_q_heads and q_len with each kernel."""
    rows = [
        pytest.param(num_q_heads, q_len, kernel, marks=[] if kernel == TRITON else needs_hopper)
        for num_q_heads, q_len in shapes
        for kernel in kernels
    ]
    return pytest.mark.parametrize(("num_q_heads", "q_len", "kernel"), rows)


def check_mla(inputs, kernel=TRITON, **tunables):
    tensors = cases.with_outputs(inputs, 512)
    import_module(f"mla_kernels.{kernel}").bind(**tensors, softmax_scale=SCALE, **tunables)()
    check_mla_outputs(inputs, tensors)


def check_mla_outputs(inputs, tensors):
    expected = reference.mla_absorbed_decode(**inputs, kv_lora_rank=512, softmax_scale=SCALE)
    assert cases.mismatch(inputs["q"].dtype, tensors["out"], expected[0], tensors["lse"], expected[1]) == ""


def check_grouped(inputs, **tunables):
    from mla_kernels import grouped_decode_triton

    tensors = cases.with_outputs(inputs, inputs["v_cache"].shape[3])
    grouped_decode_triton.bind(**tensors, softmax_scale=SCALE, **tunables)()
    expected = reference.grouped_decode(**inputs, softmax_scale=SCALE)
    assert cases.mismatch(inputs["q"].dtype, tensors["out"], expected[0], tensors["lse"], expected[1]) == ""


def mla_inputs(lens, q_len=1, num_q_heads=16, page_size=64, dtype=torch.bfloat16, seed=0):
    return cases.mla(lens, q_len, num_q_heads, 512, 64, page_size, dtype, seed, "cuda")


def grouped_inputs(lens, q_len=1, heads=(32, 8), dims=(128, 128), page_size=64, dtype=torch.bfloat16, seed=0):
    return cases.grouped(lens, q_len, *heads, *dims, page_size, dtype, seed, "cuda")


@pytest.mark.parametrize("num_splits", [None, 1, 3])
@on_mla_kernels((1, 1), (16, 1), (20, 1), (16, 2), (4, 8), (20, 3), (64, 1), (128, 1), (128, 2))
def test_mla(num_q_heads, q_len, num_splits, kernel):
    check_mla(mla_inputs(RAGGED, q_len, num_q_heads), kernel, num_splits=num_splits)


@on_mla_kernels((16, 1), (32, 1), (128, 1))
def test_mla_float16(num_q_heads, q_len, kernel):
    check_mla(mla_inputs(RAGGED, q_len, num_q_heads, dtype=torch.float16), kernel)


@pytest.mark.parametrize("num_q_heads", [16, 128])
@pytest.mark.parametrize("page_size", [1, 16, 24, 32, 128])
def test_mla_page_sizes(page_size, num_q_heads):
    check_mla(mla_inputs((1000, 65, 3), 2, num_q_heads, page_size))


@pytest.mark.parametrize("page_size", [128, 192])
@on_mla_kernels((16, 2), (128, 2), kernels=("mla_decode_gluon", "mla_decode_gluon_few_rows"))
def test_mla_page_sizes_of_whole_blocks(num_q_heads, q_len, page_size, kernel):
    check_mla(mla_inputs((1000, 65, 3, 64), q_len, num_q_heads, page_size), kernel)


@pytest.mark.parametrize("page_size", [16, 32])
@pytest.mark.parametrize("num_splits", [None, 1])
@on_mla_kernels((16, 2), (20, 3), (128, 1), kernels=("mla_decode_gluon", "mla_decode_gluon_few_rows"))
def test_mla_blocks_of_several_pages(num_q_heads, q_len, num_splits, page_size, kernel):
    inputs = mla_inputs((1000, 65, 3, 0, 16, 17, 32, 33, 64), q_len, num_q_heads, page_size)
    check_mla(inputs, kernel, num_splits=num_splits)


@pytest.mark.parametrize("lens", [(131072,), (200000, 3), (8192,) * 8, (4096,) * 32])
@on_mla_kernels((16, 1), (128, 1))
def test_mla_real_batches(lens, num_q_heads, q_len, kernel):
    check_mla(mla_inputs(lens, q_len, num_q_heads), kernel)


@on_mla_kernels((16, 1), (32, 1), (64, 1))
def test_mla_scores_that_rise_and_fall_along_the_cache(num_q_heads, q_len, kernel):
    inputs = mla_inputs((4097, 1000, 65), q_len, num_q_heads)
    for b, kv_len in enumerate(inputs["kv_lens"].tolist()):
        tokens = find_tokens(inputs["block_table"][b : b + 1], inputs["kv_lens"][b : b + 1], 1, 64)
        height = 100 * torch.sin(torch.linspace(-1.5, 3, kv_len, device="cuda"))
        inputs["kv_cache"].view(-1, 576)[tokens.slots[0], 575] = height.to(torch.bfloat16)
    # the scores of half the heads climb over 200 powers of two, those of the others sink first
    inputs["q"][..., ::2, 575], inputs["q"][..., 1::2, 575] = 10.0, -10.0
    check_mla(inputs, kernel)
    check_mla(inputs, kernel, num_splits=1)


@on_mla_kernels((20, 1), (64, 1))
def test_a_query_of_nan_stays_with_its_request(num_q_heads, q_len, kernel):
    inputs = mla_inputs(RAGGED, q_len, num_q_heads)
    tensors = cases.with_outputs(inputs, 512)
    poisoned = RAGGED.index(64)
    tensors["q"] = inputs["q"].index_fill(0, torch.tensor([poisoned], device="cuda"), torch.nan)
    import_module(f"mla_kernels.{kernel}").bind(**tensors, softmax_scale=SCALE)()
    assert bool(tensors["out"][poisoned].isnan().all())
    others = [b for b in range(len(RAGGED)) if b != poisoned]
    for each in (inputs, tensors):
        each.update({name: each[name][others] for name in each.keys() - {"kv_cache"}})
    check_mla_outputs(inputs, tensors)


@pytest.mark.parametrize("num_splits", [None, 1])
@pytest.mark.parametrize(("heads", "q_len"), [((16, 16), 1), ((32, 8), 2), ((128, 8), 1), ((128, 1), 1), ((128, 1), 3)])
def test_grouped(heads, q_len, num_splits):
    check_grouped(grouped_inputs(RAGGED, q_len, heads), num_splits=num_splits)


@pytest.mark.parametrize("heads", [(32, 8), (128, 1)])
@pytest.mark.parametrize("dims", [(64, 64), (256, 256), (192, 128), (80, 80), (112, 96)])
def test_grouped_head_dims(dims, heads):
    check_grouped(grouped_inputs(RAGGED, 1, heads, dims))


@pytest.mark.parametrize("heads", [(32, 8), (128, 1)])
def test_grouped_float16(heads):
    check_grouped(grouped_inputs(RAGGED, 1, heads, dtype=torch.float16))


@pytest.mark.parametrize("page_size", [1, 16, 24, 32, 128])
def test_grouped_page_sizes(page_size):
    check_grouped(grouped_inputs((1000, 65, 3), 2, page_size=page_size))


def captured(launch):
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    return graph


def replay(graph, tensors):
    tensors["out"].fill_(torch.nan)
    tensors["lse"].fill_(torch.nan)
    graph.replay()


def check_graph(bind, make, v_dim, expect, num_splits):
    """Capture a call, change all that may change, and replay it."""
    before, after = make((700, 64, 130), seed=1), make((64, 700, 129), seed=2)
    tensors = cases.with_outputs(before, v_dim)
    graph = captured(bind(**tensors, softmax_scale=SCALE, num_splits=num_splits))
    for name, tensor in before.items():
        tensor.copy_(after[name])
    replay(graph, tensors)
    expected = expect(**after, softmax_scale=SCALE)
    assert cases.mismatch(torch.bfloat16, tensors["out"], expected[0], tensors["lse"], expected[1]) == ""


@pytest.mark.parametrize("num_splits", [None, 1])
@on_mla_kernels((16, 2), (128, 1))
def test_a_captured_graph_follows_lengths_table_and_cache(num_q_heads, q_len, num_splits, kernel):
    bind = import_module(f"mla_kernels.{kernel}").bind
    make = partial(mla_inputs, q_len=q_len, num_q_heads=num_q_heads)
    check_graph(bind, make, 512, partial(reference.mla_absorbed_decode, kv_lora_rank=512), num_splits)


@pytest.mark.parametrize("num_splits", [None, 1])
def test_a_captured_graph_of_grouped_attention_follows_them(num_splits):
    from mla_kernels.grouped_decode_triton import bind

    check_graph(bind, partial(grouped_inputs, q_len=2), 128, reference.grouped_decode, num_splits)


@on_mla_kernels((16, 1), (128, 1))
def test_a_captured_graph_that_cut_no_request_cuts_when_lengths_differ(num_q_heads, q_len, kernel):
    inputs = mla_inputs((640,) * 4, q_len, num_q_heads)
    tensors = cases.with_outputs(inputs, 512)
    graph = captured(import_module(f"mla_kernels.{kernel}").bind(**tensors, softmax_scale=SCALE, num_splits=2))
    for lens in ((640, 640, 640, 1), (0, 0, 0, 0), (1, 0, 0, 640), (640,) * 4):
        inputs["kv_lens"].copy_(torch.tensor(lens))
        replay(graph, tensors)
        check_mla_outputs(inputs, tensors)


@pytest.mark.parametrize(
    ("kernel", "page_size", "tunables"),
    [
        (TRITON, 64, {}),
        (TRITON, 64, {"use_tma": 0}),
        pytest.param("mla_decode_gluon", 64, {}, marks=needs_hopper),
        pytest.param("mla_decode_gluon", 16, {}, marks=needs_hopper),
        pytest.param("mla_decode_gluon_few_rows", 64, {}, marks=needs_hopper),
    ],
)
def test_offsets_into_a_cache_beyond_32_bits(kernel, page_size, tunables):
    inputs = mla_inputs((64 * 40, 64 * 30), page_size=page_size)
    pages = (2**31 + 2**28) // (page_size * 576) + 100
    cache = torch.full((pages, page_size, 576), torch.nan, dtype=torch.bfloat16, device="cuda")
    used = inputs["kv_cache"].shape[0]
    cache[-used:] = inputs["kv_cache"]
    inputs["block_table"].add_(pages - used)
    check_mla(inputs | {"kv_cache": cache}, kernel, **tunables)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_torch_kernels(dtype):
    from mla_kernels import grouped_decode_torch, mla_decode_torch, mla_recompute_decode_torch

    lens = (0, 1, 65, 1000)
    inputs = mla_inputs(lens, 2, dtype=dtype)
    tensors = cases.with_outputs(inputs, 512)
    mla_decode_torch.bind(**tensors, softmax_scale=SCALE)()
    expected = reference.mla_absorbed_decode(**inputs, kv_lora_rank=512, softmax_scale=SCALE)
    assert cases.mismatch(dtype, tensors["out"], expected[0], None, expected[1]) == ""

    inputs = grouped_inputs(lens, 2, dtype=dtype)
    tensors = cases.with_outputs(inputs, 128)
    grouped_decode_torch.bind(**tensors, softmax_scale=SCALE)()
    expected = reference.grouped_decode(**inputs, softmax_scale=SCALE)
    assert cases.mismatch(dtype, tensors["out"], expected[0], None, expected[1]) == ""

    inputs = cases.recompute(lens, 2, 16, 512, 128, 64, 128, 64, dtype, 0, "cuda")
    tensors = cases.with_outputs(inputs, 128)
    mla_recompute_decode_torch.bind(**tensors, softmax_scale=SCALE)()
    expected = reference.mla_recompute_decode(**inputs, v_head_dim=128, softmax_scale=SCALE)
    assert cases.mismatch(dtype, tensors["out"], expected[0], None, expected[1]) == ""
