"""Kernels side by side."""

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from PIL import Image

from mlabench.cases.case import Case
from mlabench.measure.kernels import KERNELS, PEERS
from mlabench.records.record import Record
from mlabench.report.figures.kernels import LEAST_GAP_PIXELS, WIDTH_PIXELS, draw, finding, has_several
from mlabench.report.figures.looks import LOOKS, Look, is_of_suite, looks_of, with_sides
from mlabench.report.render import draw_pictures
from mlabench.report.series import View, make_views
from mlabench.report.side_by_side import MOST_PANELS
from mlabench.report.style import RC
from tests.factories import make_case, make_record, make_run

TIMES = {"chosen": 100.0, "flash_mla": 120.0, "flash_attn_3": 150.0}
PLACES = ((1, 4096), (8, 1024), (8, 8192))
KINDS = {"decode": "mla_decode", "prefill": "grouped_prefill"}


def view(records: Sequence[Record], **overrides: Any) -> View:
    (found,) = make_views([make_run(Path("synthetic"), records, **overrides)])
    return found


def measured(case: Case, backend: str, us: float = 100.0) -> Record:
    """A record of the backend's kernel, by the name that the suite has for it."""
    kind = KINDS[case.phase]
    return make_record(case, kind if backend == "chosen" else f"{kind}_{backend}", us, backend=backend)


def side_by_side(heads: Sequence[int] = (16, 128), factor: float = 1.0, **times_us: float) -> list[Record]:
    return [
        measured(make_case(num_q_heads=count, batch=batch, kv_len=kv_len), backend, factor * us)
        for count in heads
        for batch, kv_len in PLACES
        for backend, us in (times_us or TIMES).items()
    ]


def drawn(records: Sequence[Record], **overrides: Any) -> Any:
    found = view(records, **overrides)
    with matplotlib.rc_context(RC):
        return draw(found.every, found.context)


def looks(records: Sequence[Record]) -> dict[str, Look]:
    return looks_of(with_sides(view(records).every))


def said(records: Sequence[Record]) -> str:
    rows = with_sides(view(records).every)
    return finding(rows, looks_of(rows))


