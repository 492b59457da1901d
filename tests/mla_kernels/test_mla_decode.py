"""Which kernel MLA decode takes and what it is bound with, on GPUs that are not there; and how work is divided."""

from importlib.util import find_spec

import pytest
import torch

from tests.mla_kernels import random_cases
from tests.mla_kernels.assumed import gpu

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

FEW, MANY, PLAIN = "mla_decode_gluon_few_rows", "mla_decode_gluon", "mla_decode_triton"


def tensors(
    batch=8, q_len=1, num_q_heads=16, page_size=64, dtype=torch.bfloat16, kv_lora_rank=512, rope_dim=64, max_pages=64
):
    """Tensors without storage, to be made within `gpu`."""
    kv_dim = kv_lora_rank + rope_dim
    rows = batch, q_len, num_q_heads
    return {
        "q": torch.empty(*rows, kv_dim, dtype=dtype, device="cuda"),
        "kv_cache": torch.empty(batch * max_pages, page_size, kv_dim, dtype=dtype, device="cuda"),
        "block_table": torch.empty(batch, max_pages, dtype=torch.int32, device="cuda"),
        "kv_lens": torch.empty(batch, dtype=torch.int32, device="cuda"),
        "out": torch.empty(*rows, kv_lora_rank, dtype=dtype, device="cuda"),
        "lse": torch.empty(rows, device="cuda"),
    }


def bind(module="mla_decode", **options):
    from importlib import import_module

    sizes = {name: options.pop(name) for name in tuple(options) if name not in ("batch_invariant", "num_splits")}
    return import_module(f"mla_kernels.{module}").bind(**tensors(**sizes), softmax_scale=1.0, **options)


@pytest.mark.parametrize(
    ("sizes", "kernel"),
    [
        ({}, FEW),
        ({"num_q_heads": 8, "q_len": 2}, FEW),
        ({"num_q_heads": 1, "page_size": 128, "dtype": torch.float16}, FEW),
        ({"num_q_heads": 17}, MANY),
        ({"q_len": 2}, MANY),
        ({"num_q_heads": 128, "q_len": 8, "page_size": 192}, MANY),
        ({"page_size": 32}, FEW),
        ({"page_size": 16}, FEW),
        ({"num_q_heads": 128, "page_size": 16}, MANY),
        ({"num_q_heads": 128, "page_size": 96}, PLAIN),
        ({"page_size": 1}, PLAIN),
        ({"dtype": torch.float32}, PLAIN),
        ({"kv_lora_rank": 256}, PLAIN),
        ({"rope_dim": 32}, PLAIN),
    ],
)
@pytest.mark.parametrize("batch", [1, 200])
def test_the_shape_picks_the_kernel_and_the_launch_says_which(sizes, kernel, batch):
    with gpu():
        assert bind(batch=batch, max_pages=2000, **sizes).config["kernel"] == kernel


