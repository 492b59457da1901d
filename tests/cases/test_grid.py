"""From axes and models to cases."""

import pytest

from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError


def test_axes_that_a_variant_does_not_have_make_no_further_cases() -> None:
    cases = make_cases({"variant": ("mha", "mla"), "form": ("absorbed", "expanded"), "batch": (1, 2)})
    assert [(case.variant.name, case.variant.form, case.batch) for case in cases] == [
        ("mha", None, 1),
        ("mha", None, 2),
        ("mla", "absorbed", 1),
        ("mla", "absorbed", 2),
        ("mla", "expanded", 1),
        ("mla", "expanded", 2),
    ]


def test_model_gives_its_shape_and_axes_override_it() -> None:
    whole, sharded = make_cases({"num_q_heads": (128, 16)}, ["deepseek-v3"])
    assert whole.models == ("deepseek-v3",)
    assert sharded.models == ()
    assert sharded.variant.num_q_heads == 16


def test_models_of_one_shape_are_one_case_with_both_names() -> None:
    (case,) = make_cases({}, ["llama-3.1-70b", "qwen2.5-72b"])
    assert case.models == ("llama-3.1-70b", "qwen2.5-72b")
    assert case.variant.sizes() == {"num_q_heads": 64, "num_kv_heads": 8, "head_dim": 128}


def test_grouped_variants_differ_in_their_kv_heads() -> None:
    cases = make_cases({"variant": ("mha", "gqa", "mqa"), "num_q_heads": (32,)})
    assert [case.variant.sizes()["num_kv_heads"] for case in cases] == [32, 8, 1]


def test_unknown_model_names_the_near_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'deepseek-v4': did you mean deepseek-v"):
        make_cases({}, ["deepseek-v4"])
    with pytest.raises(UsageError, match="only predict and plan read files: give its sizes with -a"):
        make_cases({}, ["some/config.json"])


CHUNKS = {"phase": ("prefill",), "q_len": (64, 2048), "kv_len": (1024, 4096)}


@pytest.mark.parametrize(
    "where",
    ["q_len <= kv_len", "memory_bytes > 0 and q_len <= kv_len", "not q_len > kv_len", "q_len < 2048 or kv_len == 4096"],
)
def test_the_filter_leaves_out_values_that_make_no_case(where: str) -> None:
    cases = make_cases(CHUNKS, where=where)
    assert [(case.q_len, case.kv_len) for case in cases] == [(64, 1024), (64, 4096), (2048, 4096)]


def test_the_filter_leaves_out_heads_that_do_not_divide() -> None:
    axes = {"variant": ("gqa", "mqa"), "num_q_heads": (32, 36)}
    cases = make_cases(axes, where="num_q_heads % num_kv_heads == 0")
    assert [(case.variant.name, case.variant.num_q_heads) for case in cases] == [("gqa", 32), ("mqa", 32), ("mqa", 36)]


@pytest.mark.parametrize("where", ["", "kv_len > 0", "memory_bytes > 0", "memory_bytes < 0 or q_len <= kv_len"])
def test_values_that_make_no_case_and_are_not_left_out_are_refused_with_the_filter_that_would(where: str) -> None:
    with pytest.raises(UsageError, match=r"kv_len 1024 is under q_len 2048: .* --where 'q_len <= kv_len'"):
        make_cases(CHUNKS, where=where)


def test_new_tokens_beyond_the_default_length_name_the_length_to_add() -> None:
    with pytest.raises(UsageError, match=r"kv_len 4096, the default, .* q_len 5000: add -a kv_len=9000"):
        make_cases({"phase": ("prefill",), "q_len": (64, 5000, 9000)})
