"""The float64 references against formulas written out here, and the three forms of MLA against each other."""

import itertools
import math

import pytest
import torch

from mla_kernels import reference, reference_memory
from tests.mla_kernels import cases, prefill_cases

SCALE = 0.2
LENS = (0, 1, 2, 33)


def naive(q, keys, values, q_len, scale):
    """One request, one head, query by query: q [q_len, d], keys [kv_len, d], values [kv_len, v]; lists of rows."""
    outs, lses = [], []
    for i in range(q_len):
        seen = len(keys) - q_len + i + 1
        if seen <= 0:
            outs.append(torch.zeros(values.shape[1], dtype=torch.float64))
            lses.append(-math.inf)
            continue
        scores = [float(torch.dot(q[i], keys[j])) * scale for j in range(seen)]
        top = max(scores)
        weights = [math.exp(s - top) for s in scores]
        total = math.fsum(weights)
        outs.append(sum(w / total * values[j] for j, w in enumerate(weights)))
        lses.append(top + math.log(total))
    return torch.stack(outs), torch.tensor(lses, dtype=torch.float64)


def contiguous(cache, block_table, b, kv_len):
    """The rows of request b, walked token by token."""
    page_size = cache.shape[1]
    rows = [cache[int(block_table[b, t // page_size]), t % page_size] for t in range(kv_len)]
    return torch.stack(rows).double() if rows else torch.zeros(0, *cache.shape[2:], dtype=torch.float64)


def expect_close(got, want):
    assert torch.allclose(got, want, rtol=1e-12, atol=1e-13), float((got - want).abs().nan_to_num().max())


@pytest.mark.parametrize(("q_len", "page_size"), [(1, 16), (3, 4), (2, 1)])
@pytest.mark.parametrize(("num_q_heads", "num_kv_heads"), [(3, 3), (4, 2), (5, 1)])
def test_grouped_matches_the_formula(q_len, page_size, num_q_heads, num_kv_heads):
    inputs = cases.grouped(LENS, q_len, num_q_heads, num_kv_heads, qk_dim=6, v_dim=4, page_size=page_size)
    out, lse = reference.grouped_decode(**inputs, softmax_scale=SCALE)
    assert out.dtype == lse.dtype == torch.float64
    for b, kv_len in enumerate(LENS):
        keys = contiguous(inputs["k_cache"], inputs["block_table"], b, kv_len)
        values = contiguous(inputs["v_cache"], inputs["block_table"], b, kv_len)
        for h in range(num_q_heads):
            kv_head = h * num_kv_heads // num_q_heads
            want = naive(inputs["q"][b, :, h].double(), keys[:, kv_head], values[:, kv_head], q_len, SCALE)
            expect_close(out[b, :, h], want[0])
            expect_close(lse[b, :, h], want[1])


@pytest.mark.parametrize("q_len", [1, 3])
def test_recompute_matches_the_formula(q_len):
    inputs = cases.recompute(LENS, q_len, num_q_heads=3, kv_lora_rank=8, nope_dim=4, rope_dim=2, v_head_dim=5)
    out, lse = reference.mla_recompute_decode(**inputs, v_head_dim=5, softmax_scale=SCALE)
    for b, kv_len in enumerate(LENS):
        cached = contiguous(inputs["kv_cache"], inputs["block_table"], b, kv_len)
        for h, weight in enumerate(inputs["kv_b_proj"].double()):
            nope, values = cached[:, :8] @ weight[:4].T, cached[:, :8] @ weight[4:].T
            keys = torch.cat((nope, cached[:, 8:]), dim=1)
            want = naive(inputs["q"][b, :, h].double(), keys, values, q_len, SCALE)
            expect_close(out[b, :, h], want[0])
            expect_close(lse[b, :, h], want[1])


@pytest.mark.parametrize("q_len", [1, 3])
def test_absorbed_recomputed_and_expanded_mla_agree(q_len):
    nope_dim, rope_dim, rank, v_head_dim, heads = 16, 8, 32, 12, 5
    inputs = cases.recompute(LENS, q_len, heads, rank, nope_dim, rope_dim, v_head_dim, page_size=8, dtype=torch.float64)
    q, cache, kv_b_proj = inputs["q"], inputs["kv_cache"], inputs["kv_b_proj"]
    where = {"block_table": inputs["block_table"], "kv_lens": inputs["kv_lens"], "softmax_scale": SCALE}
    out, lse = reference.mla_recompute_decode(**inputs, v_head_dim=v_head_dim, softmax_scale=SCALE)

    w_uk, w_uv = kv_b_proj[:, :nope_dim], kv_b_proj[:, nope_dim:]
    absorbed_q = torch.cat((torch.einsum("bqhn,hnc->bqhc", q[..., :nope_dim], w_uk), q[..., nope_dim:]), dim=-1)
    latent_out, absorbed_lse = reference.mla_absorbed_decode(absorbed_q, cache, kv_lora_rank=rank, **where)
    expect_close(torch.einsum("bqhc,hvc->bqhv", latent_out, w_uv), out)
    expect_close(absorbed_lse, lse)

    keys = torch.einsum("psc,hnc->pshn", cache[..., :rank], w_uk)
    rope = cache[:, :, None, rank:].expand(-1, -1, heads, -1)
    values = torch.einsum("psc,hvc->pshv", cache[..., :rank], w_uv)
    expanded = reference.grouped_decode(q, torch.cat((keys, rope), dim=-1), values, **where)
    expect_close(expanded[0], out)
    expect_close(expanded[1], lse)


def test_slices_of_heads_change_nothing(monkeypatch):
    inputs = cases.grouped((40, 7), q_len=2, num_q_heads=8, num_kv_heads=4)
    more = cases.recompute((40, 7), q_len=2)
    whole = reference.grouped_decode(**inputs, softmax_scale=SCALE)
    whole_mla = reference.mla_recompute_decode(**more, v_head_dim=16, softmax_scale=SCALE)
    monkeypatch.setattr(reference_memory, "TEMPORARY_BYTES", 1)
    for got, want in zip(reference.grouped_decode(**inputs, softmax_scale=SCALE), whole, strict=True):
        expect_close(got, want)
    sliced = reference.mla_recompute_decode(**more, v_head_dim=16, softmax_scale=SCALE)
    for got, want in zip(sliced, whole_mla, strict=True):
        expect_close(got, want)


@pytest.mark.parametrize("temporary_bytes", [reference_memory.TEMPORARY_BYTES, 32 * 33 * 3 * 4, 1])
@pytest.mark.parametrize(("num_q_heads", "num_kv_heads"), [(3, 3), (4, 2), (5, 1)])
def test_prefill_matches_the_formula_whatever_the_blocks(num_q_heads, num_kv_heads, temporary_bytes, monkeypatch):
    monkeypatch.setattr(reference_memory, "TEMPORARY_BYTES", temporary_bytes)
    lens, q_lens = (0, 1, 2, 33, 20, 20), (2, 1, 4, 9, 20, 0)
    inputs = prefill_cases.grouped(lens, q_lens, num_q_heads, num_kv_heads, qk_dim=6, v_dim=4, page_size=4)
    out, lse = reference.grouped_prefill(**inputs, softmax_scale=SCALE)
    assert out.dtype == lse.dtype == torch.float64
    for b, (start, stop) in enumerate(itertools.pairwise(inputs["q_starts"].tolist())):
        keys = contiguous(inputs["k_cache"], inputs["block_table"], b, lens[b])
        values = contiguous(inputs["v_cache"], inputs["block_table"], b, lens[b])
        for h in range(num_q_heads if q_lens[b] else 0):
            kv_head = h * num_kv_heads // num_q_heads
            q = inputs["q"][start:stop, h].double()
            want = naive(q, keys[:, kv_head], values[:, kv_head], q_lens[b], SCALE)
            expect_close(out[start:stop, h], want[0])
            expect_close(lse[start:stop, h], want[1])


def test_absorbed_prefill_is_grouped_prefill_over_one_shared_head():
    inputs = prefill_cases.packed(cases.mla((5, 40), num_q_heads=3, kv_lora_rank=8, rope_dim=4), (5, 7))
    out, lse = reference.mla_absorbed_prefill(**inputs, kv_lora_rank=8, softmax_scale=SCALE)
    for b, (start, stop) in enumerate(itertools.pairwise(inputs["q_starts"].tolist())):
        latents = contiguous(inputs["kv_cache"], inputs["block_table"], b, (5, 40)[b])
        for h in range(3):
            want = naive(inputs["q"][start:stop, h].double(), latents, latents[:, :8], stop - start, SCALE)
            expect_close(out[start:stop, h], want[0])
            expect_close(lse[start:stop, h], want[1])


@pytest.fixture
def scores_bytes(monkeypatch) -> list[int]:
    """Of each array of scores that the reference makes."""
    sizes, attend = [], reference._attend

    def watched(rows, k, *rest):
        sizes.append(rows.shape[0] * rows.shape[1] * k.shape[1] * 8)
        return attend(rows, k, *rest)

    monkeypatch.setattr(reference, "_attend", watched)
    return sizes


def test_no_array_of_a_long_prompt_is_larger_than_a_quarter_of_the_limit(scores_bytes, monkeypatch):
    limit = 1 << 20
    monkeypatch.setattr(reference_memory, "TEMPORARY_BYTES", limit)
    inputs = prefill_cases.packed(cases.mla((600,), num_q_heads=16), (600,))
    reference.mla_absorbed_prefill(**inputs, kv_lora_rank=32, softmax_scale=SCALE)
    assert len(scores_bytes) > 100
    assert max(scores_bytes) <= limit // 4


def test_heads_at_once_are_as_few_as_their_scores_allow(scores_bytes, monkeypatch):
    limit = 1 << 23
    monkeypatch.setattr(reference_memory, "TEMPORARY_BYTES", limit)
    inputs = prefill_cases.grouped((600,), (64,), 32, 16, qk_dim=16, v_dim=16)
    reference.grouped_prefill(**inputs, softmax_scale=SCALE)
    assert 1 < len(scores_bytes) < 16
    assert max(scores_bytes) <= limit // 2


def test_a_packed_query_of_no_request_sees_nothing():
    inputs = prefill_cases.grouped((9, 20), (3, 2), 4, 2, qk_dim=6, v_dim=4)
    more = inputs | {"q": torch.cat((inputs["q"], inputs["q"]))}
    for got, want, blind in zip(
        reference.grouped_prefill(**more, softmax_scale=SCALE),
        reference.grouped_prefill(**inputs, softmax_scale=SCALE),
        (0.0, -math.inf),
        strict=True,
    ):
        assert got[:5].equal(want)
        assert bool((got[5:] == blind).all())
