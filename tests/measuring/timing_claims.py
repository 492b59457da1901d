"""What the page on measuring says of a time, a clock and an energy, its figures computed anew."""

import math
import random
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean, median, stdev

import pytest

from mlabench.doctor.spinning import EFFORTS
from mlabench.machine.memory import CLEARED_BYTES_PER_S
from mlabench.machine.telemetry import INTERVAL_S
from mlabench.measure.timing import cuda, cuda_graph, cuda_sustained, method
from mlabench.measure.timing.method import Budget, Samples, collect
from mlabench.records.conditions import (
    HELD_DOWN,
    MIN_ENERGY_WINDOW_S,
    NAMED_HELD_DOWN,
    mean_power_w,
    readings,
    throttled,
)
from mlabench.records.metrics import energy_j_per_call, latency_us
from mlabench.records.paired_ratio import paired_ratio
from mlabench.records.record import Record
from mlabench.stats import median_interval
from mlabench.units import format_bytes, format_latency
from tests.bench.freed_memory import SLOW
from tests.measuring.evidence import ab_pairs, ab_points, diagnosis, energy, finding, freed_memory, runs, study


def machine() -> Iterator[str]:
    (known,) = {run.manifest.fingerprint for folder in ("repeat/*", "energy/*") for run in runs(folder)}
    assert known.to_json() == diagnosis()["fingerprint"]
    yield f"{known.device_name}, limit {known.power_limit_w:.0f} W, driver {known.driver}, torch {known.torch}"
    yield f"Triton {known.triton}."
    cards = [{run.manifest.gpu_state["uuid"] for run in runs(folder)} for folder in ("repeat/*", "energy/*")]
    assert cards[1] == {finding("device")["uuid"]}
    assert len(cards[0]) == 1 and cards[0].isdisjoint(cards[1])


def methods() -> Iterator[str]:
    preparations = EFFORTS["cuda", False].preparations
    assert (cuda.FLUSH_FACTOR, preparations) == (5, 5)
    yield f"replays back to back for {cuda_sustained.CHUNK_S * 1e3:.0f} ms"
    yield f"({finding('overhead')['declared_overhead_us']:.2f} us for cold `graph`)"
    yield f"repeated for {cuda.WARMUP_S * 1e3:.0f} ms as it is sampled"
    yield f"runs for {cuda_sustained.SETTLE_S:.0f} s, then for at least {cuda_sustained.WINDOW_S:.0f} s"
    yield f"So a call replays one of {cuda_graph.COPIES} graphs of the launch"
    errors = [point["error"] for point in finding("truth")["points"] if point["length"] < 1001]
    scatter_us = stdev(errors) * math.sqrt(preparations)
    yield f"up to 1 ms they scatter by {scatter_us:.2f} us a preparation"
    assert 0.1 <= scatter_us <= 0.2
    yield "one graph by 0.1 to 0.2 us, which no number of them averages out"


def memory_given_back() -> Iterator[str]:
    freed = freed_memory()
    largest = max(freed["traces"], key=lambda trace: trace["bytes"])
    slow = [us for at_ms, us in largest["samples"] if at_ms < largest["slow_ms"]]
    rest = [us for at_ms, us in largest["samples"] if at_ms >= largest["slow_ms"]]
    assert min(slow) > SLOW * freed["quiet_us"] > median(rest)
    slowdown, rate = median(slow) / freed["quiet_us"], largest["bytes"] / largest["slow_ms"] / 1e6
    yield (
        f"After {format_bytes(largest['bytes'])}, reads of {format_bytes(freed['read_bytes'])} take {slowdown:.2f} "
        f"times as long for {largest['slow_ms']:.0f} ms: {rate:.0f} GB are cleared in a second"
    )
    assert all(trace["slow_ms"] < 1e3 * trace["bytes"] / CLEARED_BYTES_PER_S for trace in freed["traces"])
    yield f"a point waits for what was given back, at {CLEARED_BYTES_PER_S / 1e9:.0f} GB/s"


def sampling() -> Iterator[str]:
    budget = Budget()
    yield f"Sampling starts with {budget.min_samples} calls"
    yield f"half the median's 95% interval is within {budget.precision:.1%} of the median, after {budget.max_s:.0f} s"
    yield f"or at {budget.max_samples} samples"
    assert method.FURTHER_SHARE == 0.25
    yield "interpolated to 95%"
    yield f"with 1.5% noise, intervals then cover the true median in {simulated_coverage(0.25):.1%} of cases"
    yield f"and in {simulated_coverage(0.0):.1%} without them"
    yield f"of {len(ab_points()[0])} points they cover it in {study()['95% intervals of medians cover']:.1%}"


def simulated_coverage(further_share: float) -> float:
    rng, windows, covered = random.Random(0), 10_000, 0
    budget = Budget(max_s=math.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "FURTHER_SHARE", further_share)
        for _ in range(windows):
            samples, _ = collect(lambda count: Samples(tuple(rng.gauss(1, 0.015) for _ in range(count))), budget)
            _, low, high = median_interval(samples.times_us)
            covered += low <= 1 <= high
    return covered / windows


