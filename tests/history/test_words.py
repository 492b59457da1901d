"""Steps in words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlabench.history.series import gather
from mlabench.history.steps import Trend, find_trends
from mlabench.history.words import tell_changes, tell_doubts, tell_when
from tests.factories import CEILINGS
from tests.history.runs import write_runs


def trend_of(folder: Path, levels_us: list[float], **fields: Any) -> Trend:
    write_runs(folder, levels_us, **fields)
    (trend,) = find_trends(gather(folder).series)
    return trend


def test_when_and_what_are_told_by_their_starts(tmp_path: Path) -> None:
    trend = trend_of(tmp_path, [100.0, 100.0, 130.0, 130.0])
    (step,) = trend.steps
    assert tell_when(trend, step) == "run-02, 2026-01-03 12:00"
    assert tell_changes(trend, step) == "commit 0202020 to 0303030"


def test_without_a_change_nothing_is_known(tmp_path: Path) -> None:
    same = {"commit": "a" * 40, "dirty": False, "source_digest": "b", "version": "0.1.0"}
    first = trend_of(tmp_path, [100.0, 100.0, 130.0, 130.0]).series
    readings = tuple(replace(each, terms={**each.terms, **same}) for each in first.readings)
    (trend,) = find_trends([replace(first, readings=readings)])
    assert tell_changes(trend, trend.steps[0]) == "nothing known"


@pytest.mark.parametrize(
    ("levels", "doubts"),
    [
        ([100.0, 130.0], ()),
        ([100.0, 100.0, 130.0, 130.0], ()),
        ([100.0, 100.0, 130.0], ("one side of it is a single run",)),
        ([100.0, 130.0, 130.0], ("one side of it is a single run",)),
        ([100.0] * 9 + [130.0] + [100.0] * 9, ("one side of it is a single run",)),
    ],
)
def test_a_level_of_one_run_is_doubted(levels: list[float], doubts: tuple[str, ...], tmp_path: Path) -> None:
    trend = trend_of(tmp_path, levels)
    assert {tell_doubts(trend, step) for step in trend.steps} == {doubts}


def test_disturbed_runs_are_counted(tmp_path: Path) -> None:
    levels = [100.0, 100.0, 130.0, 130.0]
    trend = trend_of(tmp_path, levels, throttled=True, run={"ceilings": CEILINGS["cuda"]})
    assert tell_doubts(trend, trend.steps[0]) == ("4 of 4 runs disturbed",)
