"""The Triton kernels without a GPU: results in the interpreter, machine code for sm_90, and what `bind` refuses.

The interpreter runs in a process of its own, for TRITON_INTERPRET is read when triton is imported.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from mlabench.machine_code.archs import find_archs
from mlabench.machine_code.inspect import inspect_kernels, make_jobs, select_kernels
from mlabench.machine_code.rows import Row
from tests.mla_kernels import cases

ROOT = Path(__file__).parents[2]

CONFIGURATIONS = (
    "MLA 16 heads, bf16",
    "MLA 16 heads, fp16",
    "MLA 128 heads, bf16",
    "MLA 128 heads, fp16",
    "MLA 128 heads, bf16, uncut",
    "GQA-8, bf16",
    "MQA, bf16",
    "MQA, fp16",
    "MLA expanded, bf16",
    "MLA expanded, fp16",
)
"""Those of the suite's configurations whose machine code must be good and not only the same as it was."""

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def run_interpreted(kind: str) -> dict:
    """What is wrong with each case of a kind, in Triton's interpreter."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.mla_kernels.interpreted", kind]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "kind",
    [
        "mla",
        "grouped",
        "prefill",
        "prefill at the end of memory",
        "MLA prefill",
        "MLA prefill at the end of memory",
        "prefill call",
        "chosen",
        "parts",
    ],
)
def test_interpreted_kernels_match_the_reference(kind):
    assert {name: what for name, what in run_interpreted(kind).items() if what} == {}


@pytest.fixture(scope="module")
def machine_code() -> tuple[Row, ...]:
    """The default configurations on an H200, without the kernel that merges the parts."""
    jobs = [
        job
        for job in make_jobs(select_kernels(["grouped_decode_triton", "mla_decode_triton"]), find_archs(["sm_90"]))
        if job.configuration.name in CONFIGURATIONS
    ]
    assert len(jobs) == len(CONFIGURATIONS)
    return tuple(row for row in inspect_kernels(jobs).rows if row.function != "combine_kernel")


def test_default_configurations_fit_an_sm(machine_code):
    assert {row.configuration: row.status for row in machine_code} == dict.fromkeys(CONFIGURATIONS, "ok")


def test_loops_over_the_cache_do_not_spill(machine_code):
    assert all(row.matrix_loops for row in machine_code)
    assert {row.configuration: row.loop_spills for row in machine_code if row.loop_spills > 4} == {}


def test_tiles_use_the_warp_group_instructions_and_are_fed_by_tma(machine_code):
    for row in machine_code:
        if row.config["swap"] or row.config["block_m"] >= 64:
            assert row.matrix_instructions["HGMMA"], row.configuration
        assert row.async_copies["UTMALDG"], row.configuration
        # one wait after each instruction is how ptxas serialises what it could not keep in flight
        assert row.matrix_waits <= 8, row.configuration


def test_without_tma_tiles_come_by_copies_that_do_not_spill_in_loops():
    jobs = [
        job
        for job in make_jobs(select_kernels(["grouped_decode_triton", "mla_decode_triton"]), find_archs(["sm_80"]))
        if job.configuration.name in ("MLA 16 heads, bf16", "MLA 128 heads, bf16", "GQA-8, bf16")
    ]
    rows = [row for row in inspect_kernels(jobs).rows if row.function != "combine_kernel"]
    assert len(rows) == 3
    assert {row.configuration: (row.config["use_tma"], row.loop_spills) for row in rows} == {
        row.configuration: (0, 0) for row in rows
    }
    assert all(row.async_copies.keys() == {"LDGSTS"} for row in rows)


@pytest.mark.parametrize(
    ("sizes", "options", "reason"),
    [
        ({"kv_lora_rank": 48}, {}, "kv_lora_rank is 48"),
        ({"rope_dim": 8}, {}, "qk_rope_head_dim is 8"),
        ({"dtype": torch.float64}, {}, "float64"),
        ({}, {"use_tma": 1, "block_n": 64}, "multiple of block_n"),
        ({"kv_lora_rank": 4096}, {"block_m": 64}, "shared memory"),
    ],
)
def test_shapes_beyond_the_mla_kernel_are_unsupported(sizes, options, reason):
    from mla_kernels import mla_decode_triton

    tensors = cases.with_outputs(cases.mla((5,), **sizes), sizes.get("kv_lora_rank", 32))
    with pytest.raises(NotImplementedError, match=reason):
        mla_decode_triton.bind(**tensors, softmax_scale=1.0, **options)


@pytest.mark.parametrize(
    ("sizes", "options", "reason"),
    [
        ({"qk_dim": 8}, {}, "qk_dim is 8"),
        ({"v_dim": 600}, {}, "v_dim is 600"),
        ({"dtype": torch.float64}, {}, "float64"),
        ({}, {"use_tma": 1, "block_n": 64}, "multiple of block_n"),
        ({"qk_dim": 512, "v_dim": 512}, {"block_n": 128}, "shared memory"),
    ],
)
def test_shapes_beyond_the_grouped_kernel_are_unsupported(sizes, options, reason):
    from mla_kernels import grouped_decode_triton

    tensors = cases.with_outputs(cases.grouped((5,), **sizes), sizes.get("v_dim", 32))
    with pytest.raises(NotImplementedError, match=reason):
        grouped_decode_triton.bind(**tensors, softmax_scale=1.0, **options)


def test_tensors_that_contradict_are_refused():
    from mla_kernels import grouped_decode_triton, mla_decode_triton

    tensors = cases.with_outputs(cases.mla((5,)), 32)
    with pytest.raises(ValueError, match="kv_lens has shape"):
        mla_decode_triton.bind(**tensors | {"kv_lens": torch.zeros(2, dtype=torch.int32)}, softmax_scale=1.0)
    with pytest.raises(ValueError, match="must be contiguous"):
        mla_decode_triton.bind(**tensors | {"q": tensors["q"].mT.contiguous().mT}, softmax_scale=1.0)
    tensors = cases.with_outputs(cases.grouped((5,), num_q_heads=3), 32)
    with pytest.raises(ValueError, match="not a multiple"):
        grouped_decode_triton.bind(**tensors, softmax_scale=1.0)


@pytest.mark.parametrize(("dim", "tiles"), [(128, (128, 16)), (192, (128, 64)), (80, (64, 16)), (112, (64, 64))])
def test_head_dims_become_two_tiles(dim, tiles):
    from mla_kernels.grouped_decode_triton import head_tiles

    assert head_tiles(dim) == tiles
