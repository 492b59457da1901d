"""Kernels side by side."""

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlabench.cases.case import Case
from mlabench.measure.kernels import KERNELS, PEERS
from mlabench.records.record import Record
from mlabench.report.figures.kernels import LOOKS, draw, finding, has_several, looks_of
from mlabench.report.render import draw_pictures
from mlabench.report.series import View, make_views
from tests.factories import make_case, make_record, make_run

TIMES = {"chosen": 100.0, "flash_mla": 120.0, "flash_attn_3": 150.0}
PLACES = ((1, 4096), (8, 1024), (8, 8192))
CHOSEN = {"decode": "mla_decode", "prefill": "grouped_prefill"}


def view(records: Sequence[Record], **overrides: Any) -> View:
    (found,) = make_views([make_run(Path("synthetic"), records, **overrides)])
    return found


def measured(case: Case, backend: str, us: float = 100.0) -> Record:
    """A record of the backend's kernel; those that choose among others have a name for each phase."""
    return make_record(case, CHOSEN[case.phase] if backend == "chosen" else backend, us, backend=backend)


def side_by_side(heads: Sequence[int] = (16, 128), factor: float = 1.0, **times_us: float) -> list[Record]:
    return [
        measured(make_case(num_q_heads=count, batch=batch, kv_len=kv_len), backend, factor * us)
        for count in heads
        for batch, kv_len in PLACES
        for backend, us in (times_us or TIMES).items()
    ]


def lines_of(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}


def test_a_panel_for_each_number_of_heads_and_a_marker_for_each_kernel() -> None:
    found = view(side_by_side())
    figure = draw(found.frame, found.context)
    assert [axes.get_title() for axes in figure.axes] == ["16 heads", "128 heads"]
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["1 x 4k", "8 x 1k", "8 x 8k"]
    lines = lines_of(figure.axes[0])
    assert list(lines) == ["mla_decode", "FlashMLA", "FlashAttention-3"]
    floors_us = found.frame[found.frame["num_q_heads"] == 16].drop_duplicates("case_id")["floor_us"]
    assert list(lines["FlashMLA"].get_ydata()) == pytest.approx([120 / floor_us for floor_us in floors_us])
    assert lines["mla_decode"].get_markersize() > lines["FlashMLA"].get_markersize()
    assert len({(line.get_marker(), line.get_color()) for line in lines.values()}) == 3
    assert {text.get_text() for text in figure.axes[1].texts} == {"mla_decode", "FlashMLA", "FlashAttention-3"}
    assert "floor" in {text.get_text() for text in figure.axes[0].texts}


def test_without_ceilings_it_draws_the_times() -> None:
    found = view(side_by_side(), ceilings=None)
    figure = draw(found.frame, found.context)
    assert figure.axes[0].get_ylabel() == "time of a call"
    assert set(lines_of(figure.axes[0])["mla_decode"].get_ydata()) == {100.0}
    assert list(figure.axes[0].texts) == []


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
    assert Image.open(io.BytesIO(picture.files["png"])).width == 1600


def test_the_suites_own_kernels_are_no_peers() -> None:
    with_own = view(side_by_side(chosen=100.0, triton=90.0, flash_mla=150.0)).frame
    assert "every peer at 6 of 6 points; the best peer takes 1.5x" in finding(with_own, looks_of(with_own))
    own = view(side_by_side(gluon=100.0, triton=90.0)).frame
    assert "Gluon is faster than every other at 0 of 6 points" in finding(own, looks_of(own))


def test_without_a_common_point_there_is_no_finding() -> None:
    here, there = make_case(kv_len=1024), make_case(kv_len=4096)
    pairs = ((here, "chosen"), (here, "torch"), (there, "torch"), (there, "flash_mla"))
    rows = view([measured(case, backend) for case, backend in pairs]).frame
    assert finding(rows, looks_of(rows)) == "mla_decode beside others"


def test_every_backend_has_a_look_and_others_are_given_one() -> None:
    assert set(LOOKS) == {kernel.backend for kernel in (*KERNELS, *PEERS)}
    assert {backend for backend, look in LOOKS.items() if look.peer} == {kernel.backend for kernel in PEERS}
    found = [
        make_record(make_case(), name, backend=backend)
        for name, backend in (("mine", "mine"), ("mla_decode", "chosen"), ("mla_decode@1a2b3c4", "chosen"))
    ]
    looks = looks_of(view(found).frame)
    assert [look.label for look in looks.values()] == ["mla_decode", "mine", "mla_decode@1a2b3c4"]
    assert len({(look.colour, look.marker) for look in looks.values()}) == 3


def test_it_is_drawn_only_where_a_case_was_measured_on_several_kernels() -> None:
    single = view([make_record(make_case(kv_len=kv_len)) for kv_len in (1024, 4096)])
    assert not has_several(single.frame)
    assert "kernels" not in {picture.row.name for picture in draw_pictures(single, ("png",))}
    failed = view([*side_by_side(chosen=100.0), *(make_record(r.case, "x", status="oom") for r in side_by_side())])
    assert not has_several(failed.frame)
    assert has_several(view(side_by_side()).frame)


def test_many_points_and_kernels_have_labels_that_do_not_lie_on_one_another() -> None:
    records = [
        make_record(make_case(batch=batch, kv_len=1024 * step), backend, 100.0, backend=backend)
        for batch in (1, 8)
        for step in range(1, 17)
        for backend in LOOKS
    ]
    found = view(records)
    (axes,) = draw(found.frame, found.context).axes
    heights = sorted(text.xy[1] for text in axes.texts if text.get_text() != "floor")
    assert len(heights) == len(LOOKS)
    assert all(above - below > 0.05 for below, above in pairwise(heights))
    assert heights[-1] <= 1
    assert len(axes.get_xticks()) == 16


def test_a_sweep_over_the_new_tokens_has_a_place_for_each() -> None:
    records = [
        measured(make_case(phase="prefill", q_len=q_len, kv_len=8192), backend, us)
        for q_len in (64, 512, 4096)
        for backend, us in TIMES.items()
    ]
    found = view(records)
    (axes,) = draw(found.frame, found.context).axes
    assert axes.get_xlabel() == "batch x q_len"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1 x 64", "1 x 512", "1 x 4k"]
    own = next(line for line in axes.lines if line.get_label() == "grouped_prefill")
    assert list(own.get_xdata()) == [0, 1, 2]
