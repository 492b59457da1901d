"""The Triton kernel of absorbed MLA prefill without a GPU: its machine code, what it picks, and what `bind` refuses.

Its results in the interpreter are in test_triton_kernels.py.
"""

from importlib.util import find_spec
from unittest.mock import MagicMock

import pytest
import torch

from mla_kernels import reference
from mlabench.machine_code.archs import find_archs
from mlabench.machine_code.inspect import inspect_kernels, make_jobs, select_kernels
from mlabench.machine_code.rows import Row
from tests.mla_kernels import prefill_cases

CONFIGURATIONS = (
    "prefill, MLA absorbed, bf16",
    "prefill, MLA absorbed, 16 heads, one query, bf16",
    "prefill, MLA absorbed, 32 heads, one query, bf16",
    "prefill, MLA absorbed, page 16, bf16",
    "prefill, MLA absorbed, rank 256, bf16",
    "prefill, MLA absorbed, fp16",
)

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def test_the_tests_own_reference_agrees_with_the_packages():
    tensors = prefill_cases.mla((30, 0, 17, 9, 2), (30, 0, 5, 0, 4), dtype=torch.float64)
    mine = prefill_cases.expected(prefill_cases.as_grouped(tensors), 0.3)
    inputs = {name: tensor for name, tensor in tensors.items() if name not in ("out", "lse")}
    theirs = reference.mla_absorbed_prefill(**inputs, kv_lora_rank=32, softmax_scale=0.3)
    torch.testing.assert_close(theirs, mine, rtol=1e-12, atol=1e-12)
    assert mine[1].isinf().sum() == 2 * 4


@pytest.fixture(scope="module")
def machine_code() -> tuple[Row, ...]:
    """The default configurations on an A100 and an H200."""
    jobs = [
        job
        for job in make_jobs(select_kernels(["mla_prefill_triton"]), find_archs(["sm_80", "sm_90"]))
        if job.configuration.name in CONFIGURATIONS
    ]
    assert len(jobs) == 2 * len(CONFIGURATIONS)
    return inspect_kernels(jobs).rows


def test_default_configurations_fit_an_sm_and_do_not_spill_in_loops(machine_code):
    assert {row.key[1:3]: row.status for row in machine_code if row.status != "ok"} == {}
    assert {row.key[1:3]: row.loop_spills for row in machine_code if row.loop_spills or row.matrix_loops != 2} == {}
    # a few before and behind the loops
    assert {row.key[1:3]: row.spill_stores for row in machine_code if row.spill_stores > 8} == {}


def test_products_run_on_the_fastest_instructions_and_loads_are_asynchronous(machine_code):
    for row in machine_code:
        hopper = row.arch == "sm_90"
        assert row.matrix_instructions["HGMMA" if hopper and row.config["block_m"] == 64 else "HMMA"], row.key
        whole_pages = hopper and "page 16" not in row.configuration
        assert row.async_copies["UTMALDG" if whole_pages else "LDGSTS"], row.key
        # three a loop; one after each instruction would mean that ptxas serialised them
        assert row.matrix_waits <= 3 * row.matrix_loops, row.key


A100, ADA, B200, RTX_5090 = (
    {"major": 8, "shared_limit": 166_912},
    {"major": 8, "shared_limit": 101_376},
    {"major": 10},
    {"major": 12, "shared_limit": 101_376},
)


@pytest.mark.parametrize(
    ("sizes", "config"),
    [
        ({}, (64, 64, 8, 2, 1)),
        ({"page_size": 32}, (64, 64, 8, 2, 0)),
        ({"page_size": 128}, (64, 64, 8, 2, 1)),
        ({"kv_dim": 320}, (64, 64, 8, 2, 1)),
        ({"rows": 32}, (32, 32, 8, 3, 1)),
        ({"rows": 0.5}, (16, 64, 8, 3, 1)),
        ({"itemsize": 4}, (16, 16, 8, 2, 0)),
        (A100, (64, 32, 8, 3, 0)),
        ({**A100, "rows": 17}, (32, 32, 8, 3, 0)),
        (ADA, (64, 16, 8, 2, 0)),
        ({**ADA, "rows": 17}, (32, 16, 8, 3, 0)),
        (B200, (64, 32, 8, 3, 1)),
        (RTX_5090, (64, 16, 8, 2, 0)),
    ],
    ids=str,
)
def test_what_is_picked_for_a_shape(sizes, config):
    from mla_kernels.mla_prefill_triton import default_config

    defaults = {"rows": 4096, "kv_dim": 576, "page_size": 64, "itemsize": 2}
    assert tuple(default_config(**defaults | sizes).values()) == config


