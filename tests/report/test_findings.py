import pytest

from mlabench.machine.ceilings import Ceilings
from mlabench.records.record import Record
from mlabench.report.findings import findings
from mlabench.report.series import make_views
from tests.factories import make_case, make_record, make_run

RIDGE_100 = Ceilings(1e12, 0.9e12, 0.9e12, {"bfloat16": 100e12})


def point(variant: str, latency_us: float, kv_len: int = 4096, batch: int = 8, **fields: object) -> Record:
    return make_record(make_case(variant=variant, kv_len=kv_len, batch=batch, **fields), latency_us=latency_us)


def sentences(*records: Record, ceilings: Ceilings | None = None) -> tuple[str, ...]:
    (view,) = make_views([make_run(None, records, ceilings=ceilings)])
    return tuple(finding.sentence for finding in findings(view))


def test_cache_bytes_are_compared_at_one_precision() -> None:
    # MLA: (512 + 64) x 2 bytes; MHA: 2 x 128 x 128 x 2; GQA-8: 2 x 8 x 128 x 2.
    (text, _) = sentences(point("mla", 100), point("mha", 1000), point("gqa", 250))
    assert text == (
        "MLA absorbed caches 1,152 B per token and layer in bfloat16 at 128 heads: 56.9x fewer than MHA (65,536 B) and "
        "3.56x fewer than GQA-8 (4,096 B), all at the same precision."
    )


def test_a_form_that_caches_more_says_so() -> None:
    # Expanded: 128 heads x (192 + 128) x 2 bytes.
    (text, _) = sentences(point("mla", 100, form="expanded"), point("mha", 1000))
    assert "MLA expanded caches 81,920 B" in text
    assert "1.25x as many as MHA (65,536 B)" in text


def test_times_are_compared_at_the_longest_common_cache_and_its_largest_common_batch() -> None:
    (_, text) = sentences(
        point("mla", 100, batch=8),
        point("mla", 70, batch=16),
        point("mla", 900, kv_len=8192),
        point("mha", 1000, batch=8),
        point("mha", 500, batch=4),
        point("gqa", 40, batch=1),
        point("mla", 80, batch=1),
    )
    assert text == (
        "In this run MLA absorbed with 128 heads ran 10x as fast as MHA at kv_len 4k and batch 8 (100 us against 1 ms) "
        "and took 2x as long as GQA-8 at kv_len 4k and batch 1 (80 us against 40 us): the fastest checked kernel of "
        "each, at the longest cache and then the largest batch that both completed."
    )


@pytest.mark.parametrize(("heads", "side", "binds"), [(128, "above", "arithmetic"), (16, "below", "memory traffic")])
def test_the_side_of_the_roofline_follows_from_the_ceilings(heads: int, side: str, binds: str) -> None:
    case = make_case(num_q_heads=heads, kv_len=4096, batch=8)
    floor_us = RIDGE_100.floor_us(case.bytes_moved, case.flops, "bfloat16")
    assert floor_us is not None
    (text,) = sentences(make_record(case, latency_us=2 * floor_us), ceilings=RIDGE_100)
    assert f"{side} this machine's measured ridge of 100 FLOP per byte" in text
    assert f"the roofline says that {binds} binds it" in text
    assert "at kv_len 4k and batch 8 it reached 50% of the roofline's speed in this run" in text


def test_no_sentence_without_the_numbers_for_it() -> None:
    assert sentences(point("mha", 100), point("gqa", 50)) == ()
    assert sentences(point("mla", 100)) == ()
    failed = make_record(make_case(kv_len=1024), status="oom")
    assert sentences(failed, ceilings=RIDGE_100) == ()


def test_a_baseline_of_another_shape_is_not_compared() -> None:
    (cache_only,) = sentences(point("mla", 100, batch=8), point("mha", 100, batch=4))
    assert "caches" in cache_only
    assert sentences(point("mla", 100, num_q_heads=128), point("mha", 100, num_q_heads=64)) == ()


def test_a_time_of_prefill_says_so() -> None:
    (_, text) = sentences(*(point(name, us, phase="prefill") for name, us in (("mla", 200.0), ("gqa", 100.0))))
    assert text.startswith("In this run's prefill MLA absorbed with 128 heads took 2x as long as GQA-8 at kv_len 4k")


def test_prefill_is_told_of_the_form_that_serving_runs_and_the_cache_of_the_one_it_keeps() -> None:
    times = (("expanded", 150.0), ("absorbed", 900.0))
    forms = [point("mla", us, form=form, phase="prefill") for form, us in times]
    base = point("gqa", 300.0, phase="prefill")
    cache, speed, roofline = sentences(*forms, base, ceilings=RIDGE_100)
    assert cache.startswith("MLA absorbed caches 1,152 B")
    assert speed.startswith("In this run's prefill MLA expanded with 128 heads ran 2x as fast as GQA-8 at kv_len 4k")
    assert speed.endswith("at the longest kv_len and then the largest batch that both completed.")
    assert roofline.startswith("MLA expanded with 128 heads does ")


def test_a_chunk_names_its_new_tokens_and_the_longest_is_compared() -> None:
    records = [
        point(name, factor * q_len, q_len=q_len, form="expanded", phase="prefill")
        for name, factor in (("mla", 1.0), ("gqa", 2.0))
        for q_len in (2048, 64, 512)
    ]
    (_, speed, roofline) = sentences(*records, ceilings=RIDGE_100)
    assert "GQA-8 at q_len 2k, kv_len 4k and batch 8 (2.05 ms against 4.1 ms)" in speed
    assert "at the longest q_len" in speed
    assert "at q_len 2k, kv_len 4k and batch 8 it reached" in roofline


def test_kernels_of_two_backends_are_named() -> None:
    own, other = make_case(kv_len=4096), make_case(variant="gqa", kv_len=4096)
    records = (
        make_record(own, "mine", latency_us=100.0, backend="triton"),
        make_record(other, "other", latency_us=200.0),
    )
    (_, text) = sentences(*records)
    assert "and batch 1 (100 us on mine against 200 us on other)" in text
