"""Synthetic runs of `mlabench ab` with several kernels, made by arithmetic alone."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlabench.cases.case import Case
from mlabench.records.pairs import Block, Pair, Side, append_pair
from mlabench.verdict.interleaved import make_plan
from tests.factories import CEILINGS, create_run, make_run

PEERS = ("flash_mla", "flashinfer_fa3", "flash_attn_3")
OURS = Side("mla_decode", "chosen", status="ok", relative_error=2e-3, kernel_config={"kernel": "mla_decode_gluon"})
LAUNCH_US = 4.0
NOISE = 0.005

Times = Callable[[Case, str], float]
"""The time of a kernel, by its backend, on a case, in microseconds."""


def over_floor(factors: Mapping[str, float]) -> Times:
    """Times that are so many times the floor of the synthetic GPU, and a launch."""

    def time_us(case: Case, backend: str) -> float:
        floor_us = CEILINGS["cuda"].floor_us(case.bytes_moved, case.flops, case.dtype)
        assert floor_us is not None
        return LAUNCH_US + factors[backend] * floor_us

    return time_us


def make_pairs(
    cases: Sequence[Case], times_us: Times, peers: Sequence[str] = PEERS, clock_mhz: float = 1980.0
) -> Iterator[Pair]:
    """A pair for each case and peer; every time scatters by half a percent."""
    plan = make_plan("cuda", len(cases) * len(peers))
    for case in cases:
        rng = random.Random(case.case_id)

        def chunk(backend: str, rng: random.Random = rng, case: Case = case) -> tuple[float, ...]:
            return tuple(times_us(case, backend) * math.exp(rng.gauss(0, NOISE)) for _ in range(5))

        base = [chunk("chosen") for _ in range(12)]
        clocks = (clock_mhz,) * 5
        for peer in peers:
            side = replace(OURS, kernel=f"mla_decode_{peer}", backend=peer, kernel_config={})
            blocks = tuple(Block(True, own, chunk(peer), clocks, clocks) for own in base)
            yield Pair(case, OURS, side, "graph", "cold", 0, plan, blocks, "decided", LAUNCH_US)


def failed(pair: Pair, status: Any, reason: str) -> Pair:
    """The pair whose candidate gave no time."""
    return replace(pair, candidate=replace(pair.candidate, status=status, reason=reason), blocks=(), stop="")


def write_ab_run(path: Path, pairs: Sequence[Pair], **overrides: Any) -> Path:
    """Store pairs as `mlabench ab` would; `overrides` replace fields of the manifest."""
    state = {"uuid": "GPU-synthetic", "max_sm_clock_mhz": 1980}
    manifest = {"ceilings": None, "gpu_state": state, "config": {"interleaved": {}}, **overrides}
    create_run(path, make_run(None, (), **manifest).manifest)
    for pair in pairs:
        append_pair(path, pair)
    return path
