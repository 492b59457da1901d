"""The run of a comparison: a worker's death is laid at the right side's door, and every pair is stored."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError
from mlabench.measure.config import SweepConfig
from mlabench.measure.isolation import Worker, WorkerSetup
from mlabench.measure.kernels import find_kernel
from mlabench.measure.side_by_side import Matchup, checkouts, match_up, measure_matchup, run_side_by_side
from mlabench.measure.sides import AskedSide
from mlabench.measure.sources import folder_of
from mlabench.records.pairs import Pair, Plan, load_pairs
from mlabench.records.store import load_run

pytestmark = pytest.mark.usefixtures("faulty_kernels")

CASE = make_cases({"num_q_heads": (4,), "kv_len": (70,)})[0]
PLAN = Plan((6,), 60.0, 0.5, 2.0, 0.05)
CONFIG = SweepConfig(device="cpu", method="cpu", cache="warm")
RIGHT = "mla_decode_torch"


def matchup(base: str, *candidates: str) -> Matchup:
    return Matchup(CASE, AskedSide(find_kernel(base)), tuple(AskedSide(find_kernel(name)) for name in candidates))


def test_both_sides_are_loaded_in_the_same_way() -> None:
    now = AskedSide(find_kernel(RIGHT))
    before = replace(now, commit="0123456", folder="/elsewhere")
    assert match_up(CASE, now, now) == Matchup(CASE, now, (now,))
    here = replace(now, folder=str(folder_of("mla_kernels")))
    assert match_up(CASE, before, now) == Matchup(CASE, before, (here,))
    assert match_up(CASE, now, before) == Matchup(CASE, here, (before,))


def test_a_peer_has_no_commits() -> None:
    peer = find_kernel("mla_decode_flash_mla")
    before = AskedSide(find_kernel(RIGHT), "0123456", "/elsewhere")
    assert match_up(CASE, before, AskedSide(peer)) == Matchup(CASE, before, (AskedSide(peer),))
    with checkouts() as side:
        assert side(peer, None) == AskedSide(peer)
        with pytest.raises(UsageError, match="another package's kernel and the same at every commit: leave it out"):
            side(peer, "HEAD")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(WorkerSetup("cpu", "cpu", "warm", 0, {}, tmp_path / "worker.log"))
    yield worker
    worker.stop()


def test_a_crash_is_the_side_that_was_at_work(worker: Worker) -> None:
    (pair,) = measure_matchup(worker, matchup("crashing", RIGHT), PLAN, CONFIG)
    assert (pair.base.status, pair.candidate.status) == ("error", None)
    assert "the worker process died (SIGABRT)" in pair.base.reason
    (pair,) = measure_matchup(worker, matchup(RIGHT, "crashing"), PLAN, CONFIG)
    assert (pair.base.status, pair.candidate.status) == (None, "error")
    (pair,) = measure_matchup(worker, matchup(RIGHT, RIGHT), PLAN, CONFIG)
    assert (pair.base.status, pair.candidate.status, len(pair.blocks)) == ("ok", "ok", 6)


@pytest.mark.parametrize("failing", ["crashing", "leaving", "tiring"])
def test_what_is_lost_with_one_candidate_is_measured_without_it(worker: Worker, failing: str) -> None:
    pairs = measure_matchup(worker, matchup(RIGHT, "slow", failing, "narrow", RIGHT), PLAN, CONFIG)
    assert [pair.candidate.kernel for pair in pairs] == ["slow", failing, "narrow", RIGHT]
    assert [pair.candidate.status for pair in pairs] == ["ok", "error", "unsupported", "ok"]
    assert "the worker process died" in pairs[1].candidate.reason
    assert [len(pair.blocks) for pair in pairs] == [6, 0, 0, 6]


def test_a_base_that_crashes_is_asked_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    ask = worker.ask
    monkeypatch.setattr(worker, "ask", lambda request, limit: asked.append(request) or ask(request, limit))
    pairs = measure_matchup(worker, matchup("crashing", RIGHT, "slow"), PLAN, CONFIG)
    assert [(pair.base.status, pair.candidate.status) for pair in pairs] == [("error", None)] * 2
    assert len(asked) == 1


def test_a_death_while_several_are_timed_is_all_of_theirs(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ask", lambda *_: _die(worker))
    pairs = measure_matchup(worker, matchup(RIGHT, RIGHT, "slow"), PLAN, CONFIG)
    assert {pair.candidate.reason for pair in pairs} == {"while all were timed: gone"}


def test_a_hang_ends_within_the_time_limit(worker: Worker) -> None:
    worker.start()
    (pair,) = measure_matchup(
        worker, matchup(RIGHT, "hanging"), PLAN, SweepConfig(device="cpu", method="cpu", timeout_s=5)
    )
    assert pair.candidate.status == "error"
    assert "no answer within 5 s" in pair.candidate.reason


def test_a_death_while_both_are_timed_is_not_laid_on_one(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ask", lambda *_: _die(worker))
    (pair,) = measure_matchup(worker, matchup(RIGHT, RIGHT), PLAN, CONFIG)
    assert (pair.base.status, pair.candidate.status) == ("error", "error")
    assert pair.candidate.reason == "while both were timed: gone"


def _die(worker: Worker) -> None:
    from mlabench.measure.isolation import WorkerDied

    worker.at = "both"
    raise WorkerDied("gone")


def test_every_pair_is_stored_with_a_manifest(tmp_path: Path) -> None:
    path, told = tmp_path / "run", list[Pair]()
    matchups = [matchup(RIGHT, RIGHT), matchup("slow", RIGHT)]
    pairs = run_side_by_side(path, CONFIG, matchups, PLAN, lambda _: None, told.append)
    assert list(load_pairs(path)) == list(pairs) == told
    assert [pair.base.status for pair in pairs] == ["ok", "ok"]
    manifest = load_run(path).manifest
    assert manifest.fingerprint.device == "cpu"
    assert manifest.config["interleaved"]["plan"]["looks"] == [6]


def test_a_side_that_fails_its_trial_is_not_timed(tmp_path: Path) -> None:
    even = make_cases({"num_q_heads": (4,), "kv_len": (64, 128)})
    matchups = [replace(matchup(RIGHT, "uneven", "slow", "segmented"), case=case) for case in even]
    pairs = run_side_by_side(tmp_path / "run", CONFIG, matchups, PLAN, lambda _: None, lambda _: None)
    assert [pair.candidate.kernel for pair in pairs] == ["uneven", "slow", "segmented"] * 2
    assert [pair.candidate.status for pair in pairs] == ["incorrect", "ok", "error"] * 2
    assert [len(pair.blocks) for pair in pairs] == [0, 6, 0] * 2
    started = "not timed: on a small ragged batch (kv_lens 193, 1, 33) "
    assert all(pair.candidate.reason.startswith(started) for pair in pairs if not pair.blocks)


def test_nothing_is_timed_against_a_base_that_fails_its_trial(tmp_path: Path) -> None:
    sides = [replace(matchup("uneven", RIGHT, "uneven"), case=make_cases({"num_q_heads": (4,), "kv_len": (64,)})[0])]
    pairs = run_side_by_side(tmp_path / "run", CONFIG, sides, PLAN, lambda _: None, lambda _: None)
    assert [(pair.base.status, pair.candidate.status) for pair in pairs] == [
        ("incorrect", None),
        ("incorrect", "incorrect"),
    ]
    assert list(load_pairs(tmp_path / "run")) == list(pairs)


def test_a_directory_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    run_side_by_side(tmp_path, CONFIG, [matchup(RIGHT, RIGHT)], PLAN, lambda _: None, lambda _: None)
    with pytest.raises(UsageError, match="already holds a run"):
        run_side_by_side(tmp_path, CONFIG, [matchup(RIGHT, RIGHT)], PLAN, lambda _: None, lambda _: None)
