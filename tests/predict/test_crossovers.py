"""Crossovers are where they were derived to be, and the floors do change places there."""

import itertools

import pytest

from mlabench.cases.axes import Value
from mlabench.predict.alternatives import alternatives
from mlabench.predict.costs import costs_of, counts_of
from mlabench.predict.crossovers import Crossover, find_crossovers
from mlabench.predict.curves import crossings, floor_curve
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import make_points


def crossovers(kind: str, *models: str, gpu: str = "h200-sxm", **axes: tuple[Value, ...]) -> list[Crossover]:
    found = find_crossovers(make_points(choose_models(models), axes), choose_gpus([gpu]))
    return [crossover for crossover in found if crossover.crossover == kind]


@pytest.mark.parametrize(
    ("gpu", "heads"), [("a100", 81.0), ("h100", 156.4), ("h200", 109.1), ("b200", 148.9), ("mi300x", 130.6)]
)
def test_heads_from_which_absorbed_mla_is_compute_bound(gpu: str, heads: float) -> None:
    # Ridge x 576 / 1088: both counted by element and in two-byte elements.
    (found,) = crossovers("compute_bound_heads", "deepseek-v3", gpu=gpu)
    assert found.at == pytest.approx(heads, abs=0.05)


def test_new_tokens_up_to_which_absorbing_takes_fewer_flop() -> None:
    long, behind = crossovers("absorbed_new_tokens", "deepseek-v3", kv_len=(1000,))
    assert long.at == pytest.approx(512 * 256 / 768)
    assert long.kv_len is None
    new = behind.at
    assert new is not None
    # The balance itself, with N (N + 1) / 2 pairs among the new tokens.
    assert new * (1 + (new + 1) / 2000) * 768 == pytest.approx(512 * 256)


def test_ranks_from_which_gqa_caches_less_than_mla() -> None:
    (found,) = crossovers("grouped_cache_tp", "llama-3.1-405b")
    assert (found.at, found.against) == (4, "mla absorbed")
    rivals = {found.against: found.at for found in crossovers("grouped_cache_tp", "deepseek-v3")}
    assert rivals == {"mha": 64, "gqa-8": 4, "mqa": 1}
    (never,) = crossovers("grouped_cache_tp", "minicpm3-4b", num_q_heads=(36,), variant=("mqa",), head_dim=(512,))
    assert never.at is None
    assert never.meaning.startswith("mqa never caches fewer bytes")


def test_absorbing_takes_fewer_flop_throughout_where_the_latent_is_small() -> None:
    long, behind = crossovers("absorbed_new_tokens", "deepseek-v3", kv_lora_rank=(64,))
    assert long.at is behind.at is None
    assert "whatever the new tokens" in long.meaning


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_floors_change_places_at_the_crossing_and_nowhere_else(phase: str) -> None:
    (gpu,) = choose_gpus(["h200-sxm"])
    models = choose_models(["deepseek-v3", "llama-3.1-405b", "minicpm3-4b", "deepseek-v2-lite"])
    axes = {"phase": (phase,), "q_len": (1, 64), "form": ("absorbed", "recompute", "expanded"), "batch": (1, 32)}
    changed = 0
    for point in make_points(models, axes):
        case = point.case
        own = floor_curve(case, case.variant, gpu.ceilings)
        for other in alternatives(case.variant, phase).values():
            against = floor_curve(case, other, gpu.ceilings)
            assert own is not None
            assert against is not None
            if other == case.variant:
                continue
            roots = crossings(own, against, case.q_len)
            ends = [case.q_len, *roots, 1e7]
            signs = [own((low * high) ** 0.5) < against((low * high) ** 0.5) for low, high in itertools.pairwise(ends)]
            assert all(before != after for before, after in itertools.pairwise(signs))
            for at in (case.q_len * 2.0**step for step in range(18)):
                piece = sum(root < at for root in roots)
                assert (own(at) < against(at)) == signs[piece] or own(at) == pytest.approx(against(at))
            changed += len(roots)
    assert changed > 10


def test_the_curve_is_the_floor_of_the_case() -> None:
    (gpu,) = choose_gpus(["h200-sxm"])
    for phase in ("decode", "prefill"):
        axes = {"phase": (phase,), "kv_len": (64, 128, 8192), "batch": (1, 8)}
        for point in make_points(choose_models(["deepseek-v3", "llama-3.1-8b"]), axes):
            work = costs_of(point.case).work(counts_of(point.case))
            curve = floor_curve(point.case, point.case.variant, gpu.ceilings)
            assert curve is not None
            floor_us = gpu.ceilings.floor_us(work.bytes_moved, work.flops, "bfloat16")
            assert curve(point.case.kv_len) == pytest.approx(floor_us, rel=1e-9)


def test_decode_overtakes_where_the_caches_outweigh_the_queries() -> None:
    found = {c.against: c.at for c in crossovers("kv_len_overtakes", "deepseek-v3")}
    # 128 heads' queries and outputs, 832 elements wider than GQA's, against 1472 elements a token fewer.
    assert found["gqa-8"] == pytest.approx(128 * 832 / 1472)
    assert found["mqa"] is None


def test_each_crossover_is_told_once() -> None:
    once = crossovers("kv_len_overtakes", "deepseek-v3")
    assert crossovers("kv_len_overtakes", "deepseek-v3", kv_len=(1024, 2048)) == once
