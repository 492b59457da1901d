"""Cases of the prefill phase: lengths, pairs, tensors and bytes; and that those of decode are what they were."""

import json
from pathlib import Path

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import DEFAULT_SHAPE, make_cases
from mlabench.errors import UsageError
from mlabench.records.record import ARITHMETIC

BASELINE = Path(__file__).parents[2] / "results" / "baselines" / "nvidia-h200" / "decode" / "records.jsonl"


def prefill(**values: object) -> Case:
    return Case.from_fields({**DEFAULT_SHAPE, "phase": "prefill", "variant": "gqa", **values})


def test_uniform_requests_have_the_lengths_as_given() -> None:
    case = prefill(batch=3, q_len=128, kv_len=512)
    assert case.q_lens == (128,) * 3
    assert case.kv_lens == (512,) * 3
    assert case.new_tokens == 384


@pytest.mark.parametrize(
    ("batch", "q_len", "kv_len"),
    [(7, 100, 1000), (32, 1, 300), (5, 999, 1000), (64, 1, 8192), (64, 2, 8192), (64, 3, 3)],
)
def test_ragged_requests_keep_the_total_and_the_share_of_new_tokens(batch: int, q_len: int, kv_len: int) -> None:
    case = prefill(batch=batch, q_len=q_len, kv_len=kv_len, kv_len_dist="ragged")
    assert len(set(case.kv_lens)) > 1
    for new, length in zip(case.q_lens, case.kv_lens, strict=True):
        assert 1 <= new <= length
        # What the shortest ones are given beyond their share is missing elsewhere.
        assert new == 1 or new < length * q_len / kv_len + 1
    in_order = [new for _, new in sorted(zip(case.kv_lens, case.q_lens, strict=True))]
    assert in_order == sorted(in_order)
    if kv_len > 100:
        assert sum(case.kv_lens) == batch * kv_len
        assert case.new_tokens == batch * q_len


def test_a_large_ragged_batch_is_split_by_largest_remainders() -> None:
    case = prefill(batch=5, q_len=4, kv_len=9, kv_len_dist="ragged")
    assert case.kv_lens == (6, 3, 1, 25, 10)
    assert case.q_lens == (3, 1, 1, 11, 4)


def test_whole_prompts_have_no_prefix_however_ragged() -> None:
    case = prefill(batch=9, q_len=700, kv_len=700, kv_len_dist="ragged")
    assert case.q_lens == case.kv_lens
    assert len(set(case.q_lens)) > 1
    assert case.new_tokens == 9 * 700


@pytest.mark.parametrize("q_len", [1, 13, 40])
@pytest.mark.parametrize("dist", ["uniform", "ragged"])
def test_pairs_are_those_under_the_causal_mask(q_len: int, dist: str) -> None:
    case = prefill(variant="mqa", num_q_heads=1, batch=5, q_len=q_len, kv_len=40, kv_len_dist=dist)
    pairs = sum(
        1
        for new, length in zip(case.q_lens, case.kv_lens, strict=True)
        for query in range(new)
        for key in range(length)
        if key <= length - new + query
    )
    assert case.attended_pairs == pairs
    assert case.flops == 2 * pairs * 2 * 128


@pytest.mark.parametrize(
    ("values", "flops_per_pair"),
    [
        ({"variant": "mha"}, 2 * 128 * 256),
        ({"variant": "mla", "form": "expanded"}, 81_920),
        ({"variant": "mla", "form": "absorbed"}, 278_528),
    ],
)
def test_a_whole_prompt_costs_half_a_square(values: dict[str, object], flops_per_pair: int) -> None:
    assert prefill(**values, batch=2, q_len=1000, kv_len=1000).flops == 2 * 500_500 * flops_per_pair


def test_queries_are_packed_and_their_starts_are_a_table() -> None:
    case = prefill(variant="mla", form="expanded", batch=4, q_len=30, kv_len=90, kv_len_dist="ragged")
    shapes = {spec.name: (spec.shape, spec.dtype, spec.role) for spec in case.specs}
    total = case.new_tokens
    assert total != 4 * 30 or len(set(case.q_lens)) > 1
    assert shapes["q"] == ((total, 128, 192), "bfloat16", "query")
    assert shapes["out"] == ((total, 128, 128), "bfloat16", "output")
    assert shapes["lse"] == ((total, 128), "float32", "output")
    assert shapes["q_starts"] == ((5,), "int32", "table")
    assert shapes["block_table"][0][0] == 4
    assert "q_starts" not in {spec.name for spec in prefill(phase="decode").specs}


def test_bytes_moved_counts_every_query_and_every_cached_token_once() -> None:
    case = prefill(variant="mla", form="absorbed", batch=2, q_len=100, kv_len=128)
    query, out, lse = 200 * 128 * 576 * 2, 200 * 128 * 512 * 2, 200 * 128 * 4
    page_ids, lengths, starts = 2 * 2 * 4, 2 * 4, 3 * 4
    assert case.bytes_moved == 2 * 128 * 1152 + query + out + lse + page_ids + lengths + starts
    assert case.memory_bytes == case.bytes_moved


@pytest.mark.parametrize(
    ("values", "contract"),
    [
        ({"variant": "mqa"}, "grouped_prefill"),
        ({"variant": "mla", "form": "expanded"}, "grouped_prefill"),
        ({"variant": "mla", "form": "absorbed"}, "mla_absorbed_prefill"),
        ({"variant": "mla", "form": "absorbed", "phase": "decode"}, "mla_absorbed"),
    ],
)
def test_a_phase_has_its_own_contracts(values: dict[str, object], contract: str) -> None:
    assert prefill(**values).contract == contract


def test_the_label_says_the_phase_and_the_new_tokens() -> None:
    assert prefill(q_len=128, kv_len=512).label == "GQA-8 (128 heads) batch 1 prefill q_len 128 kv_len 512 bfloat16"
    assert " batch 1 prefill q_len 1 kv_len 512 " in prefill(kv_len=512).label


def test_a_prefill_is_another_case_than_the_decode_of_its_lengths() -> None:
    case, decode = (prefill(q_len=2, kv_len=9, phase=phase) for phase in ("prefill", "decode"))
    assert case.case_id != decode.case_id
    assert Case.from_fields(case.to_fields()) == case
    assert (case.flops, case.kv_cache_bytes) == (decode.flops, decode.kv_cache_bytes)


def test_more_new_tokens_than_tokens_are_refused() -> None:
    with pytest.raises(UsageError, match="kv_len 2 is under q_len 3"):
        prefill(kv_len=2, q_len=3)


def test_without_q_len_whole_prompts_are_prefilled_and_one_token_is_decoded() -> None:
    axes = {"phase": ("decode", "prefill"), "kv_len": (256, 1024)}
    assert [(case.phase, case.q_len, case.kv_len) for case in make_cases(axes)] == [
        ("decode", 1, 256),
        ("decode", 1, 1024),
        ("prefill", 256, 256),
        ("prefill", 1024, 1024),
    ]
    assert [case.q_len for case in make_cases({**axes, "q_len": (128,)})] == [128] * 4


def test_cases_of_decode_are_what_the_baseline_stored() -> None:
    lines = BASELINE.read_text().splitlines()
    for plain in map(json.loads, lines):
        case = Case.from_fields(plain["case"])
        assert case.case_id == plain["case_id"]
        assert {name: getattr(case, name) for name in ARITHMETIC} == plain["arithmetic"]
    assert len(lines) == 451
