"""A run directory: nothing is lost, nothing is written over, and damage is told."""

import errno
import json
import os
import re
from pathlib import Path

import pytest

from mlabench.errors import UsageError
from mlabench.records.record import Record
from mlabench.records.store import (
    LOCK_NAME,
    RECORDS_NAME,
    RecordWriter,
    StoreError,
    claim_directory,
    hold_directory,
    load_run,
    refuse_used,
)
from tests.factories import create_run, make_record, make_run


def some_records() -> list[Record]:
    from mlabench.cases.grid import make_cases

    return [make_record(case, kernel="mla_decode_torch") for case in make_cases({"batch": (1, 2, 3)})]


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    create_run(path, make_run(None, some_records()).manifest)
    return path


def fill(path: Path, records: list[Record]) -> None:
    with RecordWriter(path) as writer:
        for record in records:
            writer.append(record)


def test_records_come_back_as_they_were(run_path: Path) -> None:
    records = some_records()
    fill(run_path, records)
    run = load_run(run_path)
    assert list(run.records) == records
    assert run.warnings == ()


def test_a_truncated_last_line_is_left_out_with_a_warning_and_repaired(run_path: Path) -> None:
    fill(run_path, some_records())
    file = run_path / RECORDS_NAME
    file.write_bytes(file.read_bytes()[:-20])
    run = load_run(run_path)
    assert len(run.records) == 2
    assert "was cut short" in run.warnings[0]
    with RecordWriter(run_path) as writer:
        assert writer.repaired
        writer.append(some_records()[2])
    assert len(load_run(run_path).records) == 3
    assert load_run(run_path).warnings == ()


def test_damage_in_the_middle_names_the_line(run_path: Path) -> None:
    fill(run_path, some_records())
    file = run_path / RECORDS_NAME
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"{broken\n" + lines[2])
    with pytest.raises(UsageError, match=r"records.jsonl, line 2: not a record"):
        load_run(run_path)


def test_a_full_disk_takes_back_the_partial_line(run_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _ = some_records()
    with RecordWriter(run_path) as writer:
        writer.append(first)

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device; the records before are safe"):
            writer.append(second)
    assert list(load_run(run_path).records) == [first]


def test_a_second_sweep_is_refused_and_the_lock_let_go(run_path: Path) -> None:
    with (
        hold_directory(run_path),
        pytest.raises(UsageError, match="being written by another sweep"),
        hold_directory(run_path),
    ):
        raise AssertionError("held twice")
    with hold_directory(run_path):
        assert (run_path / LOCK_NAME).exists()
    assert not (run_path / LOCK_NAME).exists()


def test_what_a_killed_start_leaves_behind_does_not_stop_the_next(tmp_path: Path) -> None:
    for name in ("worker.log", "sweep.lock", "manifest.json.part"):
        (tmp_path / name).touch()
    claim_directory(tmp_path)


def test_what_is_used_is_refused_before_anything_is_made(run_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already holds a run: add --resume"):
        refuse_used(run_path)
    with hold_directory(run_path), pytest.raises(UsageError, match="being written by another sweep"):
        refuse_used(run_path)
    with pytest.raises(UsageError, match="cannot write to"):
        refuse_used(run_path / "manifest.json")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / LOCK_NAME).touch()
    refuse_used(tmp_path / "killed")
    refuse_used(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_is_not_written_over(run_path: Path) -> None:
    before = (run_path / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="already holds a run: add --resume"):
        claim_directory(run_path)
    assert (run_path / "manifest.json").read_bytes() == before


def test_a_folder_with_other_files_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        claim_directory(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write to"):
        claim_directory(tmp_path / "file" / "run")


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a run directory: it has no manifest\.json"):
        load_run(tmp_path)


def test_the_runs_within_a_folder_are_named(run_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"within it are {re.escape(str(run_path))}: name one"):
        load_run(run_path.parent)


def test_a_mistyped_run_is_answered_with_the_near_ones(run_path: Path) -> None:
    mistyped = run_path.with_name(f"{run_path.name}x")
    with pytest.raises(UsageError, match=f"is not a run directory: did you mean {run_path}"):
        load_run(mistyped)
    with pytest.raises(UsageError, match="is not a run directory: it is a file; name the folder of a run"):
        load_run(run_path / "manifest.json")


def test_another_schema_is_refused(run_path: Path) -> None:
    manifest = json.loads((run_path / "manifest.json").read_text())
    (run_path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(UsageError, match="schema version 99"):
        load_run(run_path)


def test_repeated_records_count_once_with_a_warning(run_path: Path) -> None:
    first = some_records()[0]
    fill(run_path, [first, first])
    run = load_run(run_path)
    assert len(run.records) == 1
    assert "1 repeated records" in run.warnings[0]
