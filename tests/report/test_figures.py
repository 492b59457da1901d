import io
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image

from mlabench.machine.ceilings import Ceilings
from mlabench.records.record import Record
from mlabench.report.figures import FIGURES, crossover, forms, kv_bytes, latency, rates, roofline, speedup
from mlabench.report.figures.labels import CHARACTER_POINTS, LINE_POINTS, Label, free_offsets
from mlabench.report.render import Picture, draw_pictures
from mlabench.report.series import View, make_views
from mlabench.report.style import SIZE_INCHES, thinned
from tests.factories import make_case, make_record, make_run, make_sweep

DRAWN = [row.name for row in FIGURES if row.name not in ("kernels", "energy")]
"""What is drawn where each case was measured on one kernel, and no energy."""

FULL = make_sweep(batch=(1, 8), kv_len=(1024, 16384), num_q_heads=(16, 128))
PAIR = make_sweep(variant=("mha", "mla"), form=("absorbed",), batch=(1,), kv_len=(1024,))


def view(*records: Record, **overrides: Any) -> View:
    (found,) = make_views([make_run(None, records, **overrides)])
    return found


def drawn(found: View) -> Mapping[str, Picture]:
    return {picture.row.name: picture for picture in draw_pictures(found, ("png",))}


def missing(found: View) -> dict[str, str]:
    return {name: picture.missing for name, picture in drawn(found).items() if picture.missing}


@pytest.fixture(scope="module")
def full() -> View:
    return view(*FULL)


def points_of(line: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in line.get_xydata()]


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_full_data_draws_every_figure_small_and_as_wide_as_promised(full: View) -> None:
    pictures = drawn(full)
    assert list(pictures) == DRAWN
    for picture in pictures.values():
        assert picture.missing == ""
        assert len(picture.files["png"]) < 150_000
        assert Image.open(io.BytesIO(picture.files["png"])).width == 150 * SIZE_INCHES[0]
        assert "bfloat16, Synthetic H200" in picture.heading
        assert "{" not in picture.caption


def test_one_point_is_enough_for_what_it_shows() -> None:
    left_out = missing(view(make_record(make_case(kv_len=4096))))
    assert list(left_out) == ["speedup", "crossover"]
    assert "it needs MLA absorbed measured at the same points as another variant" in left_out["crossover"]
    assert left_out["speedup"].startswith("Speed-up over MHA and GQA is left out: it needs MHA or GQA measured")


def test_without_ceilings_there_is_no_roofline_and_no_share_of_it() -> None:
    left_out = missing(view(*PAIR, ceilings=None))
    assert sorted(left_out) == ["floor", "roofline"]
    assert "no measured ceilings for bfloat16" in left_out["roofline"]
    other_dtype = missing(view(*PAIR, ceilings=Ceilings(1e12, 1e12, 1e12, {"float32": 1e12})))
    assert sorted(other_dtype) == ["floor", "roofline"]


def test_only_failures_leave_what_follows_from_arithmetic() -> None:
    left_out = missing(view(*(make_record(record.case, status="oom") for record in FULL)))
    assert sorted(left_out) == ["crossover", "floor", "forms", "latency", "rates", "roofline", "speedup"]
    assert left_out["latency"] == "Decode latency is left out: no point was measured."


def test_latency_has_a_panel_for_each_batch_and_a_line_for_each_series(full: View) -> None:
    panels = latency.draw(full.frame, full.context).axes
    assert [axes.get_title() for axes in panels] == ["batch 1", "batch 8"]
    for axes in panels:
        assert [line.get_label() for line in axes.lines] == [series.name for series in full.context.series]
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1k", "16k"]


def test_bars_carry_bytes_and_the_factor_against_mha(full: View) -> None:
    (axes,) = kv_bytes.draw(full.frame, full.context).axes
    bars = dict(zip((label.get_text() for label in axes.get_yticklabels()), texts(axes), strict=True))
    assert bars == {
        "MHA": "65,536 B",
        "GQA-8": "4,096 B, 16x fewer than MHA",
        "MQA": "512 B, 128x fewer than MHA",
        "MLA absorbed,\nrecompute": "1,152 B, 56.9x fewer than MHA",
        "MLA expanded": "81,920 B, 1.25x MHA",
    }


