"""Bytes and FLOP of cases, against values worked out by hand or printed in papers."""

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import DEFAULT_SHAPE, make_cases
from mlabench.cases.models import load_presets, num_attention_layers
from mlabench.errors import UsageError


def case_of(**values: object) -> Case:
    return Case.from_fields({**DEFAULT_SHAPE, **values})


@pytest.mark.parametrize(
    ("values", "bytes_per_token"),
    [
        ({"variant": "mha"}, 65_536),
        ({"variant": "gqa"}, 4_096),
        ({"variant": "mqa"}, 512),
        ({"variant": "mla", "form": "absorbed"}, 1_152),
        ({"variant": "mla", "form": "recompute"}, 1_152),
        ({"variant": "mla", "form": "expanded"}, 81_920),
        ({"variant": "mla", "dtype": "float32"}, 2_304),
    ],
)
def test_cache_bytes_per_token_and_layer(values: dict[str, object], bytes_per_token: int) -> None:
    assert case_of(**values).kv_cache_bytes_per_token == bytes_per_token


@pytest.mark.parametrize(
    ("model", "kilobytes"),
    [("deepseek-v3", 70.272), ("qwen2.5-72b", 327.680), ("llama-3.1-405b", 516.096), ("deepseek-67b", 389.12)],
)
def test_published_cache_bytes_per_token(model: str, kilobytes: float) -> None:
    (case,) = make_cases({}, [model])
    assert case.kv_cache_bytes_per_token * num_attention_layers(model) == round(kilobytes * 1000)


@pytest.mark.parametrize(
    ("values", "flops_per_cached_token"),
    [
        ({"variant": "mha"}, 2 * 128 * 256),
        ({"variant": "gqa"}, 2 * 128 * 256),
        ({"variant": "mla", "form": "expanded"}, 81_920),
        ({"variant": "mla", "form": "absorbed"}, 278_528),
        ({"variant": "mla", "form": "recompute"}, 81_920 + 33_554_432),
    ],
)
def test_decode_flops_per_cached_token(values: dict[str, object], flops_per_cached_token: int) -> None:
    case = case_of(**values, batch=3, kv_len=1000)
    assert case.flops == 3 * 1000 * flops_per_cached_token


def test_causal_mask_among_new_tokens_counts_only_visible_pairs() -> None:
    case = case_of(variant="mqa", num_q_heads=1, q_len=4, kv_len=10)
    visible = 7 + 8 + 9 + 10
    assert case.attended_pairs == visible
    assert case.flops == 2 * visible * 2 * 128


def test_pages_round_up_but_tokens_do_not() -> None:
    case = case_of(variant="mla", batch=2, kv_len=65, page_size=64)
    assert case.num_pages == 4
    assert case.kv_cache_bytes == 2 * 65 * 1152
    assert case.kv_cache_allocated_bytes == 4 * 64 * 1152


def test_bytes_moved_adds_what_is_read_and_written_once() -> None:
    case = case_of(variant="mla", batch=2, kv_len=128)
    query, out, lse = 2 * 128 * 576 * 2, 2 * 128 * 512 * 2, 2 * 128 * 4
    tables = 2 * 2 * 4 + 2 * 4
    assert case.bytes_moved == 2 * 128 * 1152 + query + out + lse + tables


def test_recompute_reads_its_expansion_weights() -> None:
    recompute = case_of(variant="mla", form="recompute")
    (weight,) = [spec for spec in recompute.specs if spec.role == "weight"]
    assert weight.nbytes == 128 * 256 * 512 * 2
    assert recompute.bytes_moved > weight.nbytes


@pytest.mark.parametrize("batch", [2, 7, 32, 128])
def test_ragged_lengths_keep_the_total_and_differ(batch: int) -> None:
    case = case_of(batch=batch, kv_len=1000, kv_len_dist="ragged")
    assert sum(case.kv_lens) == batch * 1000
    assert min(case.kv_lens) >= 1
    assert len(set(case.kv_lens)) > 1
    assert case.flops == case_of(batch=batch, kv_len=1000).flops


def test_case_id_depends_on_every_value_but_not_on_the_models_name() -> None:
    base = make_cases({})[0]
    assert base.case_id == make_cases({}, ["deepseek-v3"])[0].case_id
    ids = {case_of(**{name: value}).case_id for name, value in [("batch", 2), ("kv_len", 1), ("form", "expanded")]}
    assert base.case_id not in ids
    assert len(ids) == 3


def test_case_id_is_stable_across_versions() -> None:
    assert case_of().case_id == "a380e800a240"


@pytest.mark.parametrize("model", load_presets())
def test_fields_build_the_same_case_again(model: str) -> None:
    for case in make_cases({"form": ("absorbed", "recompute", "expanded")}, [model]):
        again = Case.from_fields(case.to_fields())
        assert again == case
        assert again.case_id == case.case_id


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"variant": "gqa", "num_q_heads": 20}, "num_q_heads 20 is not a multiple of num_kv_heads 8"),
        ({"batch": 0}, "batch=0 must be a positive whole number"),
        ({"kv_len": -5}, "kv_len=-5"),
        ({"variant": "mlla"}, "did you mean mla"),
        ({"kv_len": 2, "q_len": 3}, "kv_len 2 is under q_len 3"),
    ],
)
def test_impossible_sizes_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        case_of(**values)


def test_expanded_form_takes_the_grouped_kernels() -> None:
    assert case_of(variant="mla", form="expanded").variant.contract == "grouped"
    assert case_of(variant="mla", form="absorbed").variant.contract == "mla_absorbed"


def test_padding_of_a_ragged_block_table_is_no_traffic() -> None:
    case = case_of(variant="mqa", batch=4, kv_len=64, kv_len_dist="ragged", page_size=16)
    (table,) = [spec for spec in case.specs if spec.name == "block_table"]
    assert table.nbytes > 4 * case.num_pages
    others = sum(spec.nbytes for spec in case.specs if spec.role in ("query", "output")) + 4 * 4
    assert case.bytes_moved == case.kv_cache_bytes + others + 4 * case.num_pages