def ticks_of(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def lines_of(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}


def test_a_panel_for_each_number_of_heads_and_a_marker_for_each_kernel() -> None:
    figure = drawn(side_by_side())
    assert [axes.get_title() for axes in figure.axes] == ["16 heads", "128 heads"]
    assert [(axes.get_xlabel(), ticks_of(axes.xaxis)) for axes in figure.axes] == [
        ("batch x kv_len", ["1 x 4k", "8 x 1k", "8 x 8k"])
    ] * 2
    lines = lines_of(figure.axes[0])
    assert list(lines) == ["mla_decode", "FlashMLA", "FlashAttention-3"]
    rows = view(side_by_side()).every
    floors_us = rows[rows["num_q_heads"] == 16].drop_duplicates("case_id")["floor_us"]
    assert list(lines["FlashMLA"].get_ydata()) == pytest.approx([120 / floor_us for floor_us in floors_us])
    assert lines["mla_decode"].get_markersize() > lines["FlashMLA"].get_markersize()
    assert len({(line.get_marker(), line.get_color()) for line in lines.values()}) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(lines)
    assert "floor" in ticks_of(figure.axes[0].yaxis)


def test_without_ceilings_it_draws_the_times() -> None:
    figure = drawn(side_by_side(), ceilings=None)
    assert figure.axes[0].get_ylabel() == "time of a call"
    assert set(lines_of(figure.axes[0])["mla_decode"].get_ydata()) == {100.0}
    assert "floor" not in ticks_of(figure.axes[0].yaxis)


def test_the_title_says_the_finding() -> None:
    slow = [measured(make_case(num_q_heads=64), "chosen", 200.0)]
    slow += [measured(make_case(num_q_heads=64), "flash_mla", 100.0)]
    found = view([*side_by_side(), *slow])
    (picture,) = [one for one in draw_pictures(found, ("png",)) if one.row.name == "kernels"]
    mean = (1.2**6 * 0.5) ** (1 / 7)
    assert picture.heading.startswith(
        f"mla_decode is faster than every peer at 6 of 7 points; the best peer takes {mean:.2f}x its time"
    )
    assert picture.heading.endswith("MLA absorbed, bfloat16, Synthetic H200")
    assert Image.open(io.BytesIO(picture.files["png"])).width == WIDTH_PIXELS


def test_the_suites_own_kernels_are_no_peers() -> None:
    with_own = side_by_side(chosen=100.0, triton=90.0, flash_mla=150.0)
    assert "mla_decode is faster than every peer at 6 of 6 points; the best peer takes 1.5x" in said(with_own)
    own = side_by_side(gluon=100.0, triton=90.0)
    assert "gluon is faster than every other at 0 of 6 points" in said(own)
    case = make_case()
    commits = [make_record(case, f"mla_decode_triton{at}", backend="triton") for at in ("", "@1a2b3c4")]
    assert [look.peer for look in looks(commits).values()] == [False, False]


def test_without_a_common_point_there_is_no_finding() -> None:
    here, there = make_case(kv_len=1024), make_case(kv_len=4096)
    pairs = ((here, "chosen"), (here, "torch"), (there, "torch"), (there, "flash_mla"))
    assert said([measured(case, backend) for case, backend in pairs]) == "mla_decode beside others"


def test_every_backend_has_a_look_and_others_are_given_one() -> None:
    assert set(LOOKS) == {kernel.backend for kernel in (*KERNELS, *PEERS)}
    assert {backend for backend, look in LOOKS.items() if look.peer} == {kernel.backend for kernel in PEERS}
    kernels = (("mine", "mine"), ("mla_decode", "chosen"), ("mla_decode@1a2b3c4", "chosen"), ("mla_prefill", "chosen"))
    found = looks([make_record(make_case(), name, backend=backend) for name, backend in kernels])
    assert [look.label for look in found.values()] == ["mla_decode", "mine", "mla_decode@1a2b3c4", "mla_prefill"]
    assert len({(look.colour, look.marker) for look in found.values()}) == 4
    two = looks([make_record(make_case(), f"flash_mla_{name}", backend="flash_mla") for name in ("new", "old")])
    assert [(look.label, look.peer) for look in two.values()] == [("flash_mla_new", True), ("flash_mla_old", True)]


def test_every_kernel_of_the_suite_and_its_peers_is_known_by_its_name() -> None:
    assert [kernel.name for kernel in (*KERNELS, *PEERS) if not is_of_suite(kernel.name, kernel.backend)] == []
    assert is_of_suite("mla_decode_triton@1a2b3c4", "triton")
    strangers = (("my_decode", "triton"), ("mla_decode_triton", "mine"), ("mla_decode_v2", "triton"), ("mine", "mine"))
    assert [names for names in strangers if is_of_suite(*names)] == []


def test_other_packages_kernels_go_by_their_names_and_are_held_against_the_suites() -> None:
    case = make_case()
    others = (("a_decode", "triton"), ("my_decode", "mine"), ("other_decode", "mine"), ("z_decode", "chosen"))
    records = [make_record(case, name, backend=backend) for name, backend in others]
    records += [measured(case, backend) for backend in ("triton", "flash_mla")]
    found = looks(records)
    assert [look.label for look in found.values()] == [
        *("mla_decode_triton", "FlashMLA", "a_decode", "my_decode", "other_decode", "z_decode")
    ]
    assert [look.peer for look in found.values()] == [False, *[True] * 5]


def test_no_two_markers_are_alike_however_many_kernels_there_are() -> None:
    case = make_case()
    records = [measured(case, backend) for backend in LOOKS]
    records += [make_record(case, f"theirs_{place}", backend="triton") for place in range(12)]
    records += [make_record(case, "mla_decode_triton@1a2b3c4", backend="triton")]
    found = looks(records)
    assert len({look.marker for look in found.values()}) == len(found) == len(LOOKS) + 13


def test_the_kernels_of_a_backend_for_several_attentions_are_one() -> None:
    grouped, latent = make_case(variant="gqa", num_kv_heads=8, num_q_heads=64), make_case()
    records = [
        make_record(case, f"{name}_{backend}{at}", 100.0 * (1 + len(at)), backend=backend)
        for case, name in ((grouped, "grouped_decode"), (latent, "mla_decode"))
        for backend, at in (("triton", ""), ("triton", "@1a2b3c4"), ("flash_attn_3", ""))
    ]
    assert [look.label for look in looks(records).values()] == ["Triton", "FlashAttention-3", "Triton@1a2b3c4"]
    assert "Triton is faster than every peer at 0 of 2 points" in said(records)
    assert [len(lines_of(axes)["FlashAttention-3"].get_xdata()) for axes in drawn(records).axes] == [1, 1]


def test_it_is_drawn_only_where_a_case_was_measured_on_several_kernels() -> None:
    single = view([make_record(make_case(kv_len=kv_len)) for kv_len in (1024, 4096)])
    assert not has_several(single.every)
    assert "kernels" not in {picture.row.name for picture in draw_pictures(single, ("png",))}
    failed = view([*side_by_side(chosen=100.0), *(make_record(r.case, "x", status="oom") for r in side_by_side())])
    assert not has_several(failed.every)
    assert has_several(view(side_by_side()).every)


def grouped_study() -> list[Record]:
    """Points whose page size differs with their length, of attentions whose head dims differ."""
    attentions = (
        *({"variant": "gqa", "num_kv_heads": 8, "num_q_heads": heads, "head_dim": 128} for heads in (32, 64, 128)),
        {"variant": "mha", "num_q_heads": 128, "head_dim": 128},
        {"variant": "mqa", "num_q_heads": 71, "head_dim": 64},
    )
    cases = [
        make_case(**attention, batch=batch, kv_len=kv_len, page_size=kv_len)
        for attention in attentions
        for batch, kv_len in ((1, 32768), (16, 4096))
    ]
    return [make_record(case, name, backend=name) for case in cases for name in ("triton", "flashinfer")]


def test_every_point_is_drawn_with_a_panel_for_each_attention() -> None:
    figure = drawn(grouped_study())
    assert [axes.get_title() for axes in figure.axes] == [
        "MHA, 128 heads, head_dim 128",
        *(f"GQA-8, {heads} heads, head_dim 128" for heads in (32, 64, 128)),
        "MQA, 71 heads, head_dim 64",
    ]
    assert all(list(lines_of(axes)["triton"].get_xdata()) == [0, 1] for axes in figure.axes)
    assert "of 10 points" in figure.get_suptitle()
    # Two rows of three, of which the second is short of one: all but the first two panels have no other below.
    assert [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes] == [False, False, True, True, True]
    assert len({axes.get_position().y0 for axes in figure.axes}) == 2


def test_a_setting_that_differs_at_one_point_has_panels_of_its_own() -> None:
    cases = [make_case(page_size=size, q_len=q_len) for size in (16, 64) for q_len in (1, 2)]
    figure = drawn([measured(case, backend) for case in cases for backend in TIMES])
    assert [axes.get_title() for axes in figure.axes] == [f"128 heads, page_size {size}" for size in (16, 64)]
    assert figure.axes[0].get_xlabel() == "batch x q_len"
    assert ticks_of(figure.axes[0].xaxis) == ["1 x 1", "1 x 2"]


def test_of_many_attentions_some_are_drawn_and_the_title_says_so() -> None:
    cases = [make_case(num_q_heads=heads) for heads in range(8, 8 * 21, 8)]
    figure = drawn([measured(case, backend) for case in cases for backend in ("chosen", "flash_mla")])
    titles = [axes.get_title() for axes in figure.axes]
    assert (len(titles), titles[0], titles[-1]) == (MOST_PANELS, "8 heads", "160 heads")
    assert figure.get_suptitle().endswith(f"{MOST_PANELS} of 20 attentions")
    assert f"of {MOST_PANELS} points" in figure.get_suptitle()


def test_a_time_far_above_all_that_must_be_seen_is_written_at_the_cut() -> None:
    records = side_by_side(heads=(16,), chosen=100.0, flash_mla=120.0, flashinfer_fa3=110.0)
    far = [measured(records[0].case, "vllm_triton", 5000.0), measured(records[0].case, "sglang_triton", 4000.0)]
    (axes,) = drawn([*records, *far], ceilings=None).axes
    assert [text.get_text() for text in axes.texts] == ["5 ms\n4 ms"]
    (height,) = lines_of(axes)["vLLM Triton"].get_ydata()
    low, high = axes.get_ylim()
    assert 120 < height < high < 300
    assert low > 80
    assert all(tick < height for tick in axes.get_yticks())


def test_panels_share_a_scale_unless_one_would_be_pressed() -> None:
    alike = drawn(side_by_side(heads=(64, 128)))
    assert len({axes.get_ylim() for axes in alike.axes}) == 1
    assert "a scale of its own" not in alike.get_suptitle()
    unlike = drawn([*side_by_side(heads=(16,), factor=0.04), *side_by_side(heads=(128,), factor=40.0)])
    assert len({axes.get_ylim() for axes in unlike.axes}) == 2
    assert unlike.get_suptitle().endswith("; each panel has a scale of its own")


def test_little_of_the_axis_lies_under_the_floor() -> None:
    near = [make_record(make_case(kv_len=131072, batch=64), name, backend=name) for name in ("chosen", "flash_mla")]
    (axes,) = drawn(near).axes
    low, high = axes.get_ylim()
    assert 0.9 < low < 1
    assert high > 1.4


def test_markers_of_a_place_stay_with_it() -> None:
    case = make_case(phase="prefill", q_len=2048, kv_len=2048)
    (axes,) = drawn([measured(case, backend) for backend in LOOKS]).axes
    x = sorted(float(line.get_xdata()[0]) for line in lines_of(axes).values())
    low, high = axes.get_xlim()
    assert (x[-1] - x[0]) / (high - low) < 0.2
    many = [make_case(kv_len=1024 * step) for step in range(1, 17)]
    (axes,) = drawn([measured(case, backend) for case in many for backend in LOOKS]).axes
    x = [float(line.get_xdata()[0]) for line in lines_of(axes).values()]
    assert max(x) - min(x) < 0.8


def test_many_points_and_kernels_have_texts_that_do_not_lie_on_one_another() -> None:
    records = [
        make_record(make_case(batch=batch, kv_len=1024 * step), backend, 100.0, backend=backend)
        for batch in (1, 8)
        for step in range(1, 17)
        for backend in LOOKS
    ]
    figure = drawn(records)
    figure.draw_without_rendering()
    ((axes,), (legend,)) = figure.axes, figure.legends
    assert len(axes.get_xticks()) == 16
    labels = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(right.x0 > left.x1 for left, right in pairwise(labels))
    box = legend.get_window_extent()
    assert box.x0 > 0
    assert box.x1 < WIDTH_PIXELS
    assert not any(box.overlaps(label) for label in labels)


def test_texts_of_places_lie_side_by_side_where_they_fit() -> None:
    for places, rotation in ((PLACES, 0), ([(1, 1024 * step) for step in range(1, 17)], 90)):
        cases = [make_case(batch=b, kv_len=n, num_q_heads=h) for b, n in places for h in (16, 64, 128)]
        figure = drawn([measured(case, backend) for case in cases for backend in TIMES])
        labels = [label for axes in figure.axes for label in axes.get_xticklabels()]
        assert {label.get_rotation() for label in labels} == {rotation}
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
        assert rotation or all(right.x0 - left.x1 >= LEAST_GAP_PIXELS for left, right in pairwise(boxes))


@pytest.mark.parametrize(
    ("lengths", "axis", "ticks", "setting"),
    [
        (((64, 8192), (512, 8192)), "batch x q_len", ["1 x 64", "1 x 512"], "prefill, kv_len 8k, "),
        (((512, 4096), (512, 8192)), "batch x kv_len", ["1 x 4k", "1 x 8k"], "prefill, q_len 512, "),
        (((1024, 1024), (4096, 4096)), "prompts x tokens", ["1 x 1k", "1 x 4k"], "prefill, "),
        (((512, 4096), (64, 8192)), "batch x q_len of kv_len", ["1 x 64 of 8k", "1 x 512 of 4k"], "prefill, "),
    ],
)
def test_a_place_names_the_lengths_that_differ(
    lengths: Sequence[tuple[int, int]], axis: str, ticks: list[str], setting: str
) -> None:
    cases = [make_case(phase="prefill", q_len=q_len, kv_len=kv_len) for q_len, kv_len in lengths]
    figure = drawn([measured(case, backend) for case in cases for backend in TIMES])
    (axes,) = figure.axes
    assert (axes.get_xlabel(), ticks_of(axes.xaxis)) == (axis, ticks)
    assert set(lines_of(axes)["grouped_prefill"].get_xdata()) == {0, 1}
    assert figure.get_suptitle().endswith(f"MLA absorbed, {setting}bfloat16, Synthetic H200")


def test_the_new_tokens_of_a_decode_are_told() -> None:
    records = [measured(make_case(q_len=2, kv_len=kv_len), backend) for kv_len in (1024, 4096) for backend in TIMES]
    assert drawn(records).get_suptitle().endswith("MLA absorbed, q_len 2, bfloat16, Synthetic H200")
