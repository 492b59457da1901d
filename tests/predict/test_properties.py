"""What holds of the arithmetic for every size, not only for those of known models."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlabench.cases.case import Case
from mlabench.cases.grid import DEFAULT_SHAPE
from mlabench.predict.alternatives import alternatives
from mlabench.predict.costs import costs_of, counts_of
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import NO_MODEL
from mlabench.predict.ranks import on_one_rank, possible_tps
from mlabench.predict.rows import Point, predict_rows

# Without a database of examples, and without a limit to an example's time: nothing is left behind, nothing is flaky.
PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=100)

GPUS = choose_gpus(["all"])


@st.composite
def cases(draw: st.DrawFn, **fixed: Any) -> Case:
    """Any case: a variant with its sizes, lengths that fit together, pages, dtype and phase."""
    num_kv_heads = draw(st.integers(1, 16))
    kv_len = draw(st.integers(1, 1 << 17))
    values = {
        **DEFAULT_SHAPE,
        "variant": draw(st.sampled_from(["mha", "gqa", "mqa", "mla"])),
        "form": draw(st.sampled_from(["absorbed", "recompute", "expanded"])),
        "phase": draw(st.sampled_from(["decode", "prefill"])),
        "dtype": draw(st.sampled_from(["bfloat16", "float16"])),
        "num_kv_heads": num_kv_heads,
        "num_q_heads": num_kv_heads * draw(st.integers(1, 16)),
        "head_dim": draw(st.sampled_from([32, 64, 96, 128, 256])),
        "kv_lora_rank": draw(st.sampled_from([128, 256, 341, 512])),
        "batch": draw(st.integers(1, 300)),
        "kv_len": kv_len,
        "q_len": draw(st.integers(1, kv_len)),
        "page_size": draw(st.sampled_from([1, 16, 64])),
    }
    return Case.from_fields({**values, **fixed})


def row(case: Case, tp: int = 1, gpu: int = 0) -> dict[str, Any]:
    return next(predict_rows([Point(NO_MODEL, case, tp)], GPUS[gpu : gpu + 1]))


def again(case: Case, **changes: Any) -> Case:
    return Case.from_fields({**case.to_fields(), **changes})


@PROPERTY
@given(cases())
def test_the_factors_are_those_of_the_tensors(case: Case) -> None:
    work = costs_of(case).work(counts_of(case))
    expected = case.kv_cache_bytes, case.bytes_moved, case.flops
    assert (work.kv_cache_bytes, work.bytes_moved, work.flops) == expected


@PROPERTY
@given(cases(), st.integers(1, 1000), st.integers(0, 5))
def test_a_longer_cache_never_costs_less(case: Case, more: int, gpu: int) -> None:
    short, long = row(case, gpu=gpu), row(again(case, kv_len=case.kv_len + more), gpu=gpu)
    for name in ("kv_cache_bytes", "bytes_moved", "flops", "memory_us", "compute_us", "floor_us"):
        assert long[name] > short[name] or (name == "floor_us" and long[name] == short[name])


@PROPERTY
@given(cases(), st.integers(2, 9))
def test_cost_is_linear_in_the_batch(case: Case, times: int) -> None:
    one, many = row(case), row(again(case, batch=case.batch * times))
    costs = costs_of(case)
    assert many["kv_cache_bytes"] == one["kv_cache_bytes"] * times
    assert many["flops"] - costs.flops_per_call == (one["flops"] - costs.flops_per_call) * times
    assert many["bytes_moved"] - costs.bytes_per_call == (one["bytes_moved"] - costs.bytes_per_call) * times


@PROPERTY
@given(cases(variant="gqa"))
def test_gqa_with_all_heads_is_mha(case: Case) -> None:
    heads = case.variant.num_q_heads
    assert row(again(case, variant="gqa", num_kv_heads=heads)) == row(again(case, variant="mha"))


@PROPERTY
@given(cases(), st.data())
def test_more_ranks_never_raise_what_one_holds_or_moves(case: Case, data: st.DataObject) -> None:
    tps = possible_tps(case.variant)
    few = data.draw(st.sampled_from(tps))
    more = data.draw(st.sampled_from([tp for tp in tps if tp % few == 0]))
    of_few, of_more = row(case, few), row(case, more)
    for name in ("kv_cache_bytes_per_token_per_layer", "kv_cache_bytes", "bytes_moved", "flops", "floor_us"):
        assert of_more[name] <= of_few[name]
    assert of_more["kv_cache_bytes_all_ranks"] >= of_few["kv_cache_bytes_all_ranks"]
    assert of_more["flops"] * more >= of_few["flops"] * few


@PROPERTY
@given(cases(variant="mla", form="absorbed"), st.data())
def test_every_rank_holds_the_whole_latent(case: Case, data: st.DataObject) -> None:
    tp = data.draw(st.sampled_from(possible_tps(case.variant)))
    assert costs_of(case, on_one_rank(case.variant, tp)).kv_cache_bytes_per_token == case.kv_cache_bytes_per_token


@PROPERTY
@given(cases(), st.integers(0, 5))
def test_the_floor_is_the_longer_time_and_the_ridge_says_which(case: Case, gpu: int) -> None:
    found = row(case, gpu=gpu)
    ceilings = GPUS[gpu].ceilings
    ridge = ceilings.matmul_flops_per_s[case.dtype] / ceilings.bandwidth_bytes_per_s
    assert found["floor_us"] == max(found["memory_us"], found["compute_us"])
    over = found["arithmetic_intensity_flops_per_byte"] / ridge
    assert abs(over - 1) < 1e-9 or (found["bound"] == "compute") == (over > 1)


@PROPERTY
@given(cases())
def test_alternatives_have_as_many_heads_and_their_own_names(case: Case) -> None:
    for name, other in alternatives(case.variant, case.phase).items():
        assert (other.name, other.num_q_heads) == (name, case.variant.num_q_heads)
