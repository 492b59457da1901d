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
from mlabench.measure.interleave import AskedSide, describe
from mlabench.measure.isolation import Worker, WorkerDied, WorkerSetup
from mlabench.measure.kernels import Kernel
from mlabench.measure.sources import Source, checked_out, folder_of, package_of, sources_digest
from mlabench.measure.timing.method import Budget
from mlabench.records.manifest import Manifest
from mlabench.records.pairs import Pair, Plan, Side, append_pair
from mlabench.records.store import WORKER_LOG_NAME, claim_directory, hold_directory, is_run, write_manifest

MakeSide = Callable[[Kernel, str | None], AskedSide]


@dataclass(frozen=True, slots=True)
class Matchup:
    """A case, and the two sides that it is measured on."""

    case: Case
    base: AskedSide
    candidate: AskedSide


def match_up(case: Case, base: AskedSide, candidate: AskedSide) -> Matchup:
    """The two sides on a case. Where one is of another commit, both are loaded in the same way.

    Changing from one copy of a package to another costs the processor's caches something: charged to one side alone, it
    made the other 4% faster on a CPU.
    """
    if base.folder or candidate.folder:
        base, candidate = _beside(base), _beside(candidate)
    return Matchup(case, base, candidate)


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
    """Make the run directory and measure every matchup. Raises `UsageError` where either cannot be begun."""
    budget = asdict(Budget())
    log = path / WORKER_LOG_NAME
    worker = Worker(WorkerSetup(config.device, config.method, config.cache, config.seed, budget, log))
    pairs: list[Pair] = []
    if is_run(path):
        raise UsageError(f"{path} already holds a run: choose another --out")
    with hold_directory(path):
        claim_directory(path)
        try:
            write_manifest(path, _manifest(worker, config, matchups, plan))
            for matchup in matchups:
                on_start(matchup)
                pairs.append(measure_pair(worker, matchup, plan, config))
                append_pair(path, pairs[-1])
                on_pair(pairs[-1])
        finally:
            worker.stop()
    return tuple(pairs)


def measure_pair(worker: Worker, matchup: Matchup, plan: Plan, config: SweepConfig) -> Pair:
    """One matchup through the worker; where that dies or hangs, the side that was at work has an `error`."""
    case, sides = matchup.case, (matchup.base, matchup.candidate)
    request = {
        "do": "interleave",
        "case": case.to_fields(),
        "models": case.models,
        "sides": [side.to_json() for side in sides],
        "plan": asdict(plan),
    }
    started_at, start = _now(), time.perf_counter()
    try:
        return Pair.from_json(worker.ask(request, config.timeout_s)["pair"])
    except WorkerDied as death:
        reason = f"while both were timed: {death}" if worker.at == "both" else str(death)
        base = _lost(matchup.base, worker.at != "candidate", reason)
        candidate = _lost(matchup.candidate, worker.at != "base", reason)
        pair = Pair(case, base, candidate, config.method, config.cache, config.seed, plan, started_at=started_at)
        return replace(pair, wall_s=time.perf_counter() - start)


def same_sources(matchups: Sequence[Matchup]) -> tuple[str, ...]:
    """The packages of which both sides of a kernel, one of them at a commit, have the same files."""
    folders = {
        (package_of(each.base.kernel.target), each.base.folder, each.candidate.folder): None
        for each in matchups
        if each.base.kernel == each.candidate.kernel and each.base.folder != each.candidate.folder
    }
    return tuple(
        package
        for package, base, candidate in folders
        if base and candidate and sources_digest(package, Path(base)) == sources_digest(package, Path(candidate))
    )


def _beside(side: AskedSide) -> AskedSide:
    return side if side.folder else replace(side, folder=str(folder_of(package_of(side.kernel.target))))


def _lost(asked: AskedSide, is_suspect: bool, reason: str) -> Side:
    """A side of a pair whose worker died."""
    return describe(asked, status="error", reason=reason) if is_suspect else describe(asked)


def _manifest(worker: Worker, config: SweepConfig, matchups: Sequence[Matchup], plan: Plan) -> Manifest:
    try:
        fingerprint = Fingerprint.from_json(worker.start())
    except WorkerDied as death:
        raise UsageError(f"the {config.device} device cannot be measured: {death}") from None
    asked: Mapping[str, Any] = {
        "plan": asdict(plan),
        "base_commits": sorted({matchup.base.commit or "" for matchup in matchups}),
        "candidate_commits": sorted({matchup.candidate.commit or "" for matchup in matchups}),
    }
    settings = {**config.to_json(), "interleaved": asked}
    return Manifest(_now(), settings, take_provenance().to_json(), fingerprint, None, worker.gpu_state)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
