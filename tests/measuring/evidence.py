"""The committed evidence that the page on measuring speaks of."""

import json
from functools import cache
from typing import Any

from mlabench.records.pairs import Pair, load_pairs
from mlabench.records.record import Record
from mlabench.records.store import Run, load_run
from mlabench.verdict.interleaved import judge_pairs
from mlabench.verdict.point import Point
from tests.cli.commands import ROOT

EVIDENCE = ROOT / "results" / "evidence" / "nvidia-h200"


@cache
def diagnosis() -> dict[str, Any]:
    return json.loads((EVIDENCE / "doctor.json").read_text(encoding="utf-8"))


def finding(name: str) -> dict[str, Any]:
    (data,) = [f["data"] for section in diagnosis()["sections"] for f in section["findings"] if f["name"] == name]
    return data


@cache
def runs(pattern: str) -> tuple[Run, ...]:
    return tuple(load_run(path) for path in sorted(EVIDENCE.glob(pattern)))


@cache
def ab_pairs() -> tuple[tuple[Pair, ...], ...]:
    return tuple(tuple(load_pairs(path)) for path in sorted(EVIDENCE.glob("ab/*")))


@cache
def ab_points() -> tuple[tuple[Point, ...], ...]:
    return tuple(map(judge_pairs, ab_pairs()))


@cache
def freed_memory() -> dict[str, Any]:
    return json.loads((EVIDENCE / "freed-memory.json").read_text(encoding="utf-8"))


@cache
def study() -> dict[str, Any]:
    return json.loads((EVIDENCE / "error-rates.json").read_text(encoding="utf-8"))


def energy(variant: str, folder: str = "sustained-*") -> list[Record]:
    """The records of a variant, which are all of one shape."""
    records = [record for run in runs(f"energy/{folder}") for record in run.records]
    found = [record for record in records if record.case.variant.name == variant]
    shapes = {(record.case.batch, record.case.kv_len, record.case.variant.num_q_heads) for record in found}
    assert shapes == {(128, 8192, 128)}
    return found
