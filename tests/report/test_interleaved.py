"""Runs of `mlabench ab` as records, and the report that they give."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.errors import ExitCode
from mlabench.records.metrics import latency_us
from mlabench.records.store import load_run
from mlabench.report.interleaved import load_measured, records_of
from tests.cli.commands import call
from tests.factories import make_case, make_record, make_run, write_run
from tests.report.ab_runs import PEERS, failed, make_pairs, over_floor, write_ab_run
from tests.report.pages import numbers_of

FACTORS = {"chosen": 1.25, "flash_mla": 1.5, "flashinfer_fa3": 2.0, "flash_attn_3": 1.75}
CASES = [make_case(kv_len=kv_len) for kv_len in (1024, 4096)]
STATE = {"uuid": "GPU-synthetic", "max_sm_clock_mhz": 1980}


def test_each_side_of_each_case_is_a_record_with_all_its_calls() -> None:
    pairs = list(make_pairs(CASES, over_floor(FACTORS)))
    records = list(records_of(pairs))
    kernels = ["mla_decode", *(f"mla_decode_{peer}" for peer in PEERS)]
    assert [(record.case, record.kernel) for record in records] == [(c, kernel) for c in CASES for kernel in kernels]
    for record in records:
        assert record.timing is not None
        assert len(record.timing.samples_us) == 60
        assert record.timing.sm_clocks_mhz == (1980.0,) * 60
        assert latency_us(record) == pytest.approx(over_floor(FACTORS)(record.case, record.backend), rel=0.01)
    assert records[0].timing.samples_us[:5] == pairs[0].blocks[0].base_us  # type: ignore[union-attr]
    assert records[2].timing.samples_us[-5:] == pairs[1].blocks[-1].candidate_us  # type: ignore[union-attr]


def test_the_bases_time_is_that_of_the_pair_with_most_blocks() -> None:
    first, second, _ = make_pairs(CASES[:1], over_floor(FACTORS))
    base, *_ = records_of([replace(first, blocks=first.blocks[:6]), second])
    assert base.timing is not None
    assert len(base.timing.samples_us) == 60


def test_a_side_without_a_time_keeps_its_reason_and_one_that_was_not_tried_is_none() -> None:
    first, second, third = make_pairs(CASES[:1], over_floor(FACTORS))
    absent, untried = failed(first, "unavailable", "needs flash_mla"), failed(third, None, "")
    records = {record.kernel: record for record in records_of([absent, second, untried])}
    assert list(records) == ["mla_decode", "mla_decode_flash_mla", "mla_decode_flashinfer_fa3"]
    lacking = records["mla_decode_flash_mla"]
    assert (lacking.status, lacking.reason, lacking.timing) == ("unavailable", "needs flash_mla", None)
    alone = list(records_of([failed(first, "error", "it crashed")]))
    assert [(record.kernel, record.status) for record in alone] == [("mla_decode_flash_mla", "error")]


def test_a_kernel_at_two_commits_is_two() -> None:
    first, *_ = make_pairs(CASES[:1], over_floor(FACTORS))
    older = replace(first, base=replace(first.candidate, commit="1a2b3c4d5e"))
    names = [record.kernel for record in records_of([older])]
    assert names == ["mla_decode_flash_mla@1a2b3c4", "mla_decode_flash_mla"]


@pytest.mark.parametrize(("uuid", "is_shared"), [("GPU-synthetic", True), ("GPU-other", False)])
def test_ceilings_are_shared_on_one_card_alone(tmp_path: Path, uuid: str, is_shared: bool) -> None:
    compared = write_ab_run(tmp_path / "ab", list(make_pairs(CASES, over_floor(FACTORS))))
    swept = make_run(None, [make_record(CASES[0])], gpu_state={**STATE, "uuid": uuid})
    runs = load_measured([write_run(tmp_path / "sweep", swept), compared])
    assert runs[0].manifest == swept.manifest
    assert runs[1].manifest.ceilings == (swept.manifest.ceilings if is_shared else None)
    assert len(runs[1].records) == 2 * (1 + len(PEERS))


def test_a_sweep_is_loaded_as_it_is(tmp_path: Path) -> None:
    path = write_run(tmp_path / "sweep", make_run(None, [make_record(CASES[0])]))
    assert load_measured([path]) == [load_run(path)]


def test_the_report_draws_a_comparison(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_ab_run(tmp_path / "ab", list(make_pairs(CASES, over_floor(FACTORS))))
    assert call(monkeypatch, "report", str(path)) == ExitCode.PASS
    assert {"report.html", "kernels.png", "latency.png"} <= {file.name for file in (path / "report").iterdir()}
    text = (path / "report" / "report.html").read_text(encoding="utf-8")
    assert "mla_decode_flash_attn_3" in numbers_of(text)["records"]["columns"]["kernel"]["texts"]
    assert "mla_decode is faster than every peer at 2 of 2 points" in text


def test_a_comparison_that_measured_nothing_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert call(monkeypatch, "report", str(write_ab_run(tmp_path / "ab", []))) == ExitCode.NOTHING_MEASURED
