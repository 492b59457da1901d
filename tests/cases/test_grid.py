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
