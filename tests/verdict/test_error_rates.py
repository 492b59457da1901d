"""How often the gate errs when runs differ by exactly the noise in `NOISE`: seeded simulations, no clocks."""

import math
import random
from collections import Counter

import pytest

from mlabench.errors import ExitCode
from mlabench.records.record import Record, Timing
from mlabench.records.store import Run
from mlabench.verdict.compare import compare_runs
from mlabench.verdict.comparison import settings_of
from mlabench.verdict.gate import GateResult
from mlabench.verdict.noise import NOISE
from mlabench.verdict.point import Verdict
from tests.factories import make_case, make_run

CASES = [make_case(kv_len=1024 * step) for step in range(1, 65)]
ARITHMETIC = {"flops": 1}
LEVEL_US = 300.0
WITHIN_RUN_SD = {"cuda": 0.01, "cpu": 0.02}
CACHE = {"cuda": "cold", "cpu": "warm"}
_SHAPES = random.Random("shapes")
SHAPES = [[_SHAPES.gauss(0, 1) for _ in range(40)] for _ in range(256)]
"""Samples of standard deviation one around zero; drawing from a fixed pool keeps the simulation fast."""

REPLICAS = 200


def simulated_run(rng: random.Random, device: str, factors: dict[int, float] | None = None) -> Run:
    records = [_record(rng, index, device, (factors or {}).get(index, 1.0)) for index in range(len(CASES))]
    return make_run(None, records, device)


def _record(rng: random.Random, index: int, device: str, factor: float) -> Record:
    level_us = LEVEL_US * factor * math.exp(rng.gauss(0, NOISE[device].between_run_sd))
    samples_us = tuple(level_us * (1 + WITHIN_RUN_SD[device] * x) for x in rng.choice(SHAPES))
    timing = Timing(samples_us, CACHE[device], 3, "precise")
    return Record(CASES[index], "kernel", "torch", "graph", "ok", timing=timing, stored_arithmetic=ARITHMETIC)


def outcome(rng: random.Random, device: str, baselines: int, factors: dict[int, float] | None = None) -> GateResult:
    before = [simulated_run(rng, device) for _ in range(baselines)]
    points = compare_runs(simulated_run(rng, device, factors), before, NOISE[device])
    return GateResult("now", (), settings_of(NOISE[device]), points)


@pytest.mark.parametrize(("device", "baselines"), [("cuda", 1), ("cuda", 3), ("cpu", 1), ("cpu", 3)])
def test_unchanged_runs_of_64_points_fail_at_most_once_in_a_hundred(device: str, baselines: int) -> None:
    rng = random.Random(f"{device} {baselines}")
    codes = Counter(outcome(rng, device, baselines).exit_code for _ in range(REPLICAS))
    assert codes[ExitCode.REGRESSION] <= REPLICAS / 100
    assert codes[ExitCode.PASS] >= 0.8 * REPLICAS
    assert codes.keys() <= {ExitCode.PASS, ExitCode.INCONCLUSIVE, ExitCode.REGRESSION}


@pytest.mark.parametrize(("device", "factor"), [("cuda", NOISE["cuda"].min_effect + 1.05), ("cpu", 2.0)])
def test_one_slow_point_of_64_is_found(device: str, factor: float) -> None:
    """A GPU finds five points beyond the least effect; a CPU's noise between runs asks for twice the time."""
    rng = random.Random(f"{device} slow")
    results = [outcome(rng, device, 1, {17: factor}) for _ in range(REPLICAS)]
    found = [result for result in results if result.points[17].verdict is Verdict.SLOWER]
    assert len(found) >= 0.95 * REPLICAS
    assert all(result.exit_code is ExitCode.REGRESSION for result in found)
    assert not any(result.exit_code is ExitCode.PASS for result in results)