def launched(monkeypatch, tensors) -> tuple[int, dict]:
    """How many programs a call starts, and their compile-time arguments."""
    from mla_kernels import mla_prefill_triton as module

    monkeypatch.setattr(module, "mla_prefill_kernel", kernel := MagicMock())
    module.bind(**tensors, softmax_scale=1.0)()
    return *kernel.__getitem__.call_args.args[0], kernel.__getitem__.return_value.call_args.kwargs


@pytest.mark.parametrize(
    ("lens", "num_q_heads", "programs"),
    [
        ((256, 256), 16, 128 + 2),
        ((40,) * 8, 2, 10 + 8),  # 80 rows a request
        ((3,) * 5, 4, 3 + 5),  # 12 rows a request, in tiles of 16
        ((0, 0), 16, 2),
    ],
    ids=str,
)
def test_programs_are_as_many_as_full_row_blocks_and_one_more_a_request(lens, num_q_heads, programs, monkeypatch):
    tensors = prefill_cases.mla(lens, lens, num_q_heads, dtype=torch.bfloat16)
    assert launched(monkeypatch, tensors)[0] == programs


def test_a_batch_without_requests_starts_no_program(monkeypatch):
    tensors = prefill_cases.mla((40,), (40,))
    for name, rows in {"block_table": 0, "kv_lens": 0, "q_starts": 1}.items():
        tensors[name] = tensors[name][:rows]
    assert launched(monkeypatch, tensors)[0] == 0


@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float32, "ieee"), (torch.float16, "tf32"), (torch.bfloat16, "tf32")], ids=str
)
def test_products_of_float32_are_not_rounded(dtype, precision, monkeypatch):
    assert launched(monkeypatch, prefill_cases.mla((5,), (5,), dtype=dtype))[1]["PRECISION"] == precision


@pytest.mark.parametrize(
    ("sizes", "options", "reason"),
    [
        ({"kv_lora_rank": 48}, {}, "kv_lora_rank is 48"),
        ({"rope_dim": 8}, {}, "qk_rope_head_dim is 8"),
        ({"dtype": torch.float64}, {}, "float64"),
        ({}, {"use_tma": 1, "block_n": 64}, "page_size 16 to be a multiple of block_n 64"),
        ({"kv_lora_rank": 4096}, {"block_m": 64}, "shared memory"),
    ],
)
def test_shapes_beyond_the_kernel_are_unsupported(sizes, options, reason):
    from mla_kernels import mla_prefill_triton

    tensors = prefill_cases.mla((5,), (5,), **sizes)
    with pytest.raises(NotImplementedError, match=reason):
        mla_prefill_triton.bind(**tensors, softmax_scale=1.0, **options)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"q": torch.zeros(2, 4, 4, 48)}, "q has shape"),
        ({"kv_cache": torch.zeros(3, 16, 47)}, "kv_cache has shape"),
        ({"kv_cache": torch.zeros(3, 16, 48).half()}, "kv_cache is torch.float16"),
        ({"q_starts": torch.zeros(2, dtype=torch.int32)}, "q_starts has shape"),
        ({"q_starts": torch.zeros(3, dtype=torch.int64)}, "q_starts is torch.int64"),
        ({"kv_lens": torch.zeros(2)}, "kv_lens is torch.float32"),
        ({"block_table": torch.zeros(1, 1, dtype=torch.int32)}, "block_table has shape"),
        ({"out": torch.zeros(8, 3, 32)}, "out has shape"),
        ({"lse": torch.zeros(7, 4)}, "lse has shape"),
        ({"lse": torch.zeros(8, 4).double()}, "lse is torch.float64"),
    ],
)
def test_tensors_that_contradict_are_refused(wrong, reason):
    from mla_kernels import mla_prefill_triton

    with pytest.raises(ValueError, match=reason):
        mla_prefill_triton.bind(**prefill_cases.mla((5, 9), (5, 3)) | wrong, softmax_scale=1.0)
