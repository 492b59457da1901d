"""The torch kernels against the float64 reference on the CPU."""

import subprocess
import sys

import pytest
import torch

from mla_kernels import grouped_decode_torch, mla_decode_torch, mla_recompute_decode_torch, reference
from tests.mla_kernels import cases

SCALE = 0.15
RAGGED = (0, 1, 63, 64, 65, 1000)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def run(module, inputs, v_dim, expected, **options):
    """Bind, launch, and compare; the torch kernels leave lse alone."""
    tensors = cases.with_outputs(inputs, v_dim)
    launch = module.bind(**tensors, softmax_scale=SCALE, **options)
    assert launch() is None
    assert launch.workspace_bytes >= 0
    assert cases.mismatch(inputs["q"].dtype, tensors["out"], expected[0], None, expected[1]) == ""
    assert bool(tensors["lse"].isnan().all())
    return launch


def run_grouped(inputs):
    expected = reference.grouped_decode(**inputs, softmax_scale=SCALE)
    return run(grouped_decode_torch, inputs, inputs["v_cache"].shape[3], expected)


def run_mla(inputs, kv_lora_rank=32):
    expected = reference.mla_absorbed_decode(**inputs, kv_lora_rank=kv_lora_rank, softmax_scale=SCALE)
    return run(mla_decode_torch, inputs, kv_lora_rank, expected)


def run_recompute(inputs, **options):
    v_head_dim = 16
    expected = reference.mla_recompute_decode(**inputs, v_head_dim=v_head_dim, softmax_scale=SCALE)
    return run(mla_recompute_decode_torch, inputs, v_head_dim, expected, **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("q_len", [1, 3])
@pytest.mark.parametrize("page_size", [1, 16, 64])
def test_ragged_lengths(page_size, q_len, dtype):
    run_grouped(cases.grouped(RAGGED, q_len, page_size=page_size, dtype=dtype))
    run_mla(cases.mla(RAGGED, q_len, page_size=page_size, dtype=dtype))
    run_recompute(cases.recompute(RAGGED, q_len, page_size=page_size, dtype=dtype))


@pytest.mark.parametrize("kv_len", [1, 63, 1000])
@pytest.mark.parametrize("q_len", [1, 3])
def test_uniform_lengths(kv_len, q_len):
    run_grouped(cases.grouped((kv_len,) * 3, q_len))
    run_mla(cases.mla((kv_len,) * 3, q_len))
    run_recompute(cases.recompute((kv_len,) * 3, q_len))


@pytest.mark.parametrize("num_q_heads", [1, 20, 128])
def test_head_counts(num_q_heads):
    lens = (65, 130)
    run_mla(cases.mla(lens, 2, num_q_heads))
    run_recompute(cases.recompute(lens, 2, num_q_heads))
    for num_kv_heads in {1, num_q_heads, num_q_heads // 4 or 1}:
        run_grouped(cases.grouped(lens, 2, num_q_heads, num_kv_heads))


@pytest.mark.parametrize(("qk_dim", "v_dim"), [(24, 16), (16, 16), (80, 48)])
def test_head_dims_may_differ(qk_dim, v_dim):
    run_grouped(cases.grouped((5, 70), 2, 4, 4, qk_dim, v_dim))


def test_a_batch_without_tokens_is_zero():
    run_grouped(cases.grouped((0, 0)))
    run_mla(cases.mla((0, 0)))
    run_recompute(cases.recompute((0, 0)))


def test_recompute_in_chunks():
    inputs = cases.recompute((65, 3, 130, 20), 2)
    whole, chunked = run_recompute(inputs), run_recompute(inputs, workspace_limit_bytes=50_000)
    assert chunked.workspace_bytes < whole.workspace_bytes


def test_calls_see_new_queries_and_cache():
    inputs = cases.mla((70, 9))
    tensors = cases.with_outputs(inputs, 32)
    launch = mla_decode_torch.bind(**tensors, softmax_scale=SCALE)
    launch()
    inputs["q"].mul_(-0.5)
    inputs["kv_cache"].add_(0.25)
    launch()
    expected = reference.mla_absorbed_decode(**inputs, kv_lora_rank=32, softmax_scale=SCALE)
    assert cases.mismatch(torch.float32, tensors["out"], expected[0], None, expected[1]) == ""


@pytest.mark.parametrize(
    ("module", "inputs", "name", "broken"),
    [
        (mla_decode_torch, cases.mla((5,)), "kv_cache", torch.zeros(2, 16, 47)),
        (mla_decode_torch, cases.mla((5,)), "kv_lens", torch.zeros(2, dtype=torch.int32)),
        (grouped_decode_torch, cases.grouped((5,)), "v_cache", torch.zeros(2, 16, 3, 32)),
        (grouped_decode_torch, cases.grouped((5,)), "k_cache", torch.zeros(2, 16, 2, 32, dtype=torch.float16)),
        (mla_recompute_decode_torch, cases.recompute((5,)), "kv_b_proj", torch.zeros(3, 32, 32)),
    ],
)
def test_tensors_that_contradict_are_refused(module, inputs, name, broken):
    v_dim = 32 if module is not mla_recompute_decode_torch else 16
    with pytest.raises(ValueError, match=name):
        module.bind(**cases.with_outputs(inputs, v_dim) | {name: broken}, softmax_scale=SCALE)


def test_torch_kernels_do_without_triton():
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "from mla_kernels import grouped_decode_torch, mla_decode_torch, mla_recompute_decode_torch, reference\n"
        "from mla_kernels import grouped_prefill_torch, mla_prefill_torch\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
