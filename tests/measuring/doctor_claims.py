"""What the page on measuring says of the doctor's findings, its figures computed anew."""

from collections.abc import Iterator
from typing import Any

from mlabench.doctor.counters import LEAST_COLD, MOST_APART
from mlabench.doctor.second_opinions import TOLERANCE, TOLERANCE_US
from mlabench.doctor.spinning import Limits
from mlabench.measure.timing.method import Budget
from mlabench.units import format_bytes, format_change, format_latency
from tests.measuring.evidence import diagnosis, finding

TOOLS = ("CUPTI", "Proton", "NVBench", "do_bench", "do_bench_cudagraph")

LAUNCHES = ("spin of 100 us", "GQA-8 batch 1", "GQA-8 batch 32", "MLA batch 1", "MLA batch 32")


def self_test() -> Iterator[str]:
    limits, truth = Limits(), finding("truth")
    seconds = {section["name"]: section["wall_s"] for section in diagnosis()["sections"]}
    always_s = sum(seconds[name] for name in ("machine", "ceilings", "timer", "kernels"))
    assert round(always_s, -1) == 30
    yield f"timer section took {seconds['timer']:.0f} s"
    good = sum(abs(point["error"]) <= point["limit"] for point in truth["points"])
    worst_us = max(abs(point["error"]) for point in truth["points"])
    tolerated = f"{limits.truth:.0%} or {limits.truth_us} us |"
    yield (
        f"| {good} of {len(truth['points'])} from 1 us to 10 ms; at most {worst_us:.2f} us off, long ones by "
        f"{abs(truth['scale_error']):.3%} | {tolerated}"
    )
    cycles = [point["error"] / point["length"] for point in finding("truth in cycles")["points"]]
    yield f"| {len(cycles)} of 5, the worst by {max(cycles, key=abs):+.2%} | {tolerated}"
    empty, slope = finding("overhead"), finding("slope of copies")
    declared = f"{empty['declared_overhead_us']:.2f} us declared"
    yield f"| {empty['empty_call_us']:.2f} us, {declared} | {limits.offset_us} us |"
    assert (slope["copies"][0], slope["copies"][-1]) == (1, 64)
    yield f"1 to 64 copies of a 1 ms spin | {slope['ratio'] - 1:+.2%} a copy | {limits.slope:.1%} |"
    yield f"| {finding('resolution')['resolution_us']:.3f} us | {limits.resolution_us} us |"


def self_test_on_calls() -> Iterator[str]:
    limits = Limits()
    pairs, cold, sample = finding("A/A"), finding("cold is cold"), finding("sampling")
    low, high = pairs["interval"]
    yield f"{len(pairs['log_ratios'])} pairs in turns | {pairs['ratio']:.3f}x [{low:.3f}, {high:.3f}] |"
    yield f"holds 1, or within {limits.pairs:.1%} |"
    least, most = limits.coverage
    shares = f"{finding('coverage')['share']:.1%} and {finding('coverage, adaptive')['share']:.1%}"
    yield f"| {shares} | {100 * least:.0f} to {most:.0%}: a warning |"
    yield f"a read of {format_bytes(cold['bytes'])}, a quarter of the L2"
    yield f"| cold {format_latency(cold['cold_us'][0])}, warm {format_latency(cold['warm_us'][0])} |"
    assert sample["stop"] == "precise"
    yield f"| {len(sample['samples_us'])} samples, ±{sample['half_width']:.2%} | {Budget().precision:.1%} |"


def opinion(tool: str, place: int) -> dict[str, Any]:
    row: dict[str, Any] = finding(tool)["launches"][place]
    return row


def second_opinions() -> Iterator[str]:
    yield f"less the empty call's {finding('CUPTI')['deducted_overhead_us']:.2f} us (CUPTI, Proton)"
    yield f"more than {TOLERANCE:.0%} and {TOLERANCE_US} us apart is a warning"
    for place, launch in enumerate(LAUNCHES):
        assert all(word in opinion("CUPTI", place)["launch"].split() for word in launch.split())
        cells = [f"{opinion('NVBench', place)['ours_us']:.1f} us"]
        for tool in TOOLS:
            row = opinion(tool, place)
            change = format_change(row["theirs_us"] / row["ours_us"] - 1)
            cells.append(f"**{change}**" if row["apart"] else change)
        yield f"| {launch} | {' | '.join(cells)} |"
    yield "(kv_len 4096, 128 heads, bfloat16.)"


def why_opinions_differ() -> Iterator[str]:
    def more_us(tool: str, place: int) -> float:
        return opinion(tool, place)["theirs_us"] - opinion(tool, place)["ours_us"]

    spin = opinion("CUPTI", 0)
    yield f"the 100 us spin reads {spin['ours_us']:.2f} us, CUPTI's {spin['theirs_us']:.2f} us"
    yield f"CUPTI's {more_us('CUPTI', 1):.1f} and {more_us('CUPTI', 3):.1f} us on the short launches"
    assert max(abs(more_us(tool, 0)) / 100 for tool in ("NVBench", "do_bench")) < 0.001
    yield "which reads nothing, agrees within 0.1%"
    assert all(120 < opinion("NVBench", place)["ours_us"] < 140 for place in (2, 4))
    yield "of the calls of 120 to 140 us memory-bound"
    yield f"takes {more_us('NVBench', 2):.1f} us more with NVBench and {more_us('do_bench', 2):.1f} us with do_bench"
    yield f"arithmetic-bound MLA {more_us('NVBench', 4):.1f} and {more_us('do_bench', 4):.1f} us"
    yield f"GQA-8 at batch 1 takes two kernels, and {more_us('do_bench', 1):.1f} us more"
    assert not any(row["apart"] for row in finding("do_bench_cudagraph")["launches"])


def counters() -> Iterator[str]:
    cases, warm = finding("cold by counters")["cases"], finding("planted warm")["cases"]
    sizes, cold = ([case[name] for case in cases] for name in ("kv_cache_bytes", "cold_share"))
    yield f"one call of {len(cases)} cases whose KV cache is {format_bytes(min(sizes))} to {format_bytes(max(sizes))}"
    enough = sum(share >= LEAST_COLD for share in cold)
    yield f"{enough} of {len(cases)} read at least {LEAST_COLD:.0%} of their KV bytes from memory"
    yield f"the least {min(cold):.1%}; two calls made with a full cache"
    (share,) = {f"{case['cold_share']:.1%}" for case in warm}
    yield f"read {share}, so the counters can tell"
    yield f"Memory moved {finding('accounting')['median_apart']:.1%} (median)"
    first, second = (case for case in cases if abs(case["apart"]) > MOST_APART)
    yield f"cases exceed it by more than {MOST_APART:.0%}, by {first['apart']:.1%} and {second['apart']:.1%}"
    yield f"(workspaces of {first['workspace_bytes'] / 1e6:.1f} and {second['workspace_bytes'] / 1e6:.1f} MB)"
    assert finding("accounting")["unexplained"] == []


CLAIMS = (self_test, self_test_on_calls, second_opinions, why_opinions_differ, counters)
