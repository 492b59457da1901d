"""What is made of a study of kernels beside their peers: points, totals, pages, figure and sentences."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mlabench.cases.case import Case
from mlabench.errors import ExitCode
from mlabench.measure.config import load_config
from mlabench.measure.plan import chosen_cases
from mlabench.records.pairs import Pair
from mlabench.units import format_bandwidth
from tests.bench.peer_points import BEST, study, totals
from tests.bench.peer_study import main, page
from tests.cli.commands import ROOT, call
from tests.factories import CEILINGS, make_case, make_record, make_run, write_run
from tests.faults.sweeps import NearWorker
from tests.report.ab_runs import LAUNCH_US, failed, make_pairs, over_floor, write_ab_run

FOLDER = ROOT / "results" / "studies" / "mla-decode"
FACTORS = {"chosen": 1.25, "flash_mla": 1.5, "flashinfer_fa3": 2.0, "flash_attn_3": 1.4}
FEW, MANY = (make_case(num_q_heads=heads, batch=128, kv_len=8192) for heads in (16, 128))
SHORT = make_case(num_q_heads=16, kv_len=1024)


def pairs_of(*cases: Case) -> list[Pair]:
    return list(make_pairs(cases, over_floor(FACTORS)))


def write(path: Path, *pairs: Pair, **overrides: object) -> Path:
    return write_ab_run(path, pairs, **{"ceilings": CEILINGS["cuda"], **overrides})


def the_cases() -> tuple[Case, ...]:
    return chosen_cases(load_config(FOLDER / "study.toml"))


def test_sweep_and_ab_take_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = ("--config", str(FOLDER / "study.toml"), "--device", "cpu")
    assert call(monkeypatch, "sweep", *settings, "--dry-run") == 0
    monkeypatch.setattr("mlabench.measure.side_by_side.Worker", NearWorker)
    axes = ("-a", "num_q_heads=4", "-a", "batch=1,2", "-a", "kv_len=70", "--where", "batch > 0")
    out = tmp_path / "run"
    sides = ("mla_decode_torch", "torch", "flash_mla")
    assert call(monkeypatch, "ab", *sides, *settings, *axes, "--max-s", "1", "--out", str(out)) == ExitCode.PASS
    rows = study(out)
    assert [(row.place[1:], row.ours, row.best) for row in rows] == [
        ((4, batch, 70), "torch", "torch") for batch in (1, 2)
    ]
    assert all(len(row.why) == 1 and "flash_mla unavailable" in row.why[0] for row in rows)


def test_a_row_has_the_times_the_floor_and_what_binds(tmp_path: Path) -> None:
    short, few, many = study(write(tmp_path / "ab", *pairs_of(MANY, FEW, SHORT)))
    assert [row.place[1:] for row in (short, few, many)] == [(16, 1, 1024), (16, 128, 8192), (128, 128, 8192)]
    assert (few.attention, few.label) == ("MLA absorbed (16 heads)", "MLA absorbed (16 heads), batch 128, 8k")
    floor_us = CEILINGS["cuda"].floor_us(FEW.bytes_moved, FEW.flops, "bfloat16")
    assert floor_us is not None
    assert few.floor_us == floor_us
    assert few.ours_us == pytest.approx(LAUNCH_US + 1.25 * floor_us, rel=0.005)
    assert (few.ours, few.best) == ("gluon", "flash_attn_3")
    best = few.ratio_to(BEST)
    assert best is not None
    assert best == few.ratio_to("flash_attn_3")
    assert best.low < best.value < best.high
    assert best.value == pytest.approx((LAUNCH_US + 1.4 * floor_us) / (LAUNCH_US + 1.25 * floor_us), rel=0.005)
    assert (few.binds, many.binds) == ("DRAM 79%", "tensor cores 79%")
    assert short.binds is not None
    assert short.binds.startswith("launch 9")


@pytest.mark.parametrize(("share", "text"), [(0.51, "launch 51%"), (0.49, "latency (launch 49%)")])
def test_what_explains_less_than_half_binds_nothing(tmp_path: Path, share: float, text: str) -> None:
    pairs = list(make_pairs([SHORT], lambda *_: LAUNCH_US / share))
    (row,) = study(write(tmp_path / "ab", *pairs))
    assert row.binds == text


def test_clocks_that_were_held_down_are_told(tmp_path: Path) -> None:
    (row,) = study(write(tmp_path / "ab", *make_pairs([FEW], over_floor(FACTORS), clock_mhz=1500.0)))
    assert row.binds == "DRAM 79%, clocks held down"


def test_a_side_without_a_time_is_told_and_counted(tmp_path: Path) -> None:
    lost, *others = pairs_of(FEW)
    every = [failed(lost, "unavailable", "needs flash_mla"), *others, *pairs_of(MANY)]
    absent = [
        replace(failed(pair, None, ""), base=replace(pair.base, status="oom", reason="full"))
        for pair in pairs_of(SHORT)
    ]
    rows = study(write(tmp_path / "ab", *every, *absent))
    found = {(total.peer, total.attention): (len(total.ratios), total.asked) for total in totals(rows)}
    assert found[BEST, "MLA absorbed (16 heads)"] == (1, 2)
    assert found[BEST, "MLA absorbed (128 heads)"] == (1, 1)
    assert found[BEST, None] == (2, 3)
    assert ("flash_mla", "MLA absorbed (16 heads)") not in found
    text = page(rows)
    assert "- without a time: MLA absorbed (16 heads), batch 128, 8k: flash_mla unavailable: needs flash_mla" in text
    assert "- without a time: MLA absorbed (16 heads), batch 1, 1k: mla_decode oom: full" in text
    assert "| MLA absorbed (16 heads) | 1 | 1k | gluon | – | – | – | – | – | 0.282 | – | – | – | – |" in text


def test_points_under_the_bar_are_named(tmp_path: Path) -> None:
    slow = list(make_pairs([MANY], over_floor({**FACTORS, "chosen": 2.0})))
    rows = study(write(tmp_path / "ab", *pairs_of(FEW), *slow))
    lines = [line for line in page(rows).splitlines() if line.startswith("- ")]
    assert len(lines) == 1
    assert lines[0].startswith("- under 0.93: MLA absorbed (128 heads), batch 128, 8k: flash_attn_3 takes 0.70")
    assert f"| {BEST} | all | 2 of 2 | " in page(rows)
    assert not [line for line in page(rows, bar=0.6).splitlines() if line.startswith("- ")]


def test_without_ceilings_there_is_no_floor(tmp_path: Path) -> None:
    rows = study(write(tmp_path / "ab", *pairs_of(FEW), ceilings=None))
    assert (rows[0].floor_us, rows[0].binds) == (None, None)
    assert page(rows).endswith("- No floor: there are no ceilings of this card.")


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["peer_study", *arguments])
    main()


def test_the_command_prints_the_points_and_the_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "mla-decode"
    path = write(folder / "ab", *pairs_of(*the_cases()))
    command(monkeypatch, str(folder))
    assert capsys.readouterr().out.strip() == page(study(path))
    command(monkeypatch, str(folder), "--sentences")
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("mla_decode is faster than every peer at 30 of 30 points; the best peer takes 1.0")
    assert ", from 1.0" in first
    text = "\n".join(others)
    ours_us = {row.case: row.ours_us for row in study(path)}[FEW]
    assert ours_us is not None
    assert f"At batch 128 and 8k it moves {format_bandwidth(FEW.bytes_moved / ours_us * 1e6)} with 16 heads" in text
    assert "of which an empty call is 4 us." in text
    assert "the clocks were held down at 0 of 30 points." in text


def test_the_command_stores_a_page_for_each_comparison_and_the_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "grouped-decode"
    write_run(folder / "sweep", make_run(None, [make_record(FEW)], gpu_state={"uuid": "GPU-synthetic"}))
    compared = write(folder / "ab", *pairs_of(FEW, MANY), ceilings=None)
    paged = write(folder / "paged", *pairs_of(MANY), ceilings=None)
    command(monkeypatch, str(folder), "--write", "--sentences")
    *paths, first, second = capsys.readouterr().out.splitlines()
    assert paths == [str(folder / name) for name in ("points.md", "paged.md", "kernels.png")]
    assert (folder / "points.md").read_text(encoding="utf-8").strip() == page(study(compared, folder / "sweep"), 0.9)
    assert (folder / "paged.md").read_text(encoding="utf-8").strip() == page(study(paged, folder / "sweep"), 0.9)
    title = Image.open(folder / "kernels.png").info["Title"]
    assert title.startswith("mla_decode is faster than every peer at 2 of 2 points; the best peer takes")
    assert title.partition(", ")[0] in first
    assert second.startswith("In pages of 64 tokens it is faster at 1 of 1 points, and the best peer takes 1.")
