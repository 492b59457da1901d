"""The checks' own values, held against the papers' tables and figures worked out by hand."""

from collections.abc import Mapping
from math import prod
from typing import Any

import pytest

from mlabench.claims import cache, published, serving, work


@pytest.mark.parametrize(
    ("model", "cache_bytes"), [("deepseek-v3", 70_272), ("qwen2.5-72b", 327_680), ("llama-3.1-405b", 516_096)]
)
def test_published_bytes_of_a_token_come_out_exactly(model: str, cache_bytes: int) -> None:
    assert cache.token_bytes(model) == cache_bytes


def test_93_percent_is_layers_times_width_times_precision() -> None:
    layers = cache.layers_ratio("deepseek-v2", "deepseek-67b")
    width = cache.share("deepseek-v2", "deepseek-67b")
    assert (layers, width) == (60 / 95, 576 / 2048)
    saved = cache.token_reduction("deepseek-v2", "deepseek-67b", bits=6)
    assert saved == pytest.approx(1 - prod((layers, width, 6 / 16)), rel=1e-12)
    assert round(saved, 3) == 0.933
    assert cache.token_bytes("deepseek-v2", bits=6) == 25_920
    assert cache.token_bytes("deepseek-67b") == 389_120


def test_ranks_hold_the_whole_latent_but_their_share_of_heads() -> None:
    assert {cache.layer_bytes("deepseek-v3", tp) for tp in (1, 2, 8)} == {1152}
    assert cache.layer_bytes("deepseek-v3 gqa", 8) == 512
    assert cache.layer_bytes("deepseek-v3 expanded", 8) == 16 * 320 * 2


def test_float8_layouts() -> None:
    assert cache.fp8_layer_bytes("deepseek-v3") == 656
    assert cache.fp8_layer_bytes("deepseek-v3.2", index=True) == 788
    assert cache.fp8_token_bytes("deepseek-v3.2", index=True) == 788 * 61


@pytest.mark.parametrize(
    ("of", "flops"), [("deepseek-v3 mha", 65_536), ("deepseek-v3 expanded", 81_920), ("deepseek-v3", 278_528)]
)
def test_flop_of_a_cached_token(of: str, flops: int) -> None:
    assert work.pair_flops(of) == flops


def test_expansion_costs_what_a_latent_times_the_up_projection_does() -> None:
    assert work.expansion_flops("deepseek-v3 recompute") == 2 * 512 * 128 * 256
    assert work.expansion_flops("deepseek-v3") == 0


@pytest.mark.parametrize(
    ("of", "millions"),
    [
        ("deepseek-v3", 187.1),
        ("deepseek-v3 mha", 469.8),
        ("deepseek-v3 gqa", 249.6),
        ("deepseek-v3 premultiplied", 598.2),
    ],
)
def test_weights_of_a_layer(of: str, millions: float) -> None:
    assert work.layer_weights(of) / 1e6 == pytest.approx(millions, abs=0.06)


def test_a_layer_takes_more_flop_than_mha_only_behind_the_crossing() -> None:
    level = work.layer_flops_cross("deepseek-v3", "deepseek-v3 mha")
    assert round(level) == 2654
    below, above = (work.layer_flops_ratio("deepseek-v3", "deepseek-v3 mha", kv_len) for kv_len in (2654, 2655))
    assert below < 1 < above


@pytest.mark.parametrize(
    ("gpu", "heads"), [("a100-sxm-80gb", 81), ("h200-sxm", 109), ("b200-hgx", 149), ("mi300x", 131)]
)
def test_heads_from_which_mla_is_compute_bound(gpu: str, heads: int) -> None:
    assert work.critical_heads("deepseek-v3", gpu) == pytest.approx(heads, abs=0.7)
    assert (work.over_ridge("deepseek-v3", gpu) > 1) == (heads < 128)


@pytest.mark.parametrize(
    ("over", "gpu", "speedup"),
    [
        ("deepseek-v3 mha", "h200-sxm", 48.5),
        ("deepseek-v3 mha", "a100-sxm-80gb", 36.0),
        ("deepseek-v3 gqa", "h200-sxm", 3.03),
        ("deepseek-v3 gqa", "a100-sxm-80gb", 2.25),
    ],
)
def test_no_speed_up_can_pass_the_roofline(over: str, gpu: str, speedup: float) -> None:
    assert work.floor_speedup("deepseek-v3", over, gpu) == pytest.approx(speedup, rel=0.005)


def test_a_mixture_of_experts_adds_up() -> None:
    sizes: Mapping[str, Any] = {
        "of": "deepseek-v3",
        "vocabulary": 129280,
        "dense_layers": 3,
        "dense_width": 18432,
        "shared": 1,
        "expert_width": 2048,
    }
    routed = published.parameters_in_billions(**sizes, experts=256) - published.parameters_in_billions(
        **sizes, experts=8
    )
    assert routed == pytest.approx(58 * 248 * 3 * 7168 * 2048 / 1e9)


def test_ranks_copy_what_has_no_heads_to_split() -> None:
    assert [serving.copies("deepseek-v3", tp) for tp in (1, 8)] == [1, 8]
    assert [serving.copies("deepseek-v3 gqa", tp) for tp in (8, 16)] == [1, 2]


def test_new_tokens_from_which_expanding_a_prefix_pays() -> None:
    assert serving.level_new_tokens("deepseek-v3") == pytest.approx(512 * 256 / (1088 - 320))


@pytest.mark.parametrize(("gpu", "batch"), [("h100-sxm-80gb", 87), ("h200-sxm", 61), ("a100-sxm-80gb", 45)])
def test_requests_from_which_expanding_a_shared_prefix_pays(gpu: str, batch: int) -> None:
    level = serving.shared_prefix_batch("deepseek-v3", gpu)
    assert round(level) == batch
    below, above = (serving.shared_prefix_speedup("deepseek-v3", gpu, round(level) + step) for step in (-1, 1))
    assert below < 1 < above


def test_sparse_attention_is_level_where_the_indexer_has_eaten_its_gain() -> None:
    level = serving.sparse_level("deepseek-v3.2")
    assert level == 2048 * 278_528 / (278_528 - 2 * 64 * 128)
    assert serving.sparse_flops_quotient("deepseek-v3.2", int(level)) == pytest.approx(1)
    assert serving.sparse_flops_quotient("deepseek-v3.2", int(level) + 1) > 1


def test_one_latent_for_all_heads_is_mla_s_own_intensity() -> None:
    own = work.pair_flops_per_byte_of_cache("deepseek-v3")
    assert serving.grouped_latent_intensity("deepseek-v3", 1) == own
    assert serving.grouped_latent_intensity("deepseek-v3", 2) == 128
