"""Weights: their bytes, and what a GPU holds and reads of them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlabench.cases.models import load_presets
from mlabench.errors import UsageError
from mlabench.predict.presets import Model, choose_models
from mlabench.predict.weights import PARAMETER_BYTES, Weights, weights_of


def model(name: str) -> Model:
    (found,) = choose_models([name])
    return found


@pytest.mark.parametrize("name", load_presets())
def test_every_preset_says_how_many_parameters_and_where_that_was_read(name: str) -> None:
    preset, weights = load_presets()[name], weights_of(model(name))
    assert preset["parameters_source"]
    assert weights.num_bytes == preset["num_parameters"] * PARAMETER_BYTES[preset.get("weight_dtype", "bfloat16")]
    assert 0 < weights.active_share <= 1
    assert weights.attention_bytes is not None
    assert weights.attention_bytes < weights.num_bytes


def test_attentions_weights_are_deepseek_v3s() -> None:
    # A layer: 1536 * 7168 + 128 * 192 * 1536 + 576 * 7168 + 128 * 256 * 512 + 7168 * 16384, norms of 1536 + 512.
    assert weights_of(model("deepseek-v3")).attention_bytes == 61 * 187_107_328


def test_every_replica_has_a_copy_of_attentions_weights() -> None:
    weights = Weights(100.0, 50.0, 1.0, 20.0)
    assert weights.bytes_per_gpu(4, 1) == 25
    assert weights.bytes_per_gpu(1, 4) == 80 / 4 + 20
    assert weights.bytes_per_gpu(2, 2) == 80 / 4 + 20 / 2


def test_a_mixture_of_experts_reads_more_of_them_the_more_tokens_there_are() -> None:
    # A quarter of 80 bytes beside attention's 20 is drawn by a token: 20 + 80 * (1 - (3 / 4) ** 2) for two.
    weights = Weights(100.0, 50.0, 0.4, 20.0)
    assert [weights.bytes_read_per_gpu(1, 1, tokens) for tokens in (1, 2)] == pytest.approx([40, 55])
    assert weights.bytes_read_per_gpu(1, 1, 1000) == pytest.approx(100)


@given(st.floats(1, 1e12), st.floats(0.01, 1), st.floats(0, 1), st.integers(1, 64), st.integers(1, 10**4))
def test_a_step_reads_the_active_weights_at_least_and_all_at_most(
    num_bytes: float, active: float, attention: float, gpus: int, tokens: int
) -> None:
    weights = Weights(num_bytes, num_bytes, active, attention * num_bytes)
    read = weights.bytes_read_per_gpu(gpus, 1, tokens)
    assert active * num_bytes / gpus * (1 - 1e-9) <= read <= weights.bytes_per_gpu(gpus, 1) * (1 + 1e-9)


def test_given_bytes_or_a_dtype_take_the_presets_place() -> None:
    llama = model("llama-3.1-8b")
    assert weights_of(llama).num_bytes == 16.06e9
    assert weights_of(llama, weight_dtype="int4").num_bytes == 4.015e9
    assert weights_of(llama, weights_gb=9).num_bytes == 9e9
    unknown = replace(llama, num_parameters=None)
    assert weights_of(unknown, weights_gb=9).flops(1) == 0
    with pytest.raises(UsageError, match="--weights-gb"):
        weights_of(unknown)
    with pytest.raises(UsageError, match=r"bf16.*bfloat16"):
        weights_of(llama, weight_dtype="bf16")


def test_replicas_need_to_know_attentions_weights() -> None:
    with pytest.raises(UsageError, match="hidden_size"):
        Weights(1.0, None, 1.0, None).bytes_per_gpu(1, 2)
