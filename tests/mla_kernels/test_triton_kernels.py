"""The Triton kernels without a GPU: results in the interpreter, machine code for sm_90, and what `bind` refuses.

Interpreter and compiler exclude each other within a process (TRITON_INTERPRET is read when triton is imported), so
each runs in one of its own.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.mla_kernels import cases

ROOT = Path(__file__).parents[2]
SHARED_BYTES_LIMIT = 232_448

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def run_apart(*arguments: str, interpret: bool) -> dict:
    """JSON printed by a module of this folder."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    if interpret:
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["mla", "grouped"])
def test_interpreted_kernels_match_the_reference(kind):
    wrong = {
        name: what for name, what in run_apart("tests.mla_kernels.interpreted", kind, interpret=True).items() if what
    }
    assert wrong == {}


@pytest.fixture(scope="module")
def machine_code() -> dict:
    return run_apart("tests.mla_kernels.compiled", interpret=False)


def test_default_configurations_fit_an_sm(machine_code):
    assert {
        name: code["shared_bytes"] for name, code in machine_code.items() if code["shared_bytes"] > SHARED_BYTES_LIMIT
    } == {}
    assert all(code["registers"] <= 255 for code in machine_code.values())


def test_loops_over_the_cache_do_not_spill(machine_code):
    assert all(code["hot_loops"] for code in machine_code.values())
    assert {name: code["loop_spills"] for name, code in machine_code.items() if code["loop_spills"] > 4} == {}


def test_tiles_use_the_warp_group_instructions_and_are_fed_by_tma(machine_code):
    for name, code in machine_code.items():
        if code["swap"] or code["block_m"] >= 64:
            assert code["hgmma"], name
        assert code["tma_loads"], name
        # one wait after each instruction is how ptxas serialises what it could not keep in flight
        assert code["hgmma_waits"] <= 8, name


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
