"""The page on the trade-off: its figures are the committed runs', and so is what it says of them in words."""

import json

import pytest

from mlabench.report.crossovers import crossings
from tests.bench.tradeoff import (
    BATCHES,
    HEADS,
    LARGEST,
    SINGLE,
    core,
    core_ratios,
    layer,
    measured,
    over,
    page,
    part_times,
    prefix_ratios,
    where,
)
from tests.cli.commands import ROOT

PAGE = (ROOT / "docs" / "tradeoff.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_command_writes() -> None:
    assert page() == PAGE


@pytest.mark.parametrize("name", ["decode", "decode-sustained", "layer", "layer-sustained", "prefix"])
def test_every_point_is_measured_and_right(name: str) -> None:
    assert {row["status"] for row in measured(name)} == {"ok"}


def test_mha_is_slower_and_mqa_faster_everywhere() -> None:
    ratios = {
        rival: [ratio for heads in HEADS for batch in BATCHES for _, ratio in core_ratios(rival, heads, batch)]
        for rival in ("mha", "mqa")
    }
    assert min(ratios["mha"]) > 1 > max(ratios["mqa"])


def test_gqa_is_faster_in_short_contexts_alone_and_by_the_ceilings_nowhere() -> None:
    for heads in HEADS:
        for batch in BATCHES:
            points = core_ratios("gqa", heads, batch)
            assert len(crossings(points)) == (points[0][1] < 1) < points[-1][1]
            assert min(ratio for _, ratio in core_ratios("gqa", heads, batch, "floor_us")) > 1


def test_what_binds_is_memory_with_16_heads_and_arithmetic_with_128() -> None:
    bounds = {heads: core("mla", heads, **LARGEST)["bound"] for heads in (16, 128)}
    assert bounds == {16: "memory", 128: "compute"}


def test_power_narrows_the_lead_where_much_is_done() -> None:
    for at in (LARGEST, {"batch": 32, "kv_len": 8192}):
        burst, sustained = (
            over(core("gqa", 128, name, **at), core("mla", 128, name, **at)) for name in ("decode", "decode-sustained")
        )
        assert sustained < burst
        assert core("mla", 128, "decode-sustained", **at)["throttled"]
    single = [over(*(core(v, 128, name, **SINGLE) for v in ("mla", "gqa"))) for name in ("decode", "decode-sustained")]
    assert 1 < single[0] < single[1]


def test_premultiplied_matrices_are_slower_at_every_point() -> None:
    rows = where("layer", form="premultiplied")
    assert len(rows) == 24
    for row in rows:
        absorbed = layer(row["models"], "absorbed", batch=row["batch"], kv_len=row["kv_len"])
        assert over(row, absorbed) > 1
        assert {"query_absorb", "output_up"} & set(part_times(row)) == set()


def test_the_forms_cross_once_behind_a_prefix_and_later_than_by_the_ceilings() -> None:
    for batch in (1, 8):
        for kv_len in (8192, 32768):
            (at,) = crossings(prefix_ratios(batch, kv_len))
            (floor,) = crossings(prefix_ratios(batch, kv_len, "floor_us"))
            assert at > floor


def test_few_new_tokens_behind_one_prefix_take_as_long_as_sixty_four() -> None:
    cores = {}
    for row in where("prefix", form="absorbed", batch=1, kv_len=32768):
        cores[row["q_len"]] = next(part["latency_us"] for part in json.loads(row["parts"]) if part["name"] == "core")
    assert cores[64] < 1.15 * cores[16]
    assert cores[128] > 1.8 * cores[64]
