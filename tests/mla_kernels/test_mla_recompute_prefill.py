"""Prefill that expands the cached latents, on the CPU against float64 references."""

import pytest
import torch

from mla_kernels import mla_recompute_prefill, reference
from tests.mla_kernels import cases, prefill_cases

SCALE = 0.15
NOPE, ROPE, RANK, V_DIM = 24, 16, 32, 20
LENS, Q_LENS = (65, 1, 130, 128, 300, 7, 0), (65, 1, 31, 64, 3, 0, 2)
"""Whole prompts, prefixes, a request without a new token, and one without a token."""


def make(lens=LENS, q_lens=Q_LENS, **sizes):
    """Tensors of a case."""
    sizes = {"kv_lora_rank": RANK, "nope_dim": NOPE, "rope_dim": ROPE, "v_head_dim": V_DIM, **sizes}
    return cases.with_outputs(prefill_cases.packed(cases.recompute(lens, **sizes), q_lens), sizes["v_head_dim"])


def expected(tensors, scale=SCALE):
    inputs = {name: tensor for name, tensor in tensors.items() if name not in ("out", "lse")}
    return reference.mla_recompute_prefill(**inputs, v_head_dim=tensors["out"].shape[2], softmax_scale=scale)


def expanded_by_hand(tensors):
    """The cache's keys and values in float64, as grouped attention takes them."""
    latent, rope = tensors["kv_cache"].double().split([RANK, ROPE], dim=2)
    projected = torch.einsum("psc,hdc->pshd", latent, tensors["kv_b_proj"].double())
    keys, values = projected.split([NOPE, V_DIM], dim=3)
    return torch.cat((keys, rope[:, :, None].expand(-1, -1, keys.shape[2], -1)), dim=3), values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("page_size", [1, 16, 64])
def test_ragged_batches_with_and_without_prefixes(page_size, dtype):
    tensors = make(page_size=page_size, dtype=dtype)
    launch = mla_recompute_prefill.bind_torch(**tensors, softmax_scale=SCALE)
    launch()
    out, lse = expected(tensors)
    # the expansion is rounded once more than the output
    assert (tensors["out"].double() - out).norm() / out.norm() < 2 * torch.finfo(dtype).eps
    assert bool(tensors["lse"].isnan().all())
    assert bool(out[lse.isinf()].eq(0).all())
    tokens = sum(-(-length // 128) * 128 for length in LENS)
    expansion = tokens * (RANK + ROPE + 4 * (NOPE + ROPE + V_DIM)) * dtype.itemsize
    assert launch.workspace_bytes >= expansion


def test_the_reference_is_grouped_attention_over_the_expansion():
    tensors = make()
    keys, values = expanded_by_hand(tensors)
    shared = {name: tensors[name] for name in ("block_table", "kv_lens", "q_starts")}
    out, lse = reference.grouped_prefill(tensors["q"].double(), keys, values, **shared, softmax_scale=SCALE)
    ours, our_lse = expected(tensors)
    assert torch.allclose(ours, out, rtol=1e-9)
    assert torch.allclose(our_lse, lse, rtol=1e-9)


def test_blocks_of_heads_and_queries_do_not_change_the_reference(monkeypatch):
    whole = expected(make())
    monkeypatch.setattr(reference.reference_memory, "TEMPORARY_BYTES", 40_000)
    assert all(torch.allclose(one, other, rtol=1e-9) for one, other in zip(whole, expected(make()), strict=True))


def test_calls_see_new_queries_and_latents():
    tensors = make((70, 9), (20, 9))
    launch = mla_recompute_prefill.bind_torch(**tensors, softmax_scale=SCALE)
    launch()
    before = tensors["out"].clone()
    tensors["q"].neg_()
    tensors["kv_cache"].neg_()
    launch()
    assert tensors["out"].equal(-before)


@pytest.mark.parametrize(
    ("name", "broken", "reason"),
    [
        ("kv_b_proj", torch.zeros(4, NOPE + V_DIM, RANK + 1), "kv_b_proj"),
        ("kv_b_proj", torch.zeros(4, NOPE + V_DIM, RANK, dtype=torch.float16), "kv_b_proj is torch.float16"),
        ("q", torch.zeros(3, NOPE + ROPE), "q has shape"),
        ("q_starts", torch.zeros(3, dtype=torch.int32), "q_starts"),
        ("block_table", torch.zeros(1, 9, dtype=torch.int32), "block_table"),
    ],
)
def test_tensors_that_contradict_each_other_are_refused(name, broken, reason):
    with pytest.raises(ValueError, match=reason):
        mla_recompute_prefill.bind_torch(**make() | {name: broken}, softmax_scale=SCALE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("bind", [mla_recompute_prefill.bind, mla_recompute_prefill.bind_torch])
@pytest.mark.parametrize(("lens", "q_lens"), [((4097, 300, 0, 129), (130, 300, 0, 1)), ((2048,), (2048,))])
def test_deepseeks_dimensions_on_a_gpu(lens, q_lens, bind):
    dims = {"num_q_heads": 128, "kv_lora_rank": 512, "nope_dim": 128, "rope_dim": 64, "v_head_dim": 128}
    tensors = make(lens, q_lens, **dims, page_size=64, dtype=torch.bfloat16, device="cuda")
    scale = 192**-0.5
    bind(**tensors, softmax_scale=scale)()
    out, _ = expected(tensors, scale)
    assert (tensors["out"].double() - out).norm() / out.norm() < 4e-3
