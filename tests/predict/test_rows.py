"""The rows: golden figures of the papers, and the same numbers as in a sweep."""

from typing import Any

import pytest

from mlabench.cases.axes import Value
from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import NO_MODEL, choose_models
from mlabench.predict.rows import make_points, predict_rows


def rows(
    *models: str, gpus: tuple[str, ...] = ("h200-sxm",), tps: tuple[int, ...] = (1,), **axes: Value | tuple[Value, ...]
) -> list[dict[str, Any]]:
    chosen = choose_models(models) or (NO_MODEL,)
    lists = {name: values if isinstance(values, tuple) else (values,) for name, values in axes.items()}
    return list(predict_rows(make_points(chosen, lists, tps=tps), choose_gpus(gpus)))


@pytest.mark.parametrize(
    ("model", "bytes_per_token"), [("deepseek-v3", 70_272), ("qwen2.5-72b", 327_680), ("llama-3.1-405b", 516_096)]
)
def test_cache_of_a_token_is_the_published_one(model: str, bytes_per_token: int) -> None:
    # "Insights into DeepSeek-V3" (arXiv 2505.09343), table 1.
    (row,) = rows(model)
    assert row["kv_cache_bytes_per_token"] == bytes_per_token


def test_every_split_of_the_93_percent_is_one_of_precision_baseline_and_layers() -> None:
    # DeepSeek-V2 (arXiv 2405.04434), figure 1b: 93.3% less than DeepSeek 67B, a GQA model, and at 6 bits an element.
    v2, baseline = (rows(model)[0]["kv_cache_bytes_per_token"] for model in ("deepseek-v2", "deepseek-67b"))
    assert (v2, baseline) == (69_120, 389_120)
    assert 1 - v2 * 6 / 16 / baseline == pytest.approx(0.9334, abs=5e-5)
    assert 1 - v2 / baseline == pytest.approx(0.8224, abs=5e-5)
    (mha,) = rows("deepseek-v2", variant="mha")
    assert mha["kv_cache_bytes_per_token"] / v2 == pytest.approx(56.9, abs=0.05)


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_numbers_are_those_of_a_sweep(phase: str) -> None:
    axes: dict[str, Any] = {"phase": (phase,), "batch": (1, 32), "kv_len": (1000, 4096)}
    names = ["deepseek-v3", "llama-3.1-8b", "falcon-7b", "llama-2-7b"]
    cases = [(c.kv_cache_bytes, c.bytes_moved, c.flops, c.batch, c.kv_len) for c in make_cases(axes, names)]
    predicted = rows(*names, **axes)
    assert [tuple(row[n] for n in ("kv_cache_bytes", "bytes_moved", "flops", "batch", "kv_len")) for row in predicted]
    assert sorted(cases) == sorted(
        tuple(row[n] for n in ("kv_cache_bytes", "bytes_moved", "flops", "batch", "kv_len")) for row in predicted
    )


def test_long_caches_reach_the_ceilings_of_the_speed_up() -> None:
    (h200, a100) = rows("deepseek-v3", gpus=("h200-sxm", "a100-sxm-80gb"), batch=128, kv_len=1 << 22)
    assert (h200["bound"], a100["bound"]) == ("compute", "compute")
    assert h200["floor_speedup_vs_mha"] == pytest.approx(48.5, abs=0.05)
    assert a100["floor_speedup_vs_mha"] == pytest.approx(36.0, abs=0.05)
    assert h200["floor_speedup_vs_gqa"] == pytest.approx(3.03, abs=0.005)
    assert h200["floor_speedup_vs_mla"] is None


def test_speedups_are_quotients_of_the_floors() -> None:
    by_name = {row["variant"]: row for row in rows(variant=("mha", "gqa", "mqa", "mla"), kv_len=8192, batch=8)}
    for name, row in by_name.items():
        for other in set(by_name) - {name}:
            ratio = by_name[other]["floor_us"] / row["floor_us"]
            assert row[f"floor_speedup_vs_{other}"] == pytest.approx(ratio, rel=1e-12)


def test_what_a_variant_lacks_is_null() -> None:
    (latent, grouped) = rows(variant=("mla", "mqa"))
    assert (latent["form"], latent["num_kv_heads"]) == ("absorbed", None)
    assert (grouped["form"], grouped["num_kv_heads"]) == (None, 1)
    assert latent["model"] is latent["kv_cache_bytes_per_token"] is None
    (odd,) = rows("falcon-7b")
    assert odd["floor_speedup_vs_gqa"] is None, "71 query heads have no 8 KV heads"


def test_a_rate_that_is_not_published_gives_no_floor() -> None:
    (row,) = rows("deepseek-v3", dtype="float32")
    assert (row["floor_us"], row["bound"], row["floor_speedup_vs_mha"]) == (None, None, None)
    assert row["memory_us"] > 0


def test_a_rank_holds_its_share_and_the_model_keeps_its_name() -> None:
    one, eight = rows("llama-3.1-405b", tps=(1, 8))
    assert (one["variant"], eight["variant"], eight["num_kv_heads"]) == ("gqa", "gqa", 8)
    assert eight["kv_cache_bytes_per_token"] == one["kv_cache_bytes_per_token"] / 8 == 64_512
    assert eight["kv_cache_bytes_all_ranks"] == one["kv_cache_bytes_all_ranks"]
    one, eight = rows("deepseek-v3", tps=(1, 8))
    assert eight["kv_cache_bytes_per_token"] == one["kv_cache_bytes_per_token"] == 70_272
    assert eight["kv_cache_bytes_all_ranks"] == 8 * one["kv_cache_bytes_all_ranks"]


def test_replicas_multiply_what_all_ranks_hold_and_nothing_else() -> None:
    points = make_points(choose_models(["deepseek-v3"]), {}, dps=(1, 32))
    one, many = predict_rows(points, choose_gpus(["h200"]))
    differing = {name for name in one if one[name] != many[name]}
    assert differing == {"dp", "kv_cache_bytes_all_ranks"}
    assert many["kv_cache_bytes_all_ranks"] == 32 * one["kv_cache_bytes_all_ranks"]


def test_where_keeps_points_and_leaves_out_what_cannot_be() -> None:
    points = make_points([NO_MODEL], {"q_len": (1, 8), "kv_len": (4, 4096)}, "q_len <= kv_len and flops > 1e9")
    assert [(point.case.q_len, point.case.kv_len) for point in points] == [(1, 4096), (8, 4096)]


def test_impossible_ranks_are_refused() -> None:
    with pytest.raises(UsageError, match="choose among 1, 2, 4"):
        rows("qwen2.5-7b", tps=(3,))
