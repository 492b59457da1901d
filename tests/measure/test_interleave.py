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
from mlabench.measure import runner as runner_module
from mlabench.measure.interleave import interleave
from mlabench.measure.kernels import Kernel, all_kernels, find_kernel
from mlabench.measure.runner import Runner
from mlabench.measure.sides import AskedSide
from mlabench.measure.sources import checked_out
from mlabench.measure.timing.method import Call, SampledTimer, Samples
from mlabench.records.pairs import Pair, Plan
from tests.git_kernels import PACKAGE, EditableFinder, Repository, make_repository

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


def asked(kernel: str) -> AskedSide:
    return AskedSide(find_kernel(kernel))


def compare(base: str, candidate: str, case: Case = CASE, timer: CountingTimer | None = None) -> Pair:
    runner = Runner("cpu", timer or CountingTimer())
    (pair,) = interleave(runner, case, asked(base), [asked(candidate)], PLAN)
    return pair


def test_a_source_is_told_from_the_working_directory_where_it_lies_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(str(asked(RIGHT).source_file()))
    assert file.is_absolute()
    monkeypatch.chdir(file.parents[1])
    assert asked(RIGHT).source_file() == "mla_kernels/mla_decode_torch.py"


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
        (pair,) = interleave(runner, CASE, asked(RIGHT), [asked(kernel)], PLAN)
    assert (pair.base.status, pair.candidate.status) == ("ok", "ok")


def test_a_side_that_reads_unused_slots_is_held_against_one_that_must_not() -> None:
    target = "tests.measure.test_runner:bind_reading"
    strict = Kernel("reading", "mine", "mla_absorbed", target, ("cpu",), writes_lse=False)
    right, reading = asked(RIGHT), AskedSide(replace(strict, reads_unused_slots=True))
    runner = Runner("cpu", CountingTimer())
    for base, candidate in ((right, reading), (reading, right)):
        (pair,) = interleave(runner, CASE, base, [candidate], PLAN)
        assert (pair.base.reason, pair.candidate.reason) == ("", "")
        assert len(pair.blocks) == 6
        for side in (pair.base, pair.candidate):
            assert (side.kernel_config.get("unused_slots") == "finite") == (side.kernel == "reading")
    # One that says nothing of it is found, also where the others were timed on finite values.
    (pair,) = interleave(runner, CASE, reading, [AskedSide(strict)], PLAN)
    assert pair.candidate.status == "incorrect"


def test_a_time_that_is_none_is_an_error() -> None:
    pair = compare(RIGHT, RIGHT, timer=CountingTimer(time_us=0.0))
    assert (pair.base.status, pair.base.reason) == ("error", "a sample is no positive number")
    assert pair.blocks == ()


def test_each_step_is_announced_with_its_side() -> None:
    steps: list[str] = []
    right = asked(RIGHT)
    interleave(Runner("cpu", CountingTimer()), CASE, right, [right], PLAN, steps.append)
    assert steps == [*["base", "candidate"] * 2, "both", "candidate", "base"]
    steps.clear()
    interleave(Runner("cpu", CountingTimer()), CASE, asked("wrong"), [right], PLAN, steps.append)
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
        (pair,) = interleave(Runner("cpu", CountingTimer()), CASE, before, [now], PLAN)
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
        (pair,) = interleave(Runner("cpu", CountingTimer()), CASE, before, [now], PLAN)
    expected = {
        "added": ("unavailable", f"versioned_kernels.added:bind is not in commit {repository.first[:7]}"),
        "mended": ("incorrect", "relative error 0.021 is over 0.004 for bfloat16"),
    }
    assert (pair.base.status, pair.base.reason) == expected[kernel]
    assert pair.candidate.status == "ok"


