"""MLA decode as a caller gets it, on a GPU: what is picked, random cases, and results that ignore the batch."""

import pytest
import torch

from mla_kernels import reference
from tests.mla_kernels import cases, random_cases
from tests.mla_kernels.test_gpu import SCALE, needs_hopper

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
OUT_LIMITS = {torch.bfloat16: 4e-3, torch.float16: 6e-4}
LSE_LIMIT = 2e-5
"""For queries of variance 1; rounding grows with the scores."""


def run(inputs, kv_lora_rank=512, **options):
    """Outputs, and the name of the kernel that made them."""
    from mla_kernels import mla_decode

    tensors = cases.with_outputs(inputs, kv_lora_rank)
    launch = mla_decode.bind(**tensors, softmax_scale=SCALE, **options)
    launch()
    return tensors["out"], tensors["lse"], launch.config["kernel"]


def wrong_requests(inputs, kv_lora_rank, out, lse) -> list[str]:
    """What is wrong with which request; each is held to the limits of a whole batch."""
    expected, expected_lse = reference.mla_absorbed_decode(**inputs, kv_lora_rank=kv_lora_rank, softmax_scale=SCALE)
    error = (out.double() - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1).clamp_min(1e-30)
    blind = expected_lse.isinf()
    lse_error = (lse - expected_lse).abs().masked_fill(blind, 0)
    same_infinity = (blind == (lse == -torch.inf)).flatten(1).all(1)
    lse_error = lse_error.flatten(1).amax(1).masked_fill(~same_infinity, torch.inf)
    lse_limit = LSE_LIMIT * inputs["q"].float().std().clamp_min(1.0)
    good = (error <= OUT_LIMITS[out.dtype]) & (lse_error <= lse_limit)
    return [
        f"request {b} of {len(good)}, kv_len {inputs['kv_lens'][b]}: out {error[b]:.1e}, lse {lse_error[b]:.1e}"
        for b in torch.nonzero(~good).flatten().tolist()
    ]


@needs_hopper
@pytest.mark.parametrize(
    ("num_q_heads", "batch", "page_size", "kernel"),
    [
        (16, 3, 64, "mla_decode_gluon_few_rows"),
        (64, 3, 64, "mla_decode_gluon_few_rows"),
        (64, 40, 64, "mla_decode_gluon"),
        (16, 3, 32, "mla_decode_gluon_few_rows"),
        (64, 40, 32, "mla_decode_gluon"),
        (64, 3, 16, "mla_decode_gluon_few_rows"),
        (64, 40, 16, "mla_decode_gluon"),
        (64, 3, 1, "mla_decode_triton"),
    ],
)
def test_the_kernel_picked_is_right(num_q_heads, batch, page_size, kernel):
    inputs = cases.mla([0, 1, 500] + [100] * (batch - 3), 1, num_q_heads, 512, 64, page_size, torch.bfloat16, 0, "cuda")
    out, lse, picked = run(inputs)
    assert picked == kernel
    assert wrong_requests(inputs, 512, out, lse) == []


@pytest.mark.parametrize("shape", random_cases.shapes(), ids=str)
def test_random_cases(shape):
    for number, inputs in enumerate(random_cases.batches(shape, "cuda")):
        out, lse, kernel = run(inputs, shape.kv_lora_rank, batch_invariant=shape.batch_invariant)
        wrong = wrong_requests(inputs, shape.kv_lora_rank, out, lse)
        assert wrong == [], f"{kernel}, batch {number}"


@pytest.mark.parametrize(
    ("page_size", "dtype"),
    [(16, torch.bfloat16), (32, torch.bfloat16), (64, torch.bfloat16), (64, torch.float16)],
)
@pytest.mark.parametrize(("num_q_heads", "q_len"), [(16, 1), (20, 1), (20, 3), (64, 1), (128, 1), (128, 2)])
def test_with_batch_invariance_a_result_does_not_depend_on_the_batch_by_a_bit(num_q_heads, q_len, page_size, dtype):
    lens = [37 * b * b % 3001 for b in range(130)]
    everyone = cases.mla(lens, q_len, num_q_heads, 512, 64, page_size, dtype, 0, "cuda")

    def results(requests):
        chosen = {name: everyone[name][requests] for name in ("q", "block_table", "kv_lens")}
        return run(everyone | chosen, batch_invariant=True)

    order = torch.randperm(130, generator=torch.Generator().manual_seed(0)).tolist()
    whole_out, whole_lse, whole_kernel = results(order)
    for request in (0, 1, 64, 129):
        # 0 has no token, 1 has 37
        seven = [2, 3, 4, request, 5, 6, 7]
        for requests in ([request], seven):
            out, lse, kernel = results(requests)
            here, there = requests.index(request), order.index(request)
            assert kernel == whole_kernel
            assert torch.equal(out[here], whole_out[there])
            assert torch.equal(lse[here], whole_lse[there])
    assert wrong_requests(everyone, 512, *results(list(range(130)))[:2]) == []
