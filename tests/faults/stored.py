"""Faults of stored runs, made by arithmetic alone and changed on the disk."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlabench.cases.case import Case
from mlabench.records.store import MANIFEST_NAME, RECORDS_NAME
from tests.factories import FINGERPRINTS, make_case, make_record, make_run, write_run
from tests.faults.place import Place, Plant

Plain = dict[str, Any]

Edit = Callable[[Path], object]
"""Changes a stored run in place."""

CASES = tuple(
    make_case(kv_len=1024 * step, batch=4, kv_len_dist=dist)
    for step in (4, 8, 16, 32)
    for dist in ("uniform", "ragged")
)


def as_it_is(path: Path) -> None:
    """No change."""
    del path


def stored(now: Edit = as_it_is, before: Edit = as_it_is, cases: Sequence[Case] = CASES) -> Plant:
    """A gate over two runs of unchanged code, each changed by its edit; the baseline is there first."""

    def plant(place: Place) -> Sequence[str]:
        for seed, (name, edit) in enumerate((("before", before), ("now", now))):
            records = [
                make_record(case, "kernel", 400, noise=0.005, seed=100 * seed + number)
                for number, case in enumerate(cases)
            ]
            edit(write_run(place.path / name, make_run(None, records)))
        return ("gate", "now", "--baseline", "before")

    return plant


def shown(plant: Plant, *command: str) -> Plant:
    """The same runs under another command."""

    def plant_for_it(place: Place) -> Sequence[str]:
        plant(place)
        return command

    return plant_for_it


def content(name: str, change: Callable[[bytes], bytes]) -> Edit:
    """A change of a file of the run."""
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes()))


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Edit:
    """A change of the lines of `records.jsonl`."""
    return content(RECORDS_NAME, lambda whole: b"".join(change(whole.splitlines(keepends=True))))


def records(change: Callable[[Plain], object], which: slice = slice(None)) -> Edit:
    """A change of the plain values of some of the records."""

    def change_line(line: bytes) -> bytes:
        plain = json.loads(line)
        change(plain)
        return json.dumps(plain).encode() + b"\n"

    def change_lines(whole: list[bytes]) -> list[bytes]:
        whole[which] = map(change_line, whole[which])
        return whole

    return lines(change_lines)


def preceded_by(**values: Any) -> Edit:
    """Put another record of the first point before it, with these values."""
    return lines(lambda whole: [json.dumps(json.loads(whole[0]) | values).encode() + b"\n", *whole])


def fields(**values: Any) -> Callable[[Plain], None]:
    """Set values of a record."""
    return lambda plain: plain.update(values)


def timing(**values: Any) -> Callable[[Plain], None]:
    """Set values of a record's timing."""
    return lambda plain: plain["timing"].update(values)


def slower(factor: float, clock_mhz: float | None = None) -> Callable[[Plain], None]:
    """Lengthen every sample of a record, and if asked set the SM clock of them all."""

    def change(plain: Plain) -> None:
        samples_us = [factor * sample for sample in plain["timing"]["samples_us"]]
        clocks = None if clock_mhz is None else [clock_mhz] * len(samples_us)
        plain["timing"].update(samples_us=samples_us, sm_clocks_mhz=clocks)

    return change


def one_sample(text: str) -> Edit:
    """Write this for the first sample of the first record."""
    return lines(lambda whole: [whole[0].replace(b'"samples_us":[', b'"samples_us":[%s,' % text.encode()), *whole[1:]])


def manifest(**values: Any) -> Edit:
    """Set values of the manifest."""
    return content(MANIFEST_NAME, lambda whole: json.dumps(json.loads(whole) | values).encode())


def fingerprint(**values: Any) -> Edit:
    """Set values of the manifest's fingerprint."""
    return manifest(fingerprint=FINGERPRINTS["cuda"].to_json() | values)


def replaced_by(name: str, edit: Edit = as_it_is) -> Edit:
    """Put a copy of the run `name` in its place, and change that."""

    def replace_it(path: Path) -> None:
        for file in (MANIFEST_NAME, RECORDS_NAME):
            (path / file).write_bytes((path.parent / name / file).read_bytes())
        edit(path)

    return replace_it


def counted_by(name: str, formula: Callable[[Case], int]) -> Edit:
    """Store the counts that follow where the case's property `name` is computed by another formula."""

    def change(plain: Plain) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Case, name, property(formula))
            plain["arithmetic"] = dict(make_record(Case.from_fields(plain["case"])).arithmetic)

    return records(change)
