"""Which kernel absorbed MLA prefill takes and what it is bound with, on GPUs that are not there."""

from importlib import import_module
from importlib.util import find_spec

import pytest
import torch

from tests.mla_kernels.assumed import gpu

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

GLUON, PLAIN = "mla_prefill_gluon", "mla_prefill_triton"


def tensors(total_q=512, batch=2, num_q_heads=16, page_size=64, dtype=torch.bfloat16, kv_lora_rank=512, rope_dim=64):
    """Tensors without storage, to be made within `gpu`."""
    kv_dim = kv_lora_rank + rope_dim
    return {
        "q": torch.empty(total_q, num_q_heads, kv_dim, dtype=dtype, device="cuda"),
        "kv_cache": torch.empty(100, page_size, kv_dim, dtype=dtype, device="cuda"),
        "block_table": torch.empty(batch, 50, dtype=torch.int32, device="cuda"),
        "kv_lens": torch.empty(batch, dtype=torch.int32, device="cuda"),
        "q_starts": torch.empty(batch + 1, dtype=torch.int32, device="cuda"),
        "out": torch.empty(total_q, num_q_heads, kv_lora_rank, dtype=dtype, device="cuda"),
        "lse": torch.empty(total_q, num_q_heads, device="cuda"),
    }


def bind(module="mla_prefill", **sizes):
    return import_module(f"mla_kernels.{module}").bind(**tensors(**sizes), softmax_scale=1.0)


@pytest.mark.parametrize(
    ("sizes", "kernel"),
    [
        ({}, GLUON),
        ({"num_q_heads": 20, "dtype": torch.float16, "page_size": 192}, GLUON),
        ({"page_size": 16}, GLUON),
        ({"page_size": 24}, PLAIN),
        ({"dtype": torch.float32}, PLAIN),
        ({"kv_lora_rank": 256}, PLAIN),
        ({"rope_dim": 32}, PLAIN),
    ],
)
def test_hopper_takes_the_gluon_kernel_where_that_can(sizes, kernel):
    with gpu():
        assert bind(**sizes).config["kernel"] == kernel


def test_other_gpus_take_the_triton_kernel():
    with gpu("sm_80"):
        assert bind().config["kernel"] == PLAIN
        with pytest.raises(NotImplementedError, match="compute capability 9"):
            bind(GLUON)


def test_the_gluon_kernel_needs_no_memory_of_its_own():
    with gpu() as launched:
        launch = bind(GLUON, total_q=7, num_q_heads=20, batch=3)
        launch()
    assert [kernel.function for kernel in launched] == ["mla_decode_many_rows_kernel"]
    assert (launch.workspace_bytes, launch.config["block_m"]) == (0, 64)


@pytest.mark.parametrize("module", ["mla_prefill", GLUON, PLAIN])
@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("kv_lens", lambda: torch.empty(3, dtype=torch.int32, device="cuda"), "block_table has shape"),
        ("q_starts", lambda: torch.empty(2, dtype=torch.int32, device="cuda"), "q_starts has shape"),
        ("q_starts", lambda: torch.empty(3, dtype=torch.int64, device="cuda"), "q_starts is torch.int64"),
        ("lse", lambda: torch.empty(512, 16, dtype=torch.bfloat16, device="cuda"), "lse is torch.bfloat16"),
        ("kv_cache", lambda: torch.empty(100, 64, 570, dtype=torch.bfloat16, device="cuda"), "kv_cache has shape"),
    ],
)
def test_tensors_that_contradict_each_other_are_refused(name, wrong, reason, module):
    with gpu(), pytest.raises(ValueError, match=reason):
        import_module(f"mla_kernels.{module}").bind(**tensors() | {name: wrong()}, softmax_scale=1.0)
