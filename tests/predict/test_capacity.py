"""What fits and how fast it decodes: numbers by hand, and what must hold of all."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlabench.cases.models import load_presets
from mlabench.errors import UsageError
from mlabench.predict.calibrate import calibrate
from mlabench.predict.capacity import Setup, check_some_fit, longest_request, plan_row
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import Row, make_points
from mlabench.predict.stacks import Stack
from mlabench.predict.weights import weights_of
from mlabench.records.store import load_run

BASELINE = Path(__file__).parents[2] / "results" / "baselines" / "nvidia-h200" / "decode"


def setup(
    model: str, tp: int = 1, dp: int = 1, cache_format: str | None = None, gpu: str = "h200-sxm", **given: Any
) -> Setup:
    axes = {name: (given.pop(name),) for name in ("kv_len", "variant") if name in given}
    (chosen,), gpus = choose_models([model]), choose_gpus([gpu])
    (point,) = make_points([chosen], axes, "", (tp,), (dp,), (cache_format,))
    return Setup(point, gpus[0], weights_of(chosen), **given)


def plan(model: str, *args: Any, **given: Any) -> Row:
    return plan_row(setup(model, *args, **given))


def test_deepseek_v3_on_eight_h200_under_tensor_parallelism() -> None:
    # 141e9 * 0.9 - 671e9 / 8 = 43.025e9 B for tokens of 61 * 1,152 = 70,272 B, of which every rank holds all.
    row = plan("deepseek-v3", tp=8, kv_len=8192)
    assert row["free_bytes_per_gpu"] == pytest.approx(43.025e9)
    assert (row["tokens"], row["requests"], row["longest_request"]) == (612_263, 74, 612_263)


def test_data_parallel_attention_holds_no_token_twice() -> None:
    # Attention's 11,413,547,008 B are on each GPU, and an eighth of the other 659,586,452,992 B: 33,038,146,368 B left.
    row = plan("deepseek-v3", dp=8, kv_len=8192)
    assert row["free_bytes_per_gpu"] == pytest.approx(33_038_146_368)
    assert (row["tokens"], row["requests"], row["longest_request"]) == (8 * 470_146, 8 * 57, 470_146)


def test_the_kv_heads_of_grouped_attention_are_split() -> None:
    # Llama-3.1-405B: (126.9e9 - 811.7e9 / 8) / (516,096 / 8).
    assert plan("llama-3.1-405b", tp=8)["tokens"] == int((126.9e9 - 811.7e9 / 8) / 64_512)


def test_windows_make_room_for_requests() -> None:
    # gpt-oss-120b: (126.9e9 - 116.8e9 * 4.25 / 8) / (2,048 * (18 * 8,192 + 18 * 128)).
    row = plan("gpt-oss-120b", kv_len=8192)
    assert row["kv_cache_bytes_per_request"] == 306_708_480
    assert row["requests"] == int((126.9e9 - 62.05e9) / 306_708_480)


def test_a_steps_floor_is_attention_and_weights() -> None:
    # Llama-3.1-8B, one request of 4,096: a layer's cache 16,777,216 B, query and output 2 * 32 * 128 * 2, log-sum-exp
    # 32 * 4, page numbers 64 * 4 and a length 4; weights 16.06e9 B. An H200 moves 4.8e6 B in a microsecond.
    row = plan("llama-3.1-8b", kv_len=4096, batch=1, usd_per_gpu_hour=3.6)
    layer_bytes = 16_777_216 + 16_384 + 128 + 256 + 4
    assert row["attention_floor_us"] == pytest.approx(32 * layer_bytes / 4.8e6)
    assert row["weights_floor_us"] == pytest.approx(16.06e9 / 4.8e6)
    step_s = (32 * layer_bytes + 16.06e9) / 4.8e12
    assert row["floor_tokens_per_s"] == pytest.approx(1 / step_s)
    # $3.60 an hour is a thousandth of a dollar a second.
    assert row["floor_usd_per_million_tokens"] == pytest.approx(1e6 * step_s / 1000)


def test_many_tokens_are_bound_by_multiplying_with_the_weights() -> None:
    row = plan("llama-3.1-8b", kv_len=128, batch=4096)
    assert row["weights_floor_us"] == pytest.approx(2 * 8.03e9 * 4096 / 989.4e6)


def test_an_indexer_scores_every_token_and_attends_its_choice() -> None:
    # 132 B a token and layer are scored, in memory's time; 2,048 tokens are attended as DeepSeek-V3 attends them.
    sparse = plan("deepseek-v3.2", tp=8, kv_len=131_072, batch=1)["attention_floor_us"]
    dense = plan("deepseek-v3", tp=8, kv_len=2048, batch=1)["attention_floor_us"]
    assert sparse - dense == pytest.approx(61 * 132 * 131_072 / 4.8e6)


def test_what_does_not_fit_has_no_speed() -> None:
    row = plan("llama-3.1-70b", kv_len=8192, batch=1)
    assert (row["tokens"], row["requests"], row["longest_kv_len"]) == (0, 0, 0)
    assert row["attention_floor_us"] is row["floor_tokens_per_s"] is None
    with pytest.raises(UsageError, match=r"141 GB of each GPU.*--gpus-count 2 --tp 2, or fewer bytes"):
        check_some_fit([setup("llama-3.1-70b")])


@pytest.mark.parametrize(
    ("model", "dp", "mended"),
    [("deepseek-v3", 1, (8, 1)), ("llama-3.1-405b", 8, (2, 8)), ("glm-4.7-flash", 1, None)],
)
def test_what_does_not_fit_is_told_a_layout_that_does(model: str, dp: int, mended: tuple[int, int] | None) -> None:
    reserve = 0.1 if mended else 0.999
    with pytest.raises(UsageError) as told:
        check_some_fit([setup(model, 1, dp, reserve=reserve)])
    assert ("--gpus-count" in str(told.value)) == (mended is not None)
    if mended:
        tp, replicas = mended
        assert f"--gpus-count {tp * replicas} --tp {tp}, or" in str(told.value)
        check_some_fit([setup(model, tp, replicas)])


def test_a_calibration_replaces_attentions_floor_alone() -> None:
    chosen = setup("llama-3.1-8b", kv_len=8192, batch=64)
    calibration = calibrate(load_run(BASELINE), chosen.gpu)
    row = plan_row(chosen, calibration)
    assert row["attention_us_low"] < row["attention_us"] < row["attention_us_high"]
    assert row["attention_floor_us"] < row["attention_us"] < 2 * row["attention_floor_us"]
    assert row["calibrated_step_us"] == row["attention_us"] + row["weights_floor_us"]
    assert row["calibrated_slow_tokens_per_s"] < row["calibrated_tokens_per_s"] < row["calibrated_fast_tokens_per_s"]
    for other in (setup("llama-3.1-8b", cache_format="float8"), setup("deepseek-v3.2", tp=8)):
        assert plan_row(other, calibration)["attention_us"] is None


def test_a_run_of_layers_tells_nothing_of_a_plans_attention() -> None:
    chosen = setup("llama-3.1-8b")
    calibration = calibrate(load_run(BASELINE.parent / "layer"), chosen.gpu)
    with pytest.raises(UsageError, match=r"^layer tells nothing of attention alone at decode, .* scope=core"):
        plan_row(chosen, calibration)


NAMES = ("deepseek-v2-lite", "llama-3.1-8b", "gemma-2-27b", "gpt-oss-120b", "qwen2.5-7b")
LENGTHS = st.integers(1, 200_000)


@settings(deadline=None)
@given(st.sampled_from(NAMES), LENGTHS, st.integers(1, 300), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]))
def test_the_longest_requests_of_a_batch_fit_and_longer_ones_do_not(
    model: str, kv_len: int, batch: int, tp: int, dp: int
) -> None:
    row = plan(model, tp, dp, kv_len=kv_len, batch=batch)
    at = row["longest_kv_len"]
    if at:
        assert plan(model, tp, dp, kv_len=at)["requests"] >= batch
    assert plan(model, tp, dp, kv_len=at + 1)["requests"] < dp * -(-batch // dp)


@settings(deadline=None)
@given(st.sampled_from(NAMES), LENGTHS, st.floats(0, 0.3), st.floats(0, 0.3))
def test_more_memory_and_smaller_caches_hold_no_less(model: str, kv_len: int, one: float, other: float) -> None:
    few, many = (plan(model, kv_len=kv_len, reserve=reserve) for reserve in (max(one, other), min(one, other)))
    small = plan(model, kv_len=kv_len, reserve=max(one, other), cache_format="float8")
    for name in ("tokens", "requests", "longest_request"):
        assert few[name] <= many[name]
        assert few[name] <= small[name]


@settings(deadline=None)
@given(st.sampled_from(NAMES), LENGTHS)
def test_more_ranks_hold_more_tokens(model: str, kv_len: int) -> None:
    counts = [plan(model, tp=tp, kv_len=kv_len)["tokens"] for tp in (1, 2, 4)]
    assert counts == sorted(counts)


def test_a_cache_of_windows_alone_holds_a_request_of_any_length() -> None:
    # Two layers with the last 8 tokens, of 3 B each.
    stack = Stack(0, 2, 8)
    assert longest_request(stack, 3, 2 * 8 * 3) is None
    assert longest_request(stack, 3, 2 * 8 * 3 - 1) == 7


@pytest.mark.parametrize("name", load_presets())
def test_every_preset_fits_sixteen_gpus(name: str) -> None:
    tp = 1 if load_presets()[name]["num_q_heads"] % 2 else 2
    row = plan(name, tp, 16 // tp, kv_len=1024)
    assert row["requests"] > 0
    assert row["floor_tokens_per_s"] > 0
