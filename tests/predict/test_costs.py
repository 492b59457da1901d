"""The factors give the bytes and FLOP of a case to the last one, whatever its size, form, phase and pages."""

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.predict.costs import costs_of, counts_of

GRIDS = {
    "decode": {
        "variant": ("mha", "gqa", "mqa", "mla"),
        "form": ("absorbed", "recompute", "expanded"),
        "batch": (1, 3),
        "q_len": (1, 2),
        "kv_len": (2, 63, 64, 65, 1000),
        "page_size": (1, 2, 64),
        "dtype": ("bfloat16", "float32"),
    },
    "prefill": {
        "phase": ("prefill",),
        "variant": ("gqa", "mla"),
        "form": ("absorbed", "recompute", "expanded"),
        "batch": (1, 3),
        "q_len": (1, 7),
        "kv_len": (7, 64, 1000),
    },
    "whole prompts": {"phase": ("prefill",), "form": ("recompute", "expanded"), "kv_len": (1, 65, 1000)},
    "ragged": {"kv_len_dist": ("ragged",), "phase": ("decode", "prefill"), "batch": (5,), "kv_len": (100, 1000)},
}


def numbers(case: Case) -> tuple[int, ...]:
    work = costs_of(case).work(counts_of(case))
    return work.kv_cache_bytes, work.bytes_moved, work.flops


@pytest.mark.parametrize("grid", GRIDS)
def test_bytes_and_flop_are_those_of_the_case(grid: str) -> None:
    cases = make_cases(GRIDS[grid])
    assert cases
    assert [numbers(case) for case in cases] == [(c.kv_cache_bytes, c.bytes_moved, c.flops) for c in cases]


def test_every_preset_costs_what_a_sweep_says() -> None:
    from mlabench.cases.models import load_presets

    cases = make_cases({"batch": (1, 128), "kv_len": (1000, 131072)}, list(load_presets()))
    assert [numbers(case) for case in cases] == [(c.kv_cache_bytes, c.bytes_moved, c.flops) for c in cases]


def test_another_variant_is_taken_at_the_same_size() -> None:
    latent, grouped = make_cases({"variant": ("mla", "gqa")})
    assert costs_of(latent, grouped.variant) == costs_of(grouped)
