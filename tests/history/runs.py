"""Runs in a folder over days, made by arithmetic alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlabench.cases.case import Case
from tests.factories import make_case, make_record, make_run, write_run

CASE = make_case(kv_len=4096)

COMMITS = tuple(f"{number:02x}" * 20 for number in range(100))


def write_runs(
    folder: Path,
    levels_us: Sequence[float],
    cases: Sequence[Case] = (CASE,),
    *,
    first_day: int = 1,
    run: dict[str, Any] | None = None,
    **record: Any,
) -> list[Path]:
    """A run a day with these times of every case, each of a commit of its own; further fields of run and record."""
    paths = []
    for place, level_us in enumerate(levels_us):
        records = [
            make_record(case, latency_us=level_us, noise=0.002, seed=place * 100 + number, **record)
            for number, case in enumerate(cases)
        ]
        day = first_day + place
        made = make_run(
            None,
            records,
            record.get("device", "cuda"),
            created_at=f"2026-01-{day:02}T12:00:00.000+00:00",
            provenance={"commit": COMMITS[day], "dirty": False, "source_digest": COMMITS[day][:16], "version": "0.1.0"},
            **(run or {}),
        )
        paths.append(write_run(folder / f"run-{len(list(folder.glob('*'))):02}", made))
    return paths
