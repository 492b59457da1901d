"""The run of an interleaved comparison: every case through a worker, each pair stored before the next begins."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.machine.fingerprint import Fingerprint
from mlabench.machine.provenance import take_provenance
from mlabench.measure.config import SweepConfig
from mlabench.measure.isolation import Worker, WorkerDied, WorkerSetup
from mlabench.measure.kernels import Kernel
from mlabench.measure.sides import AskedSide, describe, step_name
from mlabench.measure.sources import Source, checked_out, folder_of, package_of, sources_digest
from mlabench.measure.timing.method import Budget
from mlabench.measure.trial import Fault, Tryout
from mlabench.records.manifest import Manifest
from mlabench.records.pairs import Pair, Plan, Side, append_pair
from mlabench.records.store import WORKER_LOG_NAME, claim_directory, hold_directory, is_run, write_manifest

MakeSide = Callable[[Kernel, str | None], AskedSide]


@dataclass(frozen=True, slots=True)
class Matchup:
    """A case, and the sides that it is measured on: a base, and what is held against it."""

    case: Case
    base: AskedSide
    candidates: tuple[AskedSide, ...]


def match_up(case: Case, base: AskedSide, *candidates: AskedSide) -> Matchup:
    """The sides on a case. Where one is of another commit, all are loaded in the same way.

    Changing from one copy of a package to another costs the processor's caches something: charged to one side alone, it
    made the other 4% faster on a CPU.
    """
    if base.folder or any(candidate.folder for candidate in candidates):
        base, candidates = _beside(base), tuple(map(_beside, candidates))
    return Matchup(case, base, candidates)


@contextmanager
def checkouts() -> Iterator[MakeSide]:
    """What makes a side of a kernel and a commit, or of None for the sources at hand.

    A commit is checked out once a package; all are removed at the end. Making one raises `UsageError` as
    `sources.checked_out` does, and for a peer at a commit.
    """
    sources: dict[tuple[str, str], Source] = {}
    with ExitStack() as stack:

        def make_side(kernel: Kernel, commit: str | None) -> AskedSide:
            if commit is None:
                return AskedSide(kernel)
            if kernel.peer:
                raise UsageError(
                    f"{kernel.name} is another package's kernel and the same at every commit: leave it out"
                )
            key = package_of(kernel.target), commit
            if key not in sources:
                sources[key] = stack.enter_context(checked_out(*key))
            return AskedSide(kernel, sources[key].commit, str(sources[key].folder))

        yield make_side


def run_side_by_side(
    path: Path,
    config: SweepConfig,
    matchups: Sequence[Matchup],
    plan: Plan,
    on_start: Callable[[Matchup], None],
    on_pair: Callable[[Pair], None],
) -> tuple[Pair, ...]:
    """Make the run directory and measure every matchup, of which sides that are not the suite's are tried before.

    Raises `UsageError` where either cannot be begun.
    """
    budget = asdict(Budget())
    log = path / WORKER_LOG_NAME
    worker = Worker(WorkerSetup(config.device, config.method, config.cache, config.seed, budget, log))
    tryout = Tryout(worker, config.timeout_s)
    pairs: list[Pair] = []
    if is_run(path):
        raise UsageError(f"{path} already holds a run: choose another --out")
    with hold_directory(path):
        claim_directory(path)
        try:
            write_manifest(path, _manifest(worker, config, matchups, plan))
            for matchup in matchups:
                on_start(matchup)
                for pair in measure_tried(tryout, matchup, plan, config):
                    pairs.append(pair)
                    append_pair(path, pair)
                    on_pair(pair)
        finally:
            worker.stop()
    return tuple(pairs)


def measure_tried(tryout: Tryout, matchup: Matchup, plan: Plan, config: SweepConfig) -> tuple[Pair, ...]:
    """A pair for each candidate, of which only sides that pass their trial are timed."""
    started_at, start = _now(), time.perf_counter()
    sides = (matchup.base, *matchup.candidates)
    faults = {place: fault for place, side in enumerate(sides) if (fault := tryout.fault(matchup.case, side))}
    wall_s = time.perf_counter() - start
    sound = [] if 0 in faults else [place for place in range(1, len(sides)) if place not in faults]
    found: dict[int, Pair] = {}
    if sound:
        left = replace(matchup, candidates=tuple(sides[place] for place in sound))
        found = dict(zip(sound, measure_matchup(tryout.worker, left, plan, config), strict=True))
    base, *candidates = (_refused(side, faults.get(place)) for place, side in enumerate(sides))
    pair = Pair(matchup.case, base, base, config.method, config.cache, config.seed, plan, started_at=started_at)
    untimed = replace(pair, wall_s=wall_s)
    return tuple(
        found.get(place) or replace(untimed, candidate=candidate) for place, candidate in enumerate(candidates, start=1)
    )


def measure_matchup(worker: Worker, matchup: Matchup, plan: Plan, config: SweepConfig) -> tuple[Pair, ...]:
    """A pair for each candidate, measured by the worker; what it lost with one candidate it measures without that one.

    Where the worker dies or hangs, the side that was at work has an `error`.
    """
    pairs = _ask(worker, matchup, plan, config)
    lost = [place for place, pair in enumerate(pairs) if _is_lost(pair)]
    if len(lost) in (0, len(pairs)):
        return pairs
    others = replace(matchup, candidates=tuple(matchup.candidates[place] for place in lost))
    found = dict(zip(lost, measure_matchup(worker, others, plan, config), strict=True))
    return tuple(found.get(place, pair) for place, pair in enumerate(pairs))


def _is_lost(pair: Pair) -> bool:
    """Whether there are no times, and neither side is known to be at fault."""
    return not pair.blocks and all(side.status in ("ok", None) for side in (pair.base, pair.candidate))


def _ask(worker: Worker, matchup: Matchup, plan: Plan, config: SweepConfig) -> tuple[Pair, ...]:
    case, sides = matchup.case, (matchup.base, *matchup.candidates)
    request = {
        "do": "interleave",
        "case": case.to_fields(),
        "models": case.models,
        "sides": [side.to_json() for side in sides],
        "plan": asdict(plan),
    }
    started_at, start = _now(), time.perf_counter()
    try:
        return tuple(map(Pair.from_json, worker.ask(request, config.timeout_s)["pairs"]))
    except WorkerDied as death:
        wall_s = time.perf_counter() - start
        names = [step_name(place) for place in range(len(sides))]
        reason = (
            f"while {'both' if len(sides) == 2 else 'all'} were timed: {death}" if worker.at == "both" else str(death)
        )
        base, *candidates = (
            _lost(side, worker.at == name or worker.at not in names, reason)
            for side, name in zip(sides, names, strict=True)
        )
        pair = Pair(case, base, base, config.method, config.cache, config.seed, plan, started_at=started_at)
        return tuple(replace(pair, candidate=candidate, wall_s=wall_s) for candidate in candidates)


def same_sources(matchups: Sequence[Matchup]) -> tuple[str, ...]:
    """The packages of which both sides of a kernel, one of them at a commit, have the same files."""
    folders = {
        (package_of(each.base.kernel.target), each.base.folder, candidate.folder): None
        for each in matchups
        for candidate in each.candidates
        if each.base.kernel == candidate.kernel and each.base.folder != candidate.folder
    }
    return tuple(
        package
        for package, base, candidate in folders
        if base and candidate and sources_digest(package, Path(base)) == sources_digest(package, Path(candidate))
    )


def _beside(side: AskedSide) -> AskedSide:
    # A peer is no part of the repository: it has no other copy to be changed with.
    return (
        side
        if side.folder or side.kernel.peer
        else replace(side, folder=str(folder_of(package_of(side.kernel.target))))
    )


def _lost(asked: AskedSide, is_suspect: bool, reason: str) -> Side:
    """A side of a pair whose worker died."""
    return describe(asked, status="error", reason=reason) if is_suspect else describe(asked)


def _refused(asked: AskedSide, fault: Fault | None) -> Side:
    """A side of a pair that was not timed, with what its trial ended in."""
    return describe(asked, status=fault.status, reason=fault.reason) if fault else describe(asked)


def _manifest(worker: Worker, config: SweepConfig, matchups: Sequence[Matchup], plan: Plan) -> Manifest:
    try:
        fingerprint = Fingerprint.from_json(worker.start())
    except WorkerDied as death:
        raise UsageError(f"the {config.device} device cannot be measured: {death}") from None
    asked: Mapping[str, Any] = {
        "plan": asdict(plan),
        "base_commits": sorted({matchup.base.commit or "" for matchup in matchups}),
        "candidate_commits": sorted({side.commit or "" for matchup in matchups for side in matchup.candidates}),
    }
    settings = {**config.to_json(), "interleaved": asked}
    return Manifest(_now(), settings, take_provenance().to_json(), fingerprint, None, worker.gpu_state)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