@pytest.mark.parametrize(
    ("sizes", "short"),
    [
        # 264 blocks for each of 4 row tiles: 8 on each of 132 SMs
        ({"num_q_heads": 64, "batch": 1, "max_pages": 264}, True),
        ({"num_q_heads": 64, "batch": 1, "max_pages": 265}, False),
        ({"num_q_heads": 16, "q_len": 4, "batch": 8, "page_size": 128, "max_pages": 16}, True),
        ({"num_q_heads": 49, "batch": 33, "max_pages": 8}, True),
        ({"num_q_heads": 65, "batch": 33, "max_pages": 8}, False),
    ],
)
def test_short_batches_take_small_row_tiles(sizes, short):
    with gpu():
        launch = bind(**sizes)
        assert launch.config["kernel"] == (FEW if short else MANY)
        assert launch.config["num_splits"] * -(-sizes["num_q_heads"] * sizes.get("q_len", 1) // 16) <= 132 or not short
        assert bind(**sizes, batch_invariant=True).config["kernel"] == MANY


@pytest.mark.parametrize("arch", ["sm_80", "sm_100"])
@pytest.mark.parametrize("num_q_heads", [16, 128])
def test_other_gpus_get_the_plain_kernel(arch, num_q_heads):
    with gpu(arch):
        assert bind(num_q_heads=num_q_heads).config["kernel"] == PLAIN


@pytest.mark.parametrize("batch", [1, 3, 200])
@pytest.mark.parametrize(("num_q_heads", "page_size"), [(16, 64), (128, 64), (128, 16)])
def test_batch_invariance_splits_nothing_and_needs_no_memory(num_q_heads, page_size, batch):
    sizes = {"num_q_heads": num_q_heads, "page_size": page_size, "batch": batch}
    with gpu():
        launch = bind(**sizes, batch_invariant=True)
        assert (launch.config["num_splits"], launch.workspace_bytes) == (1, 0)


@pytest.mark.parametrize("kernel", [FEW, MANY])
@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"dtype": torch.float32}, "q is torch.float32; float16 and bfloat16 are supported"),
        ({"kv_lora_rank": 256}, "kv_lora_rank 256 with qk_rope_head_dim 64; 512 with 64 is supported"),
        ({"rope_dim": 32}, "kv_lora_rank 512 with qk_rope_head_dim 32; 512 with 64 is supported"),
        ({"page_size": 8}, "page_size 8; 16, 32 and multiples of 64"),
        ({"page_size": 96}, "page_size 96; 16, 32 and multiples of 64"),
    ],
)
def test_shapes_beyond_the_gluon_kernels_are_unsupported(kernel, sizes, reason):
    with gpu(), pytest.raises(NotImplementedError, match=reason):
        bind(kernel, **sizes)


@pytest.mark.parametrize("kernel", [FEW, MANY])
@pytest.mark.parametrize("arch", ["sm_80", "sm_100"])
def test_other_gpus_are_unsupported(kernel, arch):
    with gpu(arch), pytest.raises(NotImplementedError, match=r"needs a GPU of compute capability 9\.0"):
        bind(kernel)


@pytest.mark.parametrize("kernel", [FEW, MANY])
def test_tensors_that_contradict_are_refused(kernel):
    from importlib import import_module

    module = import_module(f"mla_kernels.{kernel}")
    with gpu():
        for name, tensor, reason in (
            ("kv_lens", torch.empty(9, dtype=torch.int32, device="cuda"), "kv_lens has shape"),
            ("block_table", torch.empty(8, 64, dtype=torch.int64, device="cuda"), "block_table is torch.int64"),
            ("out", torch.empty(8, 1, 16, 512, device="cuda"), "out is torch.float32, expected torch.bfloat16"),
            ("q", torch.empty(8, 1, 576, 16, dtype=torch.bfloat16, device="cuda").mT, "contiguous"),
        ):
            with pytest.raises(ValueError, match=reason):
                module.bind(**tensors() | {name: tensor}, softmax_scale=1.0)


def test_the_table_bounds_the_parts():
    with gpu():
        assert bind(batch=1, max_pages=5).config["num_splits"] == 5
        assert bind(batch=1, max_pages=5, page_size=32, num_q_heads=64).config["num_splits"] == 3


def test_random_cases_reach_every_kernel():
    picked = []
    with gpu():
        for shape in random_cases.shapes():
            for lens in random_cases.lengths(shape):
                launch = bind(
                    batch=len(lens), q_len=shape.q_len, num_q_heads=shape.num_q_heads, dtype=shape.dtype,
                    page_size=shape.page_size, kv_lora_rank=shape.kv_lora_rank, rope_dim=shape.rope_dim,
                    max_pages=max(1, -(-max(lens) // shape.page_size)), batch_invariant=shape.batch_invariant,
                )  # fmt: skip
                picked.append((launch.config["kernel"], shape.q_len * shape.num_q_heads <= 16))
    assert min(picked.count(kernel) for kernel in ((FEW, True), (MANY, False), (PLAIN, False))) >= 50
    assert picked.count((FEW, False)) >= 10