def ratio_coverage() -> Iterator[str]:
    levels = [paired_ratio(pair.blocks, pair.plan).level for pairs in ab_pairs() for pair in pairs]
    bounds = [level.interval(0.025) for level in levels]
    covered = sum(low <= 0 <= high for low, high in bounds) / len(bounds)
    yield f"the {len(bounds)} ratios in ten A/A runs of {len(ab_pairs()[0])} points"
    yield "the 95% intervals, before they are widened for repeated looks"
    yield f"hold 1 in {covered:.1%}"
    assert 0.93 <= covered <= 0.97


def coverage() -> Iterator[str]:
    fixed, adaptive = finding("coverage"), finding("coverage, adaptive")
    yield f"Over {fixed['samples']:,} calls of one kernel, {fixed['share']:.1%} of the intervals of 50 samples"
    yield f"and {adaptive['share']:.1%} of the adaptive ones"
    times = fixed["first_samples_us"]
    sides = [1 if time > median(times) else -1 for time in times]
    two, four, seven = (fmean(a * b for a, b in zip(sides, sides[lag:], strict=False)) for lag in (2, 4, 7))
    yield f"over the first {len(times)} the correlation"
    yield f"is {two:.2f} at two calls' distance, {four:.2f} at four and {seven:.2f} at seven"


def clocks() -> Iterator[str]:
    points = finding("truth in cycles")["points"]
    worst = max((point["error"] / point["length"] for point in points), key=abs)
    good = sum(abs(point["error"]) <= point["limit"] for point in points)
    yield f"{good} of {len(points)}, of 10,000 to 5,000,000 cycles, agree"
    yield f"with time and clock, the worst by {worst:+.2%}"
    measured = [(run, record) for run in runs("repeat/*") for record in run.records]
    nvml = {mhz for _, record in measured for mhz in readings(record, "sm_clock_mhz")}
    counters = [median(record.timing.sm_clocks_mhz) for _, record in measured]
    assert len(runs("repeat/*")) == 10 and len(nvml) == 1
    yield f"said {nvml.pop()} MHz at every reading of all {len(measured)} points"
    yield f"lay between {min(counters):.0f} and {max(counters):.0f} MHz"
    clock, said = stalest_reading()
    yield f"Under sustained GQA-8 the SM fell to {clock:.0f} MHz, and NVML, asked right after that chunk, said {said}."
    flagged = sum(bool(throttled(record, run.manifest)) for run, record in measured)
    sustained = [throttled(record, run.manifest) for run in runs("energy/sustained-*") for record in run.records]
    assert all(sustained)
    highest = measured[0][0].manifest.gpu_state["max_sm_clock_mhz"]
    yield f"under {HELD_DOWN:.0%} of the GPU's highest, {highest} MHz, or under {NAMED_HELD_DOWN:.0%} where"
    yield f"{flagged} of the {len(measured)} points, all {len(sustained)} of the sustained ones"


def stalest_reading() -> tuple[float, int]:
    """Of sustained GQA-8: the chunk's clock that NVML's reading after it lies furthest above, and that reading."""
    pairs = []
    for record in energy("gqa"):
        # One reading follows each chunk and one the last of all, unless two came too soon after each other.
        if len(record.telemetry["sm_clock_mhz"]) == len(record.timing.samples_us) + 1:
            pairs += zip(record.timing.sm_clocks_mhz, record.telemetry["sm_clock_mhz"], strict=False)
    return max(pairs, key=lambda pair: pair[1] - pair[0])


def energies() -> Iterator[str]:
    assert len(runs("energy/sustained-*")) == 4
    gaps = []
    for label, variant in (("MHA", "mha"), ("GQA-8", "gqa"), ("MLA absorbed", "mla")):
        records = energy(variant)
        joules = [1e3 * energy_j_per_call(record) / record.case.batch for record in records]
        powers = [mean_power_w(record) for record in records]
        (burst,) = energy(variant, "burst")
        yield (
            f"| {label} | {fmean(joules):.3g} | {(max(joules) - min(joules)) / fmean(joules):.1%} "
            f"| {min(powers):.0f} to {max(powers):.0f} W | {format_latency(fmean(map(latency_us, records)))} "
            f"| {format_latency(latency_us(burst))} |"
        )
        gaps += [gap for record in records for gap in step_gaps_s(record)]
    yield f"moves in steps of {fmean(gaps):.2f} s"
    yield f"at least {MIN_ENERGY_WINDOW_S:.0f} s apart"
    yield "Four runs at batch 128 and kv_len 8k, 128 heads"


def step_gaps_s(record: Record) -> list[float]:
    readings_j = zip(record.telemetry["at_s"], record.telemetry["energy_j"], strict=True)
    steps_s = [now[0] for before, now in pairwise(readings_j) if now[1] != before[1]]
    return [after - before for before, after in pairwise(steps_s)]


def recorded() -> Iterator[str]:
    yield f"Every {1e3 * INTERVAL_S:.0f} ms at most"


CLAIMS = (machine, methods, memory_given_back, sampling, coverage, ratio_coverage, clocks, energies, recorded)
