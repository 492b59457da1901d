"""One case on two sides: both checked, both timed on the same inputs, and each fault with its side."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.measure.interleave import AskedSide, interleave
from mlabench.measure.kernels import all_kernels, find_kernel
from mlabench.measure.runner import Runner
from mlabench.measure.sources import checked_out
from mlabench.measure.timing.method import Call, SampledTimer, Samples
from mlabench.records.pairs import Pair, Plan
from tests.git_kernels import PACKAGE, Repository, make_repository

pytestmark = pytest.mark.usefixtures("faulty_kernels")

CASE = make_cases({"num_q_heads": (4,), "kv_len": (70,), "batch": (2,)})[0]
PLAN = Plan((6, 12), math.inf, 0.05, 0.0, 0.01)
RIGHT = "mla_decode_torch"


@dataclass(slots=True)
class CountingTimer(SampledTimer):
    """Makes the calls and gives each the same time."""

    method: ClassVar[str] = "counting"
    caches: ClassVar[tuple[str, ...]] = ("warm",)

    cache: str = "warm"
    time_us: float = 100.0
    clocks_mhz: float | None = None

    def warm_up(self, call: Call, before_sample: Call) -> int:
        self.sample(call, before_sample, 1)
        return 1

    def sample(self, call: Call, before_sample: Call, count: int) -> Samples:
        for _ in range(count):
            before_sample()
            call()
        clocks = None if self.clocks_mhz is None else (self.clocks_mhz,) * count
        return Samples((self.time_us,) * count, clocks)

    def overhead_us(self) -> float:
        return 0.5


def compare(base: str, candidate: str, case: Case = CASE, timer: CountingTimer | None = None) -> Pair:
    runner = Runner("cpu", timer or CountingTimer())
    return interleave(runner, case, AskedSide(find_kernel(base)), AskedSide(find_kernel(candidate)), PLAN)


def test_two_sound_sides_are_measured_until_decided() -> None:
    pair = compare(RIGHT, "slow")
    assert (pair.base.status, pair.candidate.status) == ("ok", "ok")
    assert (len(pair.blocks), pair.stop) == (6, "decided")
    assert {len(block.base_us) for block in pair.blocks} == {5}
    assert (pair.method, pair.cache, pair.overhead_us) == ("counting", "warm", 0.5)
    assert pair.base.relative_error is not None
    assert 0 < pair.base.relative_error < 4e-3
    assert pair.base.kernel_config == {"attend": "fused"}
    assert set(pair.phases_s) == {"inputs", "reference", "bind", "check", "measure"}
    assert Path(str(pair.base.source)).name == "mla_decode_torch.py"
    assert Pair.from_json(pair.to_json()) == pair


def test_clocks_are_kept_with_their_block() -> None:
    pair = compare(RIGHT, RIGHT, timer=CountingTimer(clocks_mhz=1980.0))
    assert pair.blocks[0].base_mhz == pair.blocks[0].candidate_mhz == (1980.0,) * 5
    assert pair.blocks[0].log_cycles_ratio == 0


def test_both_sides_are_bound_to_the_same_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    from mla_kernels import mla_decode_torch

    bound: list[dict[str, object]] = []
    bind = mla_decode_torch.bind
    monkeypatch.setattr(mla_decode_torch, "bind", lambda **tensors: bound.append(tensors) or bind(**tensors))
    compare(RIGHT, RIGHT)
    base, candidate = bound
    assert base["q"] is candidate["q"]
    assert base["kv_cache"] is candidate["kv_cache"]
    assert base["out"] is candidate["out"]


@pytest.mark.parametrize(
    ("kernel", "status", "reason"),
    [
        ("wrong", "incorrect", "is over 0.004 for bfloat16"),
        ("stale", "incorrect", "relative error is NaN"),
        ("remembering", "incorrect", "the timed call's relative error 2 is over 0.004"),
        ("drifting", "incorrect", "the timed call's relative error"),
        ("nonsense", "error", "Out of range float values are not JSON compliant"),
        ("raising", "error", "ValueError: this kernel always fails"),
        ("hungry", "oom", "no room"),
        ("narrow", "unsupported", "only 17 heads"),
        ("absent", "unavailable", "a_package_that_is_not_there is not installed"),
        ("mla_decode_triton", "unsupported", "runs on cuda, not on cpu"),
    ],
)
@pytest.mark.parametrize("faulty_first", [True, False])
def test_a_fault_is_its_own_sides_and_leaves_no_times(
    kernel: str, status: str, reason: str, faulty_first: bool
) -> None:
    pair = compare(kernel, RIGHT) if faulty_first else compare(RIGHT, kernel)
    faulty, sound = (pair.base, pair.candidate) if faulty_first else (pair.candidate, pair.base)
    assert (faulty.kernel, faulty.status) == (kernel, status)
    assert reason in faulty.reason
    assert (sound.status, sound.reason) == ("ok", "")
    assert pair.blocks == ()


def test_of_two_wrong_sides_the_candidate_is_named() -> None:
    pair = compare("remembering", "remembering")
    assert pair.candidate.status == "incorrect"
    assert pair.blocks == ()


def test_a_fault_does_not_spoil_the_inputs_of_the_next_pair() -> None:
    runner = Runner("cpu", CountingTimer())
    for kernel in ("drifting", RIGHT):
        pair = interleave(runner, CASE, AskedSide(find_kernel(RIGHT)), AskedSide(find_kernel(kernel)), PLAN)
    assert (pair.base.status, pair.candidate.status) == ("ok", "ok")


def test_a_time_that_is_none_is_an_error() -> None:
    pair = compare(RIGHT, RIGHT, timer=CountingTimer(time_us=0.0))
    assert (pair.base.status, pair.base.reason) == ("error", "a sample is no positive number")
    assert pair.blocks == ()


def test_each_step_is_announced_with_its_side() -> None:
    steps: list[str] = []
    right = AskedSide(find_kernel(RIGHT))
    interleave(Runner("cpu", CountingTimer()), CASE, right, right, PLAN, steps.append)
    assert steps == ["base", "candidate", "both"]
    steps.clear()
    interleave(Runner("cpu", CountingTimer()), CASE, AskedSide(find_kernel("wrong")), right, PLAN, steps.append)
    assert steps == ["base", "candidate"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    made = make_repository(tmp_path / "repository")
    monkeypatch.setattr(sys, "path", [str(made.folder), *sys.path])
    all_kernels.cache_clear()
    yield made
    all_kernels.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_a_kernel_is_measured_at_two_commits_in_one_process(repository: Repository) -> None:
    with checked_out(PACKAGE, repository.first) as source:
        now = AskedSide(find_kernel("repeated"))
        before = replace(now, commit=source.commit, folder=str(source.folder))
        pair = interleave(Runner("cpu", CountingTimer()), CASE, before, now, PLAN)
        assert Path(str(pair.base.source)) == source.folder / PACKAGE / "repeated.py"
    assert (pair.base.reason, pair.candidate.reason) == ("", "")
    assert len(pair.blocks) == 6
    assert Path(str(pair.candidate.source)) == repository.folder / PACKAGE / "repeated.py"
    assert pair.base.label == f"repeated@{repository.first[:7]}"


@pytest.mark.parametrize("kernel", ["added", "mended"])
def test_what_a_commit_lacks_or_does_wrong_is_that_sides(repository: Repository, kernel: str) -> None:
    with checked_out(PACKAGE, repository.first) as source:
        now = AskedSide(find_kernel(kernel))
        before = replace(now, commit=source.commit, folder=str(source.folder))
        pair = interleave(Runner("cpu", CountingTimer()), CASE, before, now, PLAN)
    expected = {
        "added": ("unavailable", f"versioned_kernels.added:bind is not in commit {repository.first[:7]}"),
        "mended": ("incorrect", "relative error 0.021 is over 0.004 for bfloat16"),
    }
    assert (pair.base.status, pair.base.reason) == expected[kernel]
    assert pair.candidate.status == "ok"