def test_bars_without_mha_carry_bytes_alone() -> None:
    found = view(*make_sweep(variant=("gqa", "mla"), form=("absorbed",), batch=(1,), kv_len=(1024,)))
    (axes,) = kv_bytes.draw(found.frame, found.context).axes
    assert texts(axes) == ["4,096 B", "1,152 B"]


def test_the_roofline_marks_its_ceilings_and_the_ridge(full: View) -> None:
    (axes,) = roofline.draw(full.frame, full.context).axes
    assert {"bfloat16 matmul 788 TFLOP/s", "memory 4.3 TB/s", "ridge 183 FLOP/byte"} <= set(texts(axes))
    _, ridge, _ = points_of(axes.lines[0])
    assert ridge == pytest.approx((788e12 / 4.3e12, 788e12))
    assert {"16", "128"} <= set(texts(axes))


def test_rates_show_the_ceilings(full: View) -> None:
    left, right = rates.draw(full.frame, full.context).axes
    assert texts(left) == ["measured ceiling 4.3 TB/s"]
    assert texts(right) == ["measured ceiling 788 TFLOP/s"]


def test_speed_up_is_the_baselines_time_over_the_others() -> None:
    times = {"mha": 1000.0, "gqa": 200.0, "mla": 50.0}
    found = view(*(make_record(make_case(variant=name, kv_len=1024), latency_us=us) for name, us in times.items()))
    over_mha, over_gqa = speedup.draw(found.frame, found.context).axes
    lines = [
        {line.get_label(): [y for _, y in points_of(line)] for line in axes.lines} for axes in (over_mha, over_gqa)
    ]
    assert lines[0]["MLA absorbed"] == [20.0]
    assert lines[0]["GQA-8"] == [5.0]
    assert lines[1]["MLA absorbed"] == [4.0]
    assert lines[1]["MHA"] == [0.2]


def test_the_map_has_the_ratio_in_every_cell_and_frames_what_the_ceilings_do_not_say() -> None:
    times = {("gqa", 1, 1024): 6.0, ("gqa", 1, 4096): 9.0, ("gqa", 8, 1024): 12.0, ("mha", 1, 1024): 30.0}
    times |= {("mla", 1, 1024): 8.0, ("mla", 1, 4096): 9.0, ("mla", 8, 1024): 4.0}
    found = view(
        *(
            make_record(make_case(variant=name, batch=batch, kv_len=kv_len), latency_us=us)
            for (name, batch, kv_len), us in times.items()
        )
    )
    over_mha, over_gqa, bar = crossover.draw(found.frame, found.context).axes
    assert [axes.get_title() for axes in (over_mha, over_gqa)] == ["over MHA", "over GQA-8"]
    assert bar.get_ylabel() == "speed-up of\nMLA absorbed"
    assert {text.get_position(): text.get_text() for text in over_mha.texts} == {(0, 0): "3.8"}
    assert {text.get_position(): text.get_text() for text in over_gqa.texts} == {
        (0, 0): "0.75",
        (1, 0): "1",
        (0, 1): "3",
    }
    # MLA has a quarter of GQA-8's bytes: the ceilings say that it wins everywhere
    assert [frame.get_xy() for frame in over_gqa.patches if frame.get_width() < 1] == [(-0.44, -0.42)]
    assert not [frame for frame in over_mha.patches if frame.get_width() < 1]


def test_the_map_of_energy_has_its_ratios_and_no_frames() -> None:
    joules = {("mla", 1024): 2.0, ("gqa", 1024): 1.0, ("mla", 4096): 2.0, ("gqa", 4096): 5.0, ("mha", 1024): 9.0}
    found = view(*(make_record(make_case(variant=name, kv_len=kv_len)) for name, kv_len in joules))
    assert not crossover.has_energy(found.frame)
    energy = [joules.get((v, kv_len)) if kv_len == 4096 or v != "mha" else None
              for v, kv_len in zip(found.frame["variant"], found.frame["kv_len"], strict=True)]  # fmt: skip
    frame = found.frame.assign(energy_j_per_token=energy)
    assert crossover.has_energy(frame)
    over_gqa, bar = crossover.draw_energy(frame, found.context).axes
    assert over_gqa.get_title() == "over GQA-8"
    assert bar.get_ylabel() == "energy over that of\nMLA absorbed"
    assert {text.get_position(): text.get_text() for text in over_gqa.texts} == {(0, 0): "0.5", (1, 0): "2.5"}
    assert not [frame for frame in over_gqa.patches if frame.get_width() < 1]


