"""What comes into one series, in which order, and what never does."""

import shutil
from pathlib import Path

import pytest

from mlabench.errors import UsageError
from mlabench.history.series import Setting, gather
from tests.cli.commands import ROOT
from tests.factories import CEILINGS, make_case, make_record, make_run, write_run
from tests.history.runs import CASE, write_runs


def test_readings_are_in_the_order_of_their_beginning(tmp_path: Path) -> None:
    write_runs(tmp_path, [3e2], first_day=9)
    write_runs(tmp_path / "deep" / "er", [1e2, 2e2], first_day=2)
    (series,) = gather(tmp_path).series
    assert [round(reading.latency_us, -2) for reading in series.readings] == [1e2, 2e2, 3e2]
    assert all(reading.low_us < reading.latency_us < reading.high_us for reading in series.readings)
    assert (series.case, series.kernel) == (CASE, "synthetic_torch")


@pytest.mark.parametrize(
    ("run", "record"),
    [
        ({"device_name": "Another H200"}, {}),
        ({}, {"method": "events"}),
        ({}, {"cache": "warm"}),
        ({}, {"kernel": "another"}),
        ({}, {"device": "cpu", "method": "cpu"}),
    ],
)
def test_other_machines_methods_and_caches_are_other_series(tmp_path: Path, run: dict, record: dict) -> None:
    write_runs(tmp_path, [100.0, 100.0])
    write_runs(tmp_path, [200.0, 200.0], first_day=5, run=run, **record)
    series = gather(tmp_path).series
    assert [len(one.readings) for one in series] == [2, 2]
    levels = [{round(reading.latency_us, -2) for reading in one.readings} for one in series]
    assert sorted(levels, key=min) == [{100.0}, {200.0}]


def test_points_of_one_run_alone_are_counted(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0])
    write_runs(tmp_path, [100.0], [make_case(batch=2), make_case(batch=3)], first_day=9)
    gathered = gather(tmp_path)
    assert (len(gathered.series), gathered.single, gathered.runs) == (1, 2, 3)


def test_a_copy_of_a_run_counts_once(tmp_path: Path) -> None:
    first, _ = write_runs(tmp_path, [100.0, 100.0])
    shutil.copytree(first, tmp_path / "kept" / "copy")
    (series,) = gather(tmp_path).series
    assert len(series.readings) == 2


def test_what_was_not_measured_is_no_reading(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0])
    failed = make_record(CASE, status="error")
    write_run(tmp_path / "failed", make_run(None, [failed], created_at="2026-01-20T00:00:00+00:00"))
    (series,) = gather(tmp_path).series
    assert len(series.readings) == 2


def test_a_run_that_cannot_be_read_is_told_and_left_out(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0])
    broken = write_runs(tmp_path, [100.0], first_day=9)[0]
    (broken / "manifest.json").write_text("{}")
    gathered = gather(tmp_path)
    assert len(gathered.series[0].readings) == 2
    assert [str(broken) in warning for warning in gathered.warnings] == [True]


def test_comparisons_in_turns_are_no_runs_of_a_history() -> None:
    gathered = gather(ROOT / "results" / "studies" / "prefill")
    assert (gathered.runs, gathered.series) == (1, ())


def test_kernels_are_chosen_by_name_or_backend(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0], kernel="a", backend="torch")
    write_runs(tmp_path, [100.0, 100.0], first_day=5, kernel="b", backend="triton")
    assert {one.kernel for one in gather(tmp_path, ["a"]).series} == {"a"}
    assert {one.kernel for one in gather(tmp_path, ["triton"]).series} == {"b"}
    with pytest.raises(UsageError, match=r"no run under .* holds kernel 'c'"):
        gather(tmp_path, ["a", "c"])


def test_cases_are_chosen_by_an_expression(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0], [make_case(batch=2), make_case(batch=3)])
    write_runs(tmp_path, [100.0], [make_case(batch=4)], first_day=9)
    gathered = gather(tmp_path, where="batch > 2")
    assert [one.case.batch for one in gathered.series] == [3]
    assert gathered.single == 1
    with pytest.raises(UsageError, match="keeps no case of the runs under"):
        gather(tmp_path, where="batch > 4")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        gather(tmp_path / "absent")


def test_what_disturbed_a_reading_travels_with_it(tmp_path: Path) -> None:
    write_runs(tmp_path, [100.0, 100.0], throttled=True, run={"ceilings": CEILINGS["cuda"]})
    (series,) = gather(tmp_path).series
    assert all("clocks were held down" in reading.disturbances for reading in series.readings)


@pytest.mark.parametrize(("processors", "words"), [(1, "1 thread"), (8, "8 threads")])
def test_the_label_of_a_cpu_counts_its_threads(processors: int, words: str) -> None:
    assert Setting("cpu", "Some CPU", processors, None, "cpu", "warm").label == f"Some CPU, {words}, cpu, warm cache"
