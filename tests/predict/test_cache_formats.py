"""Formats of the cache: published bytes of a token, and queries that stay what they are."""

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import DEFAULT_SHAPE
from mlabench.errors import UsageError
from mlabench.predict.cache_formats import costs_in_format, parse_cache_formats
from mlabench.predict.costs import costs_of, counts_of
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import Row, make_points, predict_rows


def row(model: str, cache_format: str | None, **axes: object) -> Row:
    points = make_points(
        choose_models([model]), {name: (value,) for name, value in axes.items()}, cache_formats=(cache_format,)
    )
    (found,) = predict_rows(points, choose_gpus(["h200-sxm"]))
    return found


@pytest.mark.parametrize(
    ("cache_format", "bytes_per_token"),
    # 576 elements; FlashMLA's README: 512 + 4 * 4 + 64 * 2.
    [("bfloat16", 1152), ("float16", 1152), ("float8", 576), ("fp8_656", 656), (None, 1152), ("model", 1152)],
)
def test_a_token_of_deepseek_v3_takes_the_published_bytes(cache_format: str | None, bytes_per_token: int) -> None:
    found = row("deepseek-v3", cache_format)
    assert found["kv_cache_bytes_per_token_per_layer"] == bytes_per_token
    assert found["kv_cache_bytes_per_token"] == 61 * bytes_per_token


@pytest.mark.parametrize(("cache_format", "bytes_per_token"), [("model", 788), ("bfloat16", 1284)])
def test_the_indexers_cache_counts_in_the_total(cache_format: str, bytes_per_token: int) -> None:
    # DeepSeek-V3.2-Exp, inference/model.py: 128 float8 and a float32 scale, beside the latent's 656 bytes: 48.07 kB.
    found = row("deepseek-v3.2", cache_format, kv_len=1000)
    assert found["kv_cache_bytes_per_token"] == 61 * bytes_per_token
    assert found["kv_cache_bytes_all_layers"] == 61 * bytes_per_token * 1000
    assert found["kv_cache_bytes"] == (bytes_per_token - 132) * 1000


def test_another_variant_has_no_indexer() -> None:
    assert row("deepseek-v3.2", None, variant="mha")["kv_cache_bytes_per_token"] == 61 * 2 * 128 * 128 * 2


def test_layers_with_a_window_keep_no_more_than_it() -> None:
    # gpt-oss-120b: 2 * 8 heads of 64 in bfloat16 are 2,048 B; 18 layers keep all of 8,192 tokens, 18 the last 128.
    found = row("gpt-oss-120b", None, kv_len=8192, batch=3)
    assert found["kv_cache_bytes_per_token"] == 18 * 2048
    assert found["kv_cache_bytes_all_layers"] == 3 * 18 * (8192 + 128) * 2048
    short = row("gpt-oss-120b", None, kv_len=100)
    assert short["kv_cache_bytes_all_layers"] == 36 * 100 * 2048


def test_each_request_of_a_ragged_batch_has_its_own_window() -> None:
    axes: dict[str, object] = {"kv_len": 128, "batch": 8, "kv_len_dist": "ragged"}
    case = make_points(choose_models(["gpt-oss-120b"]), {name: (value,) for name, value in axes.items()})[0].case
    kept = sum(min(128, length) for length in case.kv_lens)
    assert kept < 8 * 128 == sum(case.kv_lens)
    assert row("gpt-oss-120b", None, **axes)["kv_cache_bytes_all_layers"] == 18 * 2048 * (8 * 128 + kept)


def test_only_the_cache_follows_the_format() -> None:
    case = Case.from_fields({**DEFAULT_SHAPE, "batch": 4, "kv_len": 1000})
    plain, small = costs_of(case), costs_in_format(case, case.variant, "fp8_656")
    counts = counts_of(case)
    assert plain.bytes_moved(counts) - small.bytes_moved(counts) == 4 * 1000 * (1152 - 656)
    assert plain.flops(counts) == small.flops(counts)
    assert plain.bytes_per_query == small.bytes_per_query


@pytest.mark.parametrize(
    ("values", "cache_format", "complaint"),
    [
        ({"variant": "gqa"}, "fp8_656", "GQA-8"),
        ({"form": "expanded"}, "fp8_656", "does not cache"),
        ({"kv_lora_rank": 341}, "fp8_656", "multiple of 128"),
        ({"scope": "layer", "hidden_size": 7168}, "float8", "scope=layer"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(values: dict[str, object], cache_format: str, complaint: str) -> None:
    case = Case.from_fields({**DEFAULT_SHAPE, **values})
    with pytest.raises(UsageError, match=complaint):
        costs_in_format(case, case.variant, cache_format)


def test_formats_are_a_list_of_known_names() -> None:
    assert parse_cache_formats(["bfloat16,float8", "float8"]) == ("bfloat16", "float8")
    assert parse_cache_formats([]) == (None,)
    with pytest.raises(UsageError, match=r"float9.*did you mean float8"):
        parse_cache_formats(["float9"])
