"""Steps: found where they are, not found where runs only repeat, and told with what changed beside them."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.history.series import Series, gather
from mlabench.history.steps import Trend, changed_terms, find_trends
from mlabench.verdict.noise import NOISE
from tests.cli.commands import ROOT
from tests.factories import make_case
from tests.history.runs import COMMITS, write_runs

SD = NOISE["cuda"].between_run_sd


def noisy(levels_us: list[float], seed: int = 0, sd: float = SD) -> list[float]:
    generator = random.Random(seed)
    return [level * math.exp(generator.gauss(0, sd)) for level in levels_us]


def trend_of(folder: Path, levels_us: list[float]) -> Trend:
    write_runs(folder, levels_us)
    (trend,) = find_trends(gather(folder).series)
    return trend


@pytest.mark.parametrize(
    ("levels", "places"),
    [
        ([100, 110], [1]),
        ([100, 100, 110], [2]),
        ([100, 110, 110], [1]),
        ([100] * 5 + [115] * 5, [5]),
        ([115] * 3 + [100] * 7, [3]),
        ([100] * 4 + [120] * 4 + [100] * 4, [4, 8]),
        ([100] * 3 + [120] * 3 + [150] * 3, [3, 6]),
        ([100] * 9 + [120], [9]),
        ([100] * 6 + [115] * 3 + [100] * 7, [6, 9]),
        ([100] * 9 + [120] + [100] * 6, [9, 10]),
        ([100] * 2 + [90] + [100] * 20 + [120] * 2 + [100] * 4, [2, 3, 23, 25]),
    ],
)
def test_steps_are_found_where_they_are(levels: list[float], places: list[int], tmp_path: Path) -> None:
    trend = trend_of(tmp_path, noisy(levels))
    assert [step.index for step in trend.steps] == places
    for step in trend.steps:
        true = levels[step.index] / levels[step.index - 1]
        assert step.low < step.ratio < step.high
        assert math.isclose(step.ratio, true, rel_tol=0.03)


@pytest.mark.parametrize("levels", [[100] * 2, [100] * 12, [100] * 6 + [103] * 6])
def test_what_does_not_count_is_no_step(levels: list[float], tmp_path: Path) -> None:
    trend = trend_of(tmp_path, noisy(levels))
    assert trend.steps == ()
    assert trend.largest == 0


def test_the_least_change_that_counts_can_be_chosen(tmp_path: Path) -> None:
    write_runs(tmp_path, noisy([100] * 6 + [103.5] * 6))
    series = gather(tmp_path).series
    assert find_trends(series)[0].steps == ()
    assert [step.index for step in find_trends(series, 0.01)[0].steps] == [6]


def test_short_calls_must_change_by_a_time_that_counts(tmp_path: Path) -> None:
    trend = trend_of(tmp_path, [5.0] * 6 + [5.7] * 6)
    assert trend.steps == ()


def test_the_noise_of_a_series_counts(tmp_path: Path) -> None:
    write_runs(tmp_path, noisy([100] * 10 + [108] * 10, sd=5 * SD))
    assert find_trends(gather(tmp_path).series)[0].steps == ()


@pytest.mark.parametrize(("runs", "sd"), [(8, SD), (8, 2 * SD), (24, SD)])
def test_unchanged_code_hardly_ever_steps(runs: int, sd: float, tmp_path: Path) -> None:
    cases = [make_case(batch=batch) for batch in range(1, 41)]
    write_runs(tmp_path, [100.0] * runs, cases)
    generator = random.Random(1)
    series = []
    for one in gather(tmp_path).series:
        factors = [math.exp(generator.gauss(0, sd)) for _ in one.readings]
        series.append(scaled(one, factors))
    # Against no change at all, where a false alarm is easiest.
    trends = find_trends(series, 0.0)
    assert len(trends) == 40
    assert sum(1 for trend in trends if trend.steps) <= 2


def scaled(series: Series, factors: list[float]) -> Series:
    readings = [
        replace(reading, latency_us=reading.latency_us * factor)
        for reading, factor in zip(series.readings, factors, strict=True)
    ]
    return replace(series, readings=tuple(readings))


def test_ten_unchanged_runs_of_a_gpu_have_no_step() -> None:
    gathered = gather(ROOT / "results" / "evidence" / "nvidia-h200" / "repeat")
    trends = find_trends(gathered.series)
    assert {len(trend.series.readings) for trend in trends} == {10}
    assert not [trend for trend in trends if trend.steps]


def test_the_largest_step_comes_first(tmp_path: Path) -> None:
    for name, level in (("small", 110.0), ("faster", 50.0), ("none", 100.0), ("large", 150.0)):
        write_runs(tmp_path / name, [100.0, level], [make_case(batch=len(name))], kernel=name)
    order = [trend.series.kernel for trend in find_trends(gather(tmp_path).series)]
    assert order == ["faster", "large", "small", "none"]


def test_a_step_names_what_changed_beside_it(tmp_path: Path) -> None:
    trend = trend_of(tmp_path, [100.0, 100.0, 130.0])
    (step,) = trend.steps
    changed = changed_terms(trend, step)
    assert changed["commit"] == (COMMITS[2], COMMITS[3])
    assert set(changed) == {"commit", "source_digest"}
