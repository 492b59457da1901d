"""The torch prefill kernels against the float64 reference on the CPU."""

import pytest
import torch

from mla_kernels import grouped_prefill_torch, mla_prefill_torch, paged_torch, reference
from tests.mla_kernels import cases, prefill_cases

SCALE = 0.15
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
LENS, Q_LENS = (65, 1, 130, 64, 1000, 7), (65, 1, 31, 64, 3, 0)
"""Whole prompts, prefixes, and a request without a new token."""


def grouped(lens=LENS, q_lens=Q_LENS, **sizes):
    return prefill_cases.with_outputs(prefill_cases.grouped(lens, q_lens, **sizes))


def mla(lens=LENS, q_lens=Q_LENS, **sizes):
    return cases.with_outputs(prefill_cases.packed(cases.mla(lens, **sizes), q_lens), 32)


def expect_right(module, tensors):
    launch = module.bind(**tensors, softmax_scale=SCALE)
    assert launch() is None
    inputs = {name: tensor for name, tensor in tensors.items() if name not in ("out", "lse")}
    if module is grouped_prefill_torch:
        out, lse = reference.grouped_prefill(**inputs, softmax_scale=SCALE)
    else:
        out, lse = reference.mla_absorbed_prefill(**inputs, kv_lora_rank=32, softmax_scale=SCALE)
    assert cases.mismatch(tensors["q"].dtype, tensors["out"], out, None, lse) == ""
    assert bool(tensors["lse"].isnan().all())
    return launch


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("page_size", [1, 16, 64])
def test_ragged_batches_with_and_without_prefixes(page_size, dtype):
    launch = expect_right(grouped_prefill_torch, grouped(page_size=page_size, dtype=dtype))
    assert launch.workspace_bytes == 2 * 1000 * 2 * 32 * dtype.itemsize
    launch = expect_right(mla_prefill_torch, mla(page_size=page_size, dtype=dtype))
    assert launch.workspace_bytes == 1000 * 48 * dtype.itemsize


@pytest.mark.parametrize("at_once", [1, 7, 64])
def test_blocks_of_queries(at_once, monkeypatch):
    monkeypatch.setattr(paged_torch, "QUERIES_AT_ONCE", at_once)
    expect_right(grouped_prefill_torch, grouped((130, 200), (31, 130)))
    expect_right(mla_prefill_torch, mla((130, 200), (31, 130)))


@pytest.mark.parametrize("limit_bytes", [1, 50_000, 1 << 29])
def test_the_products_that_gpus_run_are_right_on_any_device(limit_bytes, monkeypatch):
    monkeypatch.setattr(mla_prefill_torch, "_fused", mla_prefill_torch._in_products)
    monkeypatch.setattr(mla_prefill_torch, "SCORES_LIMIT_BYTES", limit_bytes)
    expect_right(mla_prefill_torch, mla())


@pytest.mark.parametrize(("num_q_heads", "num_kv_heads"), [(1, 1), (6, 3), (20, 4), (71, 1)])
def test_head_counts(num_q_heads, num_kv_heads):
    lens, q_lens = (65, 130), (65, 20)
    expect_right(grouped_prefill_torch, grouped(lens, q_lens, num_q_heads=num_q_heads, num_kv_heads=num_kv_heads))
    expect_right(mla_prefill_torch, mla(lens, q_lens, num_q_heads=num_q_heads))


@pytest.mark.parametrize(("qk_dim", "v_dim"), [(24, 16), (80, 80), (192, 128), (16, 32)])
def test_head_dims_may_differ(qk_dim, v_dim):
    launch = expect_right(grouped_prefill_torch, grouped((5, 70), (5, 9), qk_dim=qk_dim, v_dim=v_dim))
    # narrower values are copied as wide as the keys, without which the CPU's fused kernel does not run
    assert launch.workspace_bytes == 70 * 2 * (qk_dim + max(qk_dim, v_dim)) * 4


@pytest.mark.parametrize(("lens", "q_lens"), [((0, 3), (2, 5)), ((0, 0), (1, 3)), ((9,), (0,))])
def test_queries_that_see_nothing_are_zero(lens, q_lens):
    expect_right(grouped_prefill_torch, grouped(lens, q_lens))
    expect_right(mla_prefill_torch, mla(lens, q_lens))


@pytest.mark.parametrize(("module", "make"), [(grouped_prefill_torch, grouped), (mla_prefill_torch, mla)])
def test_rows_that_no_request_has_are_zero(module, make):
    tensors = make((20, 9), (7, 9))
    tensors["q_starts"][:] = torch.tensor([2, 6, 11])
    module.bind(**tensors, softmax_scale=SCALE)()
    used = tensors["out"].flatten(1).count_nonzero(1) > 0
    assert used.tolist() == [False] * 2 + [True] * 9 + [False] * 5
    assert not tensors["out"].isnan().any()


def test_calls_see_new_queries_and_cache():
    tensors = mla((70, 9), (20, 9))
    launch = mla_prefill_torch.bind(**tensors, softmax_scale=SCALE)
    launch()
    before = tensors["out"].clone()
    tensors["q"].neg_()
    tensors["kv_cache"].neg_()
    launch()
    assert tensors["out"].equal(-before)


@pytest.mark.parametrize(
    ("module", "tensors", "reason", "broken"),
    [
        (mla_prefill_torch, mla(), "kv_cache", torch.zeros(2, 16, 47)),
        (mla_prefill_torch, mla(), "q_starts", torch.zeros(3, dtype=torch.int32)),
        (mla_prefill_torch, mla((9,), (5,)), "q_starts is torch.int64", torch.tensor([0, 5])),
        (mla_prefill_torch, mla((9,), (5,)), "q_starts .* row 6, out has 5", torch.tensor([0, 6], dtype=torch.int32)),
        (mla_prefill_torch, mla(), "out", torch.zeros(164, 4, 32, dtype=torch.float16)),
        (grouped_prefill_torch, grouped(), "k_cache", torch.zeros(2, 16, 3, 32)),
        (grouped_prefill_torch, grouped(), "q_starts", torch.zeros(6, dtype=torch.int32)),
        (grouped_prefill_torch, grouped((9,), (5,)), "q_starts is torch.float32", torch.tensor([0.0, 5.0])),
        (grouped_prefill_torch, grouped((9,), (5,)), "q_starts .* row 6", torch.tensor([0, 6], dtype=torch.int32)),
        (grouped_prefill_torch, grouped(), "block_table", torch.zeros(5, 3, dtype=torch.int32)),
        (grouped_prefill_torch, grouped(num_q_heads=3), "num_q_heads", None),
    ],
)
def test_tensors_that_contradict_are_refused(module, tensors, reason, broken):
    changed = {} if broken is None else {reason.split()[0]: broken}
    with pytest.raises(ValueError, match=reason):
        module.bind(**tensors | changed, softmax_scale=SCALE)
