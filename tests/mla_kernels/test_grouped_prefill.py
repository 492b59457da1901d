"""Which kernel grouped prefill takes and what it is bound with, on GPUs that are not there."""

from importlib import import_module
from importlib.util import find_spec

import pytest
import torch

from tests.mla_kernels import random_prefill
from tests.mla_kernels.assumed import gpu

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

GLUON, PLAIN = "grouped_prefill_gluon", "grouped_prefill_triton"


def tensors(
    total_q=4096, batch=2, num_q_heads=8, num_kv_heads=2, qk_dim=128, v_dim=128, page_size=64, dtype=torch.bfloat16
):
    """Tensors without storage, to be made within `gpu`."""
    caches = 100, page_size, num_kv_heads
    return {
        "q": torch.empty(total_q, num_q_heads, qk_dim, dtype=dtype, device="cuda"),
        "k_cache": torch.empty(*caches, qk_dim, dtype=dtype, device="cuda"),
        "v_cache": torch.empty(*caches, v_dim, dtype=dtype, device="cuda"),
        "block_table": torch.empty(batch, 50, dtype=torch.int32, device="cuda"),
        "kv_lens": torch.empty(batch, dtype=torch.int32, device="cuda"),
        "q_starts": torch.empty(batch + 1, dtype=torch.int32, device="cuda"),
        "out": torch.empty(total_q, num_q_heads, v_dim, dtype=dtype, device="cuda"),
        "lse": torch.empty(total_q, num_q_heads, device="cuda"),
    }


def bind(module="grouped_prefill", softmax_scale=1.0, **sizes):
    return import_module(f"mla_kernels.{module}").bind(**tensors(**sizes), softmax_scale=softmax_scale)


@pytest.mark.parametrize(
    ("sizes", "kernel"),
    [
        ({}, GLUON),
        ({"num_kv_heads": 8, "dtype": torch.float16}, GLUON),
        ({"num_kv_heads": 1, "page_size": 16}, GLUON),
        ({"page_size": 32}, GLUON),
        ({"page_size": 384}, GLUON),
        ({"qk_dim": 192, "page_size": 16384}, GLUON),
        ({"qk_dim": 64, "v_dim": 64}, GLUON),
        ({"page_size": 1}, PLAIN),
        ({"page_size": 192}, PLAIN),
        ({"dtype": torch.float32}, PLAIN),
        ({"qk_dim": 96, "v_dim": 96}, PLAIN),
        ({"qk_dim": 192, "v_dim": 192}, PLAIN),
        ({"qk_dim": 128, "v_dim": 64}, PLAIN),
        ({"total_q": 129}, GLUON),
        ({"total_q": 128}, PLAIN),  # 64 queries of each request: half of a program's rows
        ({"total_q": 4096, "batch": 64}, PLAIN),
        ({"total_q": 4097, "batch": 64}, GLUON),
        ({"total_q": 0}, PLAIN),
    ],
    ids=str,
)
def test_the_shape_picks_the_kernel_and_the_launch_says_which(sizes, kernel):
    with gpu():
        launch = bind(**sizes)
    assert launch.config["kernel"] == kernel
    assert launch.workspace_bytes == 0


@pytest.mark.parametrize("arch", ["sm_80", "sm_100"])
def test_other_gpus_get_the_plain_kernel(arch):
    with gpu(arch):
        assert bind().config["kernel"] == PLAIN
        with pytest.raises(NotImplementedError, match=r"needs a GPU of compute capability 9\.0"):
            bind(GLUON)


@pytest.mark.parametrize("module", ["grouped_prefill", GLUON])
def test_the_launch_says_its_tile_and_starts_the_kernel(module):
    with gpu() as launched:
        launch = bind(module, qk_dim=192)
        launch()
    assert {name: launch.config[name] for name in ("block_m", "block_n", "num_stages")} == {
        "block_m": 128,
        "block_n": 128,
        "num_stages": 2,
    }
    assert [each.function for each in launched] == ["grouped_prefill_gluon_kernel"]


def test_without_queries_nothing_is_launched():
    with gpu() as launched:
        bind(GLUON, total_q=0)()
    assert launched == []


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"dtype": torch.float32}, "q is torch.float32; float16 and bfloat16 are supported"),
        ({"dtype": torch.float64}, "q is torch.float64; float16, bfloat16 and float32 are supported"),
        ({"page_size": 8}, "page_size 8; 16, 32, 64 and multiples of 128 are supported"),
        ({"page_size": 192}, "page_size 192; 16, 32, 64 and multiples of 128 are supported"),
        ({"qk_dim": 192, "v_dim": 192}, "qk_dim 192 with v_dim 192; 64 with 64, 128 with 128, 192 with 128 are"),
        ({"qk_dim": 8}, "qk_dim is 8; 16 to 256 are supported"),
        ({"softmax_scale": 0.0}, "softmax_scale is 0.0; numbers above 0 are supported"),
        ({"softmax_scale": float("nan")}, "softmax_scale is nan"),
    ],
    ids=str,
)
def test_shapes_beyond_the_gluon_kernel_are_unsupported(sizes, reason):
    with gpu(), pytest.raises(NotImplementedError, match=reason):
        bind(GLUON, **sizes)