def test_forms_are_level_where_the_absorbed_one_is_overtaken() -> None:
    times = {("absorbed", 64): 10.0, ("expanded", 64): 40.0, ("absorbed", 1024): 80.0, ("expanded", 1024): 20.0}
    found = view(
        *(
            make_record(make_case(phase="prefill", form=form, q_len=q_len, kv_len=8192), latency_us=us)
            for (form, q_len), us in times.items()
        )
    )
    (axes,) = forms.draw(found.frame, found.context).axes
    level, line, floor, ring, legend = axes.lines
    assert (legend.get_label(), legend.get_linestyle()) == ("as the ceilings alone allow", ":")
    assert points_of(line) == [(64.0, 4.0), (1024.0, 0.25)]
    assert (line.get_label(), floor.get_linestyle()) == ("MLA expanded", ":")
    assert {y for _, y in points_of(level)} == {1}
    assert texts(axes) == ["256"]
    assert points_of(ring) == [(pytest.approx(256.0), 1)]
    assert axes.get_xlabel() == "q_len (new tokens)"
    assert forms.has_several(found.frame)
    assert not forms.has_several(found.frame[found.frame["form"] == "absorbed"])


def test_labels_of_points_in_one_place_do_not_cover_each_other() -> None:
    labels = [
        Label(10.0, 10.0, "16, 64, 128", "#000000"),
        Label(10.0, 10.0, "128", "#D55E00"),
        Label(11.0, 10.0, "64", "#0072B2"),
    ]
    offsets = free_offsets(labels, (1.0, 1000.0), (1.0, 1000.0))
    boxes = [
        (dx, dy, dx + CHARACTER_POINTS * len(one.text), dy + LINE_POINTS)
        for one, (dx, dy) in zip(labels, offsets, strict=True)
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        one, other = boxes[first], boxes[second]
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize(
    ("values", "most", "kept"),
    [
        ([1024, 4096, 16384, 65536, 131072], 5, [1024, 4096, 16384, 131072]),
        ([1, 2, 4, 8, 16, 32, 64, 128], 4, [1, 8, 128]),
        ([4096], 5, [4096]),
        ([1, 1000], 2, [1, 1000]),
    ],
)
def test_ticks_are_thinned_and_keep_both_ends(values: list[float], most: int, kept: list[float]) -> None:
    assert thinned(values, most) == kept


def test_figures_of_prefill_say_so() -> None:
    records = make_sweep(phase=("prefill",), variant=("mha", "mla"), form=("absorbed",), batch=(1,))
    found = view(*records)
    headings = {name: picture.heading for name, picture in drawn(found).items()}
    assert list(headings) == [name for name in DRAWN if name != "forms"]
    kv_bytes_heading = headings.pop("kv_bytes")
    assert kv_bytes_heading == "KV-cache bytes per token and layer, 128 heads, bfloat16, Synthetic H200"
    assert all(", prefill of whole prompts, " in heading.replace("\n", ", ") for heading in headings.values())
    assert headings["latency"].startswith("Latency, 128 heads, prefill of whole prompts, ")
    (axes,) = latency.draw(found.frame, found.context).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("kv_len (tokens)", "prefill latency, one layer")


def test_a_sweep_over_the_new_tokens_is_drawn_over_them() -> None:
    lengths = (64, 512, 4096)
    found = view(*make_sweep(phase=("prefill",), form=("expanded",), batch=(1, 2), q_len=lengths, kv_len=(16384,)))
    assert missing(found) == {}
    for figure in (latency.draw(found.frame, found.context), rates.draw(found.frame, found.context)):
        axes = figure.axes[0]
        assert axes.get_xlabel() == "q_len (new tokens)"
        assert [[x for x, _ in points_of(line)] for line in axes.lines[:4]] == [list(lengths)] * 4
    own = found.frame[(found.frame["series"] == "MHA") & (found.frame["batch"] == 1)]
    (base,) = own[own["q_len"] == 512]["latency_us"]
    expanded = found.frame[(found.frame["series"] == "MLA expanded") & (found.frame["batch"] == 1)]
    (time,) = expanded[expanded["q_len"] == 512]["latency_us"]
    lines = {line.get_label(): points_of(line) for line in speedup.draw(found.frame, found.context).axes[0].lines}
    assert lines["MLA expanded"][1] == (512.0, pytest.approx(base / time))
