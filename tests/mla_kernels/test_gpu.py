"""The kernels on a GPU at real sizes, and what a captured graph must survive."""

import pytest
import torch

from mla_kernels import reference
from tests.mla_kernels import cases

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
DTYPES = [torch.bfloat16, torch.float16]
SCALE = 192**-0.5
RAGGED = (0, 1, 63, 64, 65, 1000, 4097, 8192)


def check_mla(inputs, **tunables):
    from mla_kernels import mla_decode_triton

    tensors = cases.with_outputs(inputs, 512)
    mla_decode_triton.bind(**tensors, softmax_scale=SCALE, **tunables)()
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


@pytest.mark.parametrize("num_splits", [None, 1])
@pytest.mark.parametrize(("num_q_heads", "q_len"), [(1, 1), (16, 1), (16, 2), (20, 3), (64, 1), (128, 1), (128, 2)])
def test_mla(num_q_heads, q_len, num_splits):
    check_mla(mla_inputs(RAGGED, q_len, num_q_heads), num_splits=num_splits)


@pytest.mark.parametrize("num_q_heads", [16, 128])
def test_mla_float16(num_q_heads):
    check_mla(mla_inputs(RAGGED, num_q_heads=num_q_heads, dtype=torch.float16))


@pytest.mark.parametrize("num_q_heads", [16, 128])
@pytest.mark.parametrize("page_size", [1, 16, 24, 32, 128])
def test_mla_page_sizes(page_size, num_q_heads):
    check_mla(mla_inputs((1000, 65, 3), 2, num_q_heads, page_size))


@pytest.mark.parametrize("num_q_heads", [16, 128])
@pytest.mark.parametrize("lens", [(131072,), (8192,) * 8, (4096,) * 32])
def test_mla_real_batches(lens, num_q_heads):
    check_mla(mla_inputs(lens, num_q_heads=num_q_heads))


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


@pytest.mark.parametrize("kind", ["mla", "grouped"])
@pytest.mark.parametrize("num_splits", [None, 1])
def test_a_captured_graph_follows_lengths_table_and_cache(kind, num_splits):
    from mla_kernels import grouped_decode_triton, mla_decode_triton

    make, module, v_dim = {
        "mla": (mla_inputs, mla_decode_triton, 512),
        "grouped": (grouped_inputs, grouped_decode_triton, 128),
    }[kind]
    before, after = make((700, 64, 130), 2, seed=1), make((64, 700, 129), 2, seed=2)
    tensors = cases.with_outputs(before, v_dim)
    launch = module.bind(**tensors, softmax_scale=SCALE, num_splits=num_splits)
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    for name, tensor in before.items():
        tensor.copy_(after[name])
    tensors["out"].fill_(torch.nan)
    tensors["lse"].fill_(torch.nan)
    graph.replay()
    if kind == "mla":
        expected = reference.mla_absorbed_decode(**after, kv_lora_rank=512, softmax_scale=SCALE)
    else:
        expected = reference.grouped_decode(**after, softmax_scale=SCALE)
    assert cases.mismatch(torch.bfloat16, tensors["out"], expected[0], tensors["lse"], expected[1]) == ""


def test_offsets_into_a_cache_beyond_32_bits():
    inputs = mla_inputs((64 * 40, 64 * 30))
    pages = (2**31 + 2**28) // (64 * 576) + 100
    cache = torch.full((pages, 64, 576), torch.nan, dtype=torch.bfloat16, device="cuda")
    used = inputs["kv_cache"].shape[0]
    cache[-used:] = inputs["kv_cache"]
    inputs["block_table"].add_(pages - used)
    check_mla(inputs | {"kv_cache": cache})
    check_mla(inputs | {"kv_cache": cache}, use_tma=0)


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
