"""What moved between runs: what is held against what, and how it is drawn and told."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from mlabench.cli.report_steps import keep_cases, moved_between
from mlabench.errors import UsageError
from mlabench.records.record import Record
from mlabench.records.store import Run
from mlabench.report.figures.moved import draw
from mlabench.report.moved import MOST_DRAWN, SERIES, Moved
from mlabench.report.style import RC, ratio_ticks
from mlabench.report.write import write_report
from mlabench.verdict.point import Verdict
from tests.factories import make_case, make_record, make_run, make_sweep
from tests.report.pages import numbers_of

LENGTHS = (1024, 4096, 16384)


def timed(factors: dict[int, float], kernel: str = "mla_decode") -> list[Record]:
    """A record of 100 us times the factor for each length."""
    return [
        make_record(make_case(kv_len=kv_len), kernel, 100 * factor, noise=0.001, seed=kv_len)
        for kv_len, factor in factors.items()
    ]


def run(name: str, records: list[Record], **overrides: object) -> Run:
    return make_run(Path(name), records, **overrides)  # type: ignore[arg-type]


def only(runs: list[Run]) -> Moved:
    (moved,) = moved_between(runs)
    return moved


BEFORE = run("before", timed(dict.fromkeys(LENGTHS, 1.0)))
NOW = run("now", timed({1024: 1.0, 4096: 0.5, 16384: 1.3}))


def test_the_farthest_comes_first_with_its_verdict_and_interval() -> None:
    moved = only([BEFORE, NOW])
    assert moved.title == "now against before"
    assert [(point.case.kv_len, point.verdict) for point in moved.points] == [
        (4096, "faster"),
        (16384, "slower"),
        (1024, "same"),
    ]
    slower = moved.points[1]
    assert slower.ratio == pytest.approx(1.3, rel=0.01)
    assert slower.interval[0] < slower.ratio < slower.interval[1]
    assert (slower.base_us, slower.current_us) == pytest.approx((100.0, 130.0), rel=0.01)
    assert moved.summary == (
        "3 points timed in both: 1 slower, 1 faster, 1 same. The ratio of the times is 0.866x in geometric mean, "
        "from 0.5x to 1.3x."
    )
    assert moved.least == "5% and 1 us"
    assert moved.kernels == (("mla_decode", "3", "0.866x", "1 slower, 1 faster, 1 same"),)


def test_each_run_is_held_against_the_first_before_it_with_points_in_common() -> None:
    other = run("layers", timed({65536: 1.0}, "grouped_decode"))
    later = run("later", timed({65536: 1.1}, "grouped_decode") + timed({4096: 1.0}))
    titles = [moved.title for moved in moved_between([BEFORE, other, NOW, later])]
    assert titles == ["now against before", "later against before"]
    assert moved_between([BEFORE, other]) == ()


def test_a_run_is_not_held_against_itself_nor_against_one_whose_kernels_took_turns() -> None:
    again = replace(BEFORE, path=Path("copy"))
    turns = run("turns", timed(dict.fromkeys(LENGTHS, 2.0)), config={"interleaved": {}})
    assert moved_between([BEFORE, again]) == ()
    assert moved_between([BEFORE, turns]) == ()


def test_what_cannot_be_compared_is_counted_with_its_reason_and_what_only_one_holds_is_not() -> None:
    lost = make_record(make_case(kv_len=4096), "mla_decode", status="oom", reason="too large")
    now = run("now", [*timed({1024: 1.0, 65536: 1.0}), lost])
    moved = only([BEFORE, now])
    assert len(moved.points) == 1
    assert [(other.verdict, other.points, other.reason) for other in moved.others] == [("lost", 1, "oom: too large")]


def test_other_machines_and_other_cards_are_told() -> None:
    here = replace(BEFORE, manifest=replace(BEFORE.manifest, gpu_state={"uuid": "A"}))
    elsewhere = run("now", list(NOW.records), device_name="Synthetic B200", gpu_state={"uuid": "B"})
    terms, machines = only([here, elsewhere]).warnings
    assert "device_name 'Synthetic H200' against 'Synthetic B200'" in terms
    assert machines.startswith("The machines differ")
    (cards,) = only([here, run("now", list(NOW.records), gpu_state={"uuid": "B"})]).warnings
    assert cards.startswith("They are of two cards")
    assert only([BEFORE, NOW]).warnings == ()


def test_points_are_called_by_what_tells_them_apart() -> None:
    same = make_sweep(variant=("mla",), form=("absorbed",), batch=(1,), kv_len=(1024,), num_q_heads=(16, 128))
    cases = [record.case for record in same]
    plain = only([run(name, [make_record(case, "k", us) for case in cases]) for name, us in (("a", 10.0), ("b", 20.0))])
    assert sorted(plain.names) == [f"MLA absorbed ({heads} heads), batch 1, kv_len 1k" for heads in (128, 16)]
    ragged = [*cases, make_case(kv_len=1024, num_q_heads=16, kv_len_dist="ragged")]
    runs = [
        run(name, [make_record(case, k, us) for case in ragged for k in ("k", "l")])
        for name, us in (("a", 10.0), ("b", 20.0))
    ]
    names = only(runs).names
    assert len(set(names)) == len(names) == 6
    sizes = [
        make_record(make_case(kv_len=1024, kv_lora_rank=rank), "k", method=method)
        for rank, method in ((256, "graph"), (512, "graph"), (512, "events"))
    ]
    told = only([run("a", sizes), run("b", sizes)]).names
    assert sorted(name.partition("kv_len 1k, ")[2] for name in told) == [
        "kv_lora_rank 256, method graph",
        "kv_lora_rank 512, method events",
        "kv_lora_rank 512, method graph",
    ]
    assert "MLA absorbed (16 heads), batch 1, kv_len 1k, ragged, kernel l" in names


def test_every_verdict_of_a_ratio_has_a_look() -> None:
    with_ratio = {Verdict.SLOWER, Verdict.FASTER, Verdict.INCONCLUSIVE, Verdict.NOT_SLOWER, Verdict.SAME}
    assert {one.name for one in SERIES} == {verdict.value for verdict in with_ratio}
    assert len({(one.style.colour, one.style.marker) for one in SERIES}) == len(SERIES)


def test_the_figure_draws_the_farthest_points_by_name() -> None:
    lengths = [1024 * place for place in range(1, MOST_DRAWN + 6)]
    runs = [
        run(name, timed({kv_len: 1 + slope * place for place, kv_len in enumerate(lengths)}))
        for name, slope in (("before", 0.0), ("now", 0.02))
    ]
    moved = only(runs)
    with matplotlib.rc_context(RC):
        (axes,) = draw(moved).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(moved.names[:MOST_DRAWN])
    assert moved.names[0].endswith(f"kv_len {lengths[-1] // 1024}k")
    low, high = axes.get_xlim()
    assert low < 1 < max(point.interval[1] for point in moved.drawn) < high
    assert "1x" in [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.95, 1.06, [0.96, 0.98, 1.0, 1.02, 1.04, 1.06]),
        (0.7, 2.1, [0.7, 1, 1.5, 2]),
        (0.05, 100, [0.1, 0.3, 1, 3, 10, 30, 100]),
        (0.001, 1000, [0.001, 0.01, 0.1, 1, 10, 100, 1000]),
    ],
)
def test_ticks_of_ratios_are_round_and_hold_one(low: float, high: float, ticks: list[float]) -> None:
    assert ratio_ticks(low, high) == pytest.approx(ticks)


def test_cases_are_kept_in_every_run() -> None:
    kept = keep_cases([BEFORE, NOW], "kv_len >= 4096")
    assert [[record.case.kv_len for record in one.records] for one in kept] == [[4096, 16384]] * 2
    with pytest.raises(UsageError, match="leaves none of the 3 cases"):
        keep_cases([BEFORE, NOW], "kv_len == 7")
    with pytest.raises(UsageError, match="did you mean kv_len"):
        keep_cases([BEFORE], "kv_ln == 7")


def test_without_bokeh_the_page_holds_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlabench.report.charts.find_spec", {}.get)
    moved = moved_between([BEFORE, NOW])
    (path,) = write_report([BEFORE, NOW], tmp_path, ["html"], figures=["moved"], moved=moved)
    page = path.read_text("utf-8")
    assert page.count("<img ") == 1
    assert 'alt="What moved: now against before. The time now over the time before' in page
    assert numbers_of(page)["views"] == []


def test_the_section_stays_where_its_figure_is_not_asked_for(tmp_path: Path) -> None:
    moved = moved_between([BEFORE, NOW])
    (path,) = write_report([BEFORE, NOW], tmp_path, ["html"], figures=["latency"], moved=moved)
    page = path.read_text("utf-8")
    assert "3 points timed in both" in page
    assert 'id="moved0-chart"' not in page
    assert [view["id"] for view in numbers_of(page)["views"]] == ["view0"]
