"""How often interleaved verdicts err, on seeded noise like an H200's; `tests.bench.error_rates` is the whole study."""

import json
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.records.pairs import Block, Pair, append_pair
from mlabench.verdict.point import Verdict
from tests.bench import error_rates
from tests.bench.error_rates import (
    CASES,
    NOISES,
    SIDE,
    Noise,
    false_alarms,
    power,
    recorded_blocks,
    simulated_run,
    take_blocks,
    unhurried_plan,
)

PLAN = unhurried_plan()


def test_runs_of_64_unchanged_cases_raise_no_alarm() -> None:
    outcome = false_alarms([noise.blocks for noise in NOISES.values()], PLAN, 150)
    assert (outcome["runs_with_slower"], outcome["runs_with_faster"]) == (0, 0)
    assert outcome["runs_with_inconclusive"] <= 3
    assert outcome["mean_blocks"] < 30


@pytest.mark.parametrize("name", ["memory-bound", "compute-bound", "heavy tails", "stray calls"])
def test_slow_downs_are_found(name: str) -> None:
    draw = NOISES[name].blocks
    for slow_down, least in ((0.02, 0.8), (0.03, 0.95), (0.05, 0.99)):
        assert power(draw, PLAN, slow_down, 200)["found"] >= least


@pytest.mark.parametrize(("name", "slow_down"), [("short, 20 us", 0.05), ("short, 12 us", 0.10)])
def test_of_short_calls_only_what_is_well_over_the_least_time_is_found(name: str, slow_down: float) -> None:
    """2% of 20 us is 0.4 us, where 0.5 us are the least that counts."""
    draw = NOISES[name].blocks
    assert power(draw, PLAN, slow_down, 200)["found"] >= 0.99
    assert power(draw, PLAN, 0.02, 200)["found"] == 0


@pytest.mark.parametrize("name", ["compute-bound", "heavy tails", "stray calls"])
def test_a_change_at_the_least_effect_is_rarely_called_slower_or_the_same(name: str) -> None:
    """The edge is the hardest place: each error may happen once in twenty, over all the looks together."""
    outcome = power(NOISES[name].blocks, PLAN, PLAN.min_effect, 200)
    assert outcome["found"] <= 0.02
    assert outcome["called_the_same"] <= 0.09
    assert outcome["interval_covers"] >= 0.85


def test_one_slow_case_of_64_is_found_and_no_other() -> None:
    points, _ = simulated_run([NOISES["compute-bound"].blocks], PLAN, "one slow", {17: 0.03})
    assert [place for place, point in enumerate(points) if point.verdict is Verdict.SLOWER] == [17]


def test_a_simulated_case_draws_from_one_recorded_run() -> None:
    runs = [take_blocks(Noise(level_us, 0.004).blocks, PLAN, 1.0, "record") for level_us in (100.0, 200.0)]
    for seed in range(10):
        stream = recorded_blocks(runs)(random.Random(seed), 1.5)
        drawn = [next(stream) for _ in range(50)]
        (run,) = (run for run in runs if drawn[0].base_us in [block.base_us for block in run])
        for block in drawn:
            (source,) = (source for source in run if source.base_us == block.base_us)
            assert block.candidate_us == pytest.approx([1.5 * time_us for time_us in source.candidate_us])


def test_the_study_reads_recorded_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Noise(100.0, 0.003)
    blocks = take_blocks(noise.blocks, PLAN, 1.0, "record")
    append_pair(tmp_path, Pair(CASES[0], SIDE, SIDE, "graph", "cold", 0, replace(PLAN, max_s=5.0), blocks))
    out = tmp_path / "study.json"
    arguments = ["--pairs", str(tmp_path / "pairs.jsonl"), "--replicas", "3", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["error_rates", *arguments])
    error_rates.main()
    study = json.loads(out.read_text())
    assert study["unchanged, mixed"]["cases"] == {"same": 3 * len(CASES)}
    assert study[f"{CASES[0].label} · kernel"]["5% slower"]["found"] == 1


def test_on_a_busy_cpu_a_tenth_more_time_is_found_and_unchanged_code_passes() -> None:
    """What a side's place in memory makes of its time stays the same over all blocks: 1.3%, as was measured."""

    def blocks(rng: random.Random, factor: float) -> Iterator[Block]:
        return Noise(500.0, 0.04).blocks(rng, factor * math.exp(rng.gauss(0, 0.013)))

    plan = unhurried_plan("cpu")
    assert power(blocks, plan, 0.10, 200)["found"] >= 0.95
    assert false_alarms([blocks], plan, 20)["runs_with_slower"] == 0