@pytest.mark.parametrize("way", ["an editable install", "the package's path"])
def test_todays_file_is_not_taken_for_a_commits(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    package = repository.folder / PACKAGE
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, EditableFinder({PACKAGE: package})])
    with checked_out(PACKAGE, repository.first) as source:
        if way == "the package's path":
            (source.folder / PACKAGE / "__init__.py").write_text(f"__path__.append({str(package)!r})\n")
        now = AskedSide(find_kernel("added"))
        before = replace(now, commit=source.commit, folder=str(source.folder))
        (pair,) = interleave(Runner("cpu", CountingTimer()), CASE, before, [now], PLAN)
    reason = f"versioned_kernels.added:bind is not in commit {repository.first[:7]}"
    assert (pair.base.status, pair.base.reason) == ("unavailable", reason)
    assert (pair.candidate.status, pair.candidate.source) == ("ok", str(package / "added.py"))


def compare_several(base: str, *candidates: str, steps: list[str] | None = None) -> tuple[Pair, ...]:
    runner = Runner("cpu", CountingTimer())
    announce = (lambda _: None) if steps is None else steps.append
    return interleave(runner, CASE, asked(base), [asked(name) for name in candidates], PLAN, announce)


def test_several_candidates_are_each_held_against_the_base() -> None:
    steps: list[str] = []
    pairs = compare_several(RIGHT, "slow", RIGHT, "slow", steps=steps)
    assert [pair.candidate.kernel for pair in pairs] == ["slow", RIGHT, "slow"]
    each = ["base", "candidate", "candidate 2", "candidate 3"]
    assert steps == [*each, *each, "both", *reversed(each)]
    for pair in pairs:
        assert (pair.base.status, pair.candidate.status, len(pair.blocks), pair.stop) == ("ok", "ok", 6, "decided")
        assert pair.base == pairs[0].base
        assert pair.candidate.relative_error is not None
    # The calls of the base are the same, and it goes first of each two as often as last.
    assert len({tuple(block.base_us for block in pair.blocks) for pair in pairs}) == 1
    assert {sum(block.base_first for block in pair.blocks) for pair in pairs} == {3}


@pytest.mark.parametrize("refusing", ["narrow", "absent", "mla_decode_triton"])
def test_a_candidate_that_refuses_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch, refusing: str) -> None:
    made: list[Case] = []
    make = runner_module.make_inputs
    monkeypatch.setattr(runner_module, "make_inputs", lambda case, *rest: made.append(case) or make(case, *rest))
    steps: list[str] = []
    pairs = compare_several(RIGHT, "slow", refusing, RIGHT, steps=steps)
    assert [pair.candidate.status in ("unsupported", "unavailable") for pair in pairs] == [False, True, False]
    assert [len(pair.blocks) for pair in pairs] == [6, 0, 6]
    assert (pairs[1].base.status, pairs[1].stop, pairs[1].telemetry, pairs[1].overhead_us) == ("ok", "", None, None)
    assert len(made) == 1
    assert steps.index("both") == 4 + 3


@pytest.mark.parametrize(
    ("faulty", "status", "rounds"),
    [("wrong", "incorrect", 0), ("raising", "error", 0), ("hungry", "oom", 0), ("remembering", "incorrect", 1)],
)
def test_a_candidate_that_fails_is_left_out_and_the_others_begin_anew(faulty: str, status: str, rounds: int) -> None:
    steps: list[str] = []
    pairs = compare_several(RIGHT, "slow", faulty, RIGHT, steps=steps)
    assert [pair.candidate.status for pair in pairs] == ["ok", status, "ok"]
    assert [len(pair.blocks) for pair in pairs] == [6, 0, 6]
    assert steps[:2] == ["base", "candidate"]
    assert steps.count("both") == rounds + 1


def test_a_base_that_fails_leaves_no_times_and_the_status_of_all() -> None:
    for base, status in (("wrong", "incorrect"), ("narrow", "unsupported"), ("drifting", "incorrect")):
        pairs = compare_several(base, "slow", "absent", RIGHT)
        assert {pair.base.status for pair in pairs} == {status}
        assert [pair.candidate.status for pair in pairs] == ["ok", "unavailable", "ok"]
        assert {pair.blocks for pair in pairs} == {()}
