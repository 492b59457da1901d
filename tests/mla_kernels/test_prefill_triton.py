"""The Triton prefill kernel without a GPU: its machine code, what it picks for a shape, and what `bind` refuses.

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
    "prefill, MHA, bf16",
    "prefill, MHA, 64 queries, bf16",
    "prefill, GQA-8, page 16, bf16",
    "prefill, GQA-8, head dim 64, bf16",
    "prefill, GQA-8, head dim 256, bf16",
    "prefill, MLA expanded, bf16",
    "prefill, MLA expanded, fp16",
)

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def test_the_tests_own_reference_agrees_with_the_packages():
    inputs = prefill_cases.grouped((30, 0, 17, 9, 2), (30, 0, 5, 0, 4), qk_dim=16, v_dim=8, dtype=torch.float64)
    out, lse = prefill_cases.expected(inputs, 0.3)
    theirs = reference.grouped_prefill(**inputs, softmax_scale=0.3)
    torch.testing.assert_close(theirs, (out, lse), rtol=1e-12, atol=1e-12)
    assert lse.isinf().sum() == 2 * inputs["q"].shape[1]


@pytest.fixture(scope="module")
def machine_code() -> tuple[Row, ...]:
    """The default configurations on an A100 and an H200."""
    jobs = [
        job
        for job in make_jobs(select_kernels(["grouped_prefill_triton"]), find_archs(["sm_80", "sm_90"]))
        if job.configuration.name in CONFIGURATIONS
    ]
    assert len(jobs) == 2 * len(CONFIGURATIONS)
    return inspect_kernels(jobs).rows


@needs_triton
def test_default_configurations_fit_an_sm_and_do_not_spill_in_loops(machine_code):
    assert {row.key[1:3]: row.status for row in machine_code if row.status != "ok"} == {}
    assert {row.key[1:3]: row.loop_spills for row in machine_code if row.loop_spills or not row.matrix_loops} == {}


@needs_triton
def test_products_run_on_the_fastest_instructions_and_loads_are_asynchronous(machine_code):
    for row in machine_code:
        hopper = row.arch == "sm_90"
        assert row.matrix_instructions["HGMMA" if hopper else "HMMA"], row.key
        whole_pages = hopper and "page 16" not in row.configuration
        assert row.async_copies["UTMALDG" if whole_pages else "LDGSTS"], row.key
        # two products a loop, three where keys come in two tiles; more would mean that ptxas serialised them
        assert row.matrix_waits <= 3 * row.matrix_loops, row.key


def chosen(batch=4, rows=2048, num_kv_heads=8, qk_dim=128, v_dim=128, page_size=64, itemsize=2, **device):
    from mla_kernels.grouped_prefill_triton import default_config

    sizes = {"batch": batch, "rows": rows, "num_kv_heads": num_kv_heads, "qk_dim": qk_dim, "v_dim": v_dim}
    config = default_config(**sizes, page_size=page_size, itemsize=itemsize, num_sms=132, **device)
    return tuple(config.values())


@needs_triton
@pytest.mark.parametrize(
    ("sizes", "config"),
    [
        ({}, (128, 64, 8, 3, 1)),
        ({"page_size": 16}, (128, 64, 8, 3, 0)),
        ({"has_tma": False}, (128, 64, 8, 3, 0)),
        ({"qk_dim": 192}, (128, 64, 8, 3, 1)),
        ({"qk_dim": 192, "shared_limit": 166_912}, (128, 64, 8, 2, 1)),
        ({"qk_dim": 192, "shared_limit": 101_376}, (128, 32, 8, 2, 1)),
        ({"qk_dim": 96}, (128, 64, 8, 3, 1)),
        ({"qk_dim": 112}, (128, 64, 8, 3, 0)),
        ({"qk_dim": 64, "v_dim": 64}, (128, 64, 4, 3, 1)),
        ({"qk_dim": 256, "v_dim": 256}, (128, 32, 8, 3, 1)),
        ({"rows": 64}, (64, 64, 4, 3, 1)),
        ({"rows": 128, "batch": 1}, (64, 64, 4, 3, 1)),
        ({"rows": 17}, (32, 64, 4, 3, 1)),
        ({"rows": 0.5}, (16, 64, 4, 3, 1)),
        ({"itemsize": 4}, (32, 16, 4, 2, 0)),
    ],
    ids=str,
)
def test_what_is_picked_for_a_shape(sizes, config):
    assert chosen(**sizes) == config


def launched(monkeypatch, *lens, **sizes) -> tuple[int, dict]:
    """How many programs a call starts, and their compile-time arguments."""
    from mla_kernels import grouped_prefill_triton as module

    monkeypatch.setattr(module, "grouped_prefill_kernel", kernel := MagicMock())
    module.bind(**prefill_cases.with_outputs(prefill_cases.grouped(*lens, **sizes)), softmax_scale=1.0)()
    return *kernel.__getitem__.call_args.args[0], kernel.__getitem__.return_value.call_args.kwargs


@needs_triton
@pytest.mark.parametrize(
    ("lens", "heads", "programs"),
    [
        ((256, 256), (4, 4), (2 + 2) * 4),
        ((1024, 1024), (8, 2), (32 + 32) * 2),
        ((300,) * 8, (2, 2), 19 * 2),  # 2400 rows of a head; the partial ones among 8 x 3 blocks are a second turn
        ((40,) * 8, (2, 2), 8 * 2),  # a partial block each
    ],
    ids=str,
)
def test_programs_are_as_many_as_full_row_blocks_or_fill_the_gpu(lens, heads, programs, monkeypatch):
    assert launched(monkeypatch, lens, lens, *heads, dtype=torch.bfloat16)[0] == programs


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float32, "ieee"), (torch.float16, "tf32"), (torch.bfloat16, "tf32")], ids=str
)
def test_products_of_float32_are_not_rounded(dtype, precision, monkeypatch):
    assert launched(monkeypatch, (5,), (5,), dtype=dtype)[1]["PRECISION"] == precision


@needs_triton
@pytest.mark.parametrize(
    ("sizes", "options", "reason"),
    [
        ({"qk_dim": 8}, {}, "qk_dim is 8"),
        ({"v_dim": 300}, {}, "v_dim is 300"),
        ({"dtype": torch.float64}, {}, "float64"),
        ({}, {"use_tma": 1, "block_n": 64}, "page_size 16 to be a multiple of block_n 64"),
        ({"qk_dim": 40}, {"use_tma": 1, "block_n": 16}, "head dims 40 and 32"),
        ({"qk_dim": 256, "v_dim": 256}, {"block_m": 128, "block_n": 128}, "shared memory"),
        ({}, {"softmax_scale": 0.0}, "softmax_scale is 0.0"),
    ],
)
def test_shapes_beyond_the_kernel_are_unsupported(sizes, options, reason):
    from mla_kernels import grouped_prefill_triton

    tensors = prefill_cases.with_outputs(prefill_cases.grouped((5,), (5,), **sizes))
    with pytest.raises(NotImplementedError, match=reason):
        grouped_prefill_triton.bind(**tensors, **({"softmax_scale": 1.0} | options))


@needs_triton
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"q_starts": torch.zeros(2, dtype=torch.int32)}, "q_starts has shape"),
        ({"q_starts": torch.zeros(3, dtype=torch.int64)}, "q_starts is torch.int64"),
        ({"block_table": torch.zeros(1, 1, dtype=torch.int32)}, "block_table has shape"),
        ({"lse": torch.zeros(7, 4)}, "lse has shape"),
        ({"q": torch.zeros(8, 3, 32), "out": torch.zeros(8, 3, 32), "lse": torch.zeros(8, 3)}, "not a multiple"),
    ],
)
def test_tensors_that_contradict_are_refused(wrong, reason):
    from mla_kernels import grouped_prefill_triton

    tensors = prefill_cases.with_outputs(prefill_cases.grouped((5, 9), (5, 3)))
    with pytest.raises(ValueError, match=reason):
        grouped_prefill_triton.bind(**tensors | wrong, softmax_scale=1.0)
