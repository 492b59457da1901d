import math

import pytest

from mlabench.machine.ceilings import Ceilings
from mlabench.report.crossovers import crossings, find_crossovers, ratios
from mlabench.report.series import make_views
from tests.factories import make_case, make_record, make_run

CEILINGS = Ceilings(4e12, 4e12, 4e12, {"bfloat16": 700e12})


def test_a_ratio_passes_1_between_neighbours_on_logarithmic_scales() -> None:
    assert crossings([(1024, 0.5), (4096, 2.0)]) == pytest.approx((2048,))
    assert crossings([(1, 0.5), (10, 2.0), (100, 0.25)]) == pytest.approx((math.sqrt(10), 10 ** (4 / 3)))
    assert crossings([(1, 0.5), (2, 1.0), (4, 2.0)]) == pytest.approx((2,))
    assert crossings([(1, 1.5), (2, 3.0)]) == crossings([(1, 0.5)]) == crossings([]) == ()


def test_crossovers_are_found_for_each_rival_head_count_and_batch() -> None:
    times = {
        ("mla", 16): (8.0, 8.0, 8.0),
        ("gqa", 16): (4.0, 16.0, 32.0),
        ("mla", 128): (8.0, 8.0, 8.0),
        ("gqa", 128): (2.0, 4.0, 6.0),
        ("mqa", 128): (16.0, 4.0, 2.0),
    }
    records = [
        make_record(make_case(variant=name, num_q_heads=heads, kv_len=kv_len), latency_us=us)
        for (name, heads), latencies in times.items()
        for kv_len, us in zip((1024, 4096, 16384), latencies, strict=True)
    ]
    (view,) = make_views([make_run(None, records, ceilings=CEILINGS)])
    table = ratios(view.frame, "MLA absorbed", ["GQA-8", "MQA", "MHA"])
    found = find_crossovers(table, view.context, "MLA absorbed")
    assert [(one.rival, one.num_q_heads, one.panel) for one in found] == [
        ("GQA-8", 16, 1),
        ("GQA-8", 128, 1),
        ("MQA", 128, 1),
    ]
    first, never, falling = found
    assert first.lengths == pytest.approx((2048,))
    assert never.points == ((1024, 0.25), (4096, 0.5), (16384, 0.75))
    assert never.lengths == ()
    assert falling.lengths == pytest.approx((2048,))
    # bytes alone: a quarter of GQA-8's, and two and a quarter times MQA's
    assert all(ratio > 1 for _, ratio in first.floor_points)
    assert all(ratio < 1 for _, ratio in falling.floor_points)
    assert first.floor_lengths == falling.floor_lengths == ()


def test_without_ceilings_or_rivals_there_is_nothing_to_hold_against() -> None:
    records = [make_record(make_case(variant=name, kv_len=1024), latency_us=5.0) for name in ("mla", "gqa")]
    (view,) = make_views([make_run(None, records, ceilings=None)])
    (only,) = find_crossovers(ratios(view.frame, "MLA absorbed", ["GQA-8"]), view.context, "MLA absorbed")
    assert (only.points, only.floor_points) == (((1024, 1.0),), ())
    assert find_crossovers(ratios(view.frame, "MLA absorbed", []), view.context, "MLA absorbed") == ()
