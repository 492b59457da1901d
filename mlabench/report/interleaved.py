"""A run of `mlabench ab` as a run of records, so that whatever shows those of a sweep shows it too."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlabench.records.pairs import PAIRS_NAME, Pair, load_pairs
from mlabench.records.record import Record, Timing
from mlabench.records.store import Run, load_run


def load_measured(paths: Sequence[Path]) -> list[Run]:
    """Runs of `mlabench sweep`, and of `mlabench ab` with a record for each case and side.

    A run without ceilings takes those of another one on the same card. Raises `UsageError`.
    """
    runs = [_load(path) for path in paths]
    return [_with_ceilings(run, runs) for run in runs]


def records_of(pairs: Sequence[Pair]) -> Iterator[Record]:
    """A record for each side of each case: the base's from the pair with most blocks, then its candidates'.

    Its samples are all calls of all blocks; of a side that is right and was not timed, for want of another, there is
    none.
    """
    by_case: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_case.setdefault(pair.case.case_id, []).append(pair)
    for own in by_case.values():
        sides = [(max(own, key=lambda pair: len(pair.blocks)), True), *((pair, False) for pair in own)]
        records = (_record(pair, is_base) for pair, is_base in sides)
        yield from (record for record in records if record)


def _load(path: Path) -> Run:
    run = load_run(path)
    if "interleaved" not in run.manifest.config:
        return run
    pairs = load_pairs(path) if (path / PAIRS_NAME).exists() else ()
    return replace(run, records=tuple(records_of(pairs)))


def _with_ceilings(run: Run, others: Sequence[Run]) -> Run:
    """Cards of one make differ by some percent, so that those of another card would not do."""
    own = run.manifest
    same = [other.manifest.ceilings for other in others if _machine(other) == _machine(run) and other.manifest.ceilings]
    if own.ceilings or not same:
        return run
    return replace(run, manifest=replace(own, ceilings=same[-1]))


def _machine(run: Run) -> object:
    manifest = run.manifest
    return manifest.fingerprint, (manifest.gpu_state or {}).get("uuid")


def _record(pair: Pair, is_base: bool) -> Record | None:
    side = pair.base if is_base else pair.candidate
    timing = _timing(pair, is_base) if side.status == "ok" and pair.blocks else None
    if side.status is None or (side.status == "ok" and timing is None):
        return None
    return Record(
        pair.case,
        side.label,
        side.backend,
        pair.method,
        side.status,
        side.reason,
        timing,
        side.relative_error,
        side.lse_error,
        side.workspace_bytes,
        side.kernel_config,
        pair.telemetry if timing else None,
        pair.seed,
        pair.started_at,
        pair.wall_s,
        pair.phases_s,
    )


def _timing(pair: Pair, is_base: bool) -> Timing:
    blocks = pair.blocks
    samples_us = [time_us for block in blocks for time_us in (block.base_us if is_base else block.candidate_us)]
    clocks_mhz = [mhz for block in blocks for mhz in (block.base_mhz if is_base else block.candidate_mhz) or ()]
    return Timing(tuple(samples_us), pair.cache, 0, pair.stop, pair.overhead_us, tuple(clocks_mhz) or None)