@pytest.mark.parametrize("module", ["grouped_prefill", GLUON])
@pytest.mark.parametrize(
    ("name", "shape", "dtype", "reason"),
    [
        ("q_starts", (2,), torch.int32, "q_starts has shape"),
        ("q_starts", (3,), torch.int64, "q_starts is torch.int64"),
        ("block_table", (1, 50), torch.int32, "block_table has shape"),
        ("kv_lens", (3,), torch.int32, "q_starts has shape|block_table has shape"),
        ("v_cache", (99, 64, 2, 128), torch.bfloat16, "v_cache has shape"),
        ("k_cache", (100, 64, 2, 128), torch.float16, "k_cache is torch.float16, expected torch.bfloat16"),
        ("lse", (4096, 8), torch.bfloat16, "lse is torch.bfloat16"),
        ("out", (4096, 9, 128), torch.bfloat16, "out has shape"),
    ],
    ids=str,
)
def test_tensors_that_contradict_are_refused(module, name, shape, dtype, reason):
    bind_it = import_module(f"mla_kernels.{module}").bind
    with gpu(), pytest.raises(ValueError, match=reason):
        bind_it(**tensors() | {name: torch.empty(shape, dtype=dtype, device="cuda")}, softmax_scale=1.0)


def test_query_heads_that_kv_heads_do_not_divide_are_refused():
    with gpu(), pytest.raises(ValueError, match="num_q_heads 7 is not a multiple of num_kv_heads 2"):
        bind(GLUON, num_q_heads=7)


def test_what_is_not_contiguous_is_refused():
    with gpu(), pytest.raises(ValueError, match="q must be contiguous"):
        q = torch.empty(8, 4096, 128, dtype=torch.bfloat16, device="cuda").transpose(0, 1)
        import_module(f"mla_kernels.{GLUON}").bind(**tensors() | {"q": q}, softmax_scale=1.0)


def programs(monkeypatch, **sizes) -> tuple[int, tuple, dict]:
    """How many programs the Gluon kernel is started with, and its arguments, run-time and compile-time."""
    from unittest.mock import MagicMock

    from mla_kernels import grouped_prefill_gluon as module

    monkeypatch.setattr(module, "grouped_prefill_gluon_kernel", kernel := MagicMock())
    with gpu():
        module.bind(**tensors(**sizes), softmax_scale=1.0)()
    call = kernel.__getitem__.return_value.call_args
    return *kernel.__getitem__.call_args.args[0], call.args, call.kwargs


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ({}, 132),
        ({"total_q": 256, "batch": 1}, (2 + 1) * 8),
        ({"total_q": 300, "batch": 3, "num_q_heads": 2}, (2 + 3) * 2),
        ({"total_q": 5, "batch": 200, "num_q_heads": 4}, 5 * 4),  # five requests have a query at most
    ],
    ids=str,
)
def test_programs_are_as_many_as_tiles_can_be_and_at_most_as_sms(sizes, count, monkeypatch):
    assert programs(monkeypatch, **sizes)[0] == count


@pytest.mark.parametrize(("batch", "padded"), [(1, 32), (32, 32), (33, 64), (200, 256)])
def test_the_batch_is_padded_to_what_a_warp_holds(batch, padded, monkeypatch):
    assert programs(monkeypatch, batch=batch)[2]["BATCH_P2"] == padded


def test_heads_are_taken_as_many_at_a_time_as_half_of_l2_holds(monkeypatch):
    from mla_kernels.grouped_prefill_triton import L2_BYTES

    arguments = programs(monkeypatch, qk_dim=192)[1]
    assert arguments[-1] == L2_BYTES // 2 // ((192 + 128) * 2)


def test_random_cases_reach_both_kernels():
    picked = []
    with gpu():
        for shape in random_prefill.shapes():
            for kv_lens, q_lens in random_prefill.lengths(shape):
                sizes = {name: getattr(shape, name) for name in ("num_q_heads", "num_kv_heads", "page_size", "dtype")}
                qk_dim, v_dim = shape.dims
                launch = bind(total_q=sum(q_lens), batch=len(kv_lens), qk_dim=qk_dim, v_dim=v_dim, **sizes)
                picked.append(launch.config["kernel"])
    assert min(picked.count(kernel) for kernel in (GLUON, PLAIN)) >= 20
