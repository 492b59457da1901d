"""What `mlabench report` does before it writes: keep the cases asked for, and hold runs against one another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from mlabench.cases.case import Case
from mlabench.cases.where import keep_where
from mlabench.errors import UsageError
from mlabench.records.store import Run
from mlabench.report.moved import Moved, MovedPoint, Other, least_text
from mlabench.verdict.baselines import share_measurements
from mlabench.verdict.compare import compare_runs
from mlabench.verdict.comparison import noise_of
from mlabench.verdict.noise import AnyRatio
from mlabench.verdict.point import Point, Verdict

OF_ONE_RUN = frozenset({Verdict.NEW, Verdict.MISSING, Verdict.UNMEASURED})
"""Verdicts of points that say nothing of a change: runs in one report need not be of the same cases."""


def keep_cases(runs: Sequence[Run], where: str) -> list[Run]:
    """The runs with the records alone whose case the expression keeps. Raises `UsageError` where none is left."""
    cases = {record.case for run in runs for record in run.records}
    kept = frozenset(keep_where(tuple(cases), where))
    left = [replace(run, records=tuple(record for record in run.records if record.case in kept)) for run in runs]
    if cases and not kept:
        raise UsageError(f"--where {where!r} leaves none of the {len(cases)} cases: `mlabench export` lists them")
    return left


def moved_between(runs: Sequence[Run]) -> tuple[Moved, ...]:
    """Each run against the first of those before it that timed a point of its own, by the gate's statistics.

    Runs that are one, or in which kernels took turns, are not held against one another.
    """
    found = []
    for place, current in enumerate(runs):
        base = next((run for run in runs[:place] if _may_be_held(current, run)), None)
        if base and (moved := _moved(base, current)):
            found.append(moved)
    return tuple(found)


def _may_be_held(current: Run, base: Run) -> bool:
    if any("interleaved" in run.manifest.config for run in (base, current)) or share_measurements(base, current):
        return False
    return not _timed(current).isdisjoint(_timed(base))


def _timed(run: Run) -> frozenset[tuple[str, str, str]]:
    return frozenset(record.key for record in run.records if record.timing)


def _moved(base: Run, current: Run) -> Moved | None:
    """None where no point's times can be compared."""
    noise = noise_of(current)
    judged = compare_runs(current, [base], noise)
    cases = {record.key: record.case for run in (base, current) for record in run.records}
    points = [_point(point, point.ratio, cases[point.key]) for point in judged if point.ratio]
    if not points:
        return None
    others = [point for point in judged if not point.ratio and point.verdict not in OF_ONE_RUN]
    return Moved(
        base,
        current,
        tuple(sorted(points, key=lambda point: -point.distance)),
        _others(others),
        least_text(noise.min_effect, noise.min_effect_us),
        tuple(_warnings(base, current)),
    )


def _point(point: Point, ratio: AnyRatio, case: Case) -> MovedPoint:
    _, kernel, method = point.key
    note = "; ".join(filter(None, (point.reason, *point.warnings)))
    verdict = point.verdict.value
    return MovedPoint(
        case, kernel, method, verdict, ratio.value, ratio.interval, ratio.baseline_us, ratio.current_us, note
    )


def _others(points: Sequence[Point]) -> tuple[Other, ...]:
    counts = Counter(point.verdict for point in points)
    reasons = {point.verdict: point.reason for point in reversed(points)}
    return tuple(Other(verdict.value, count, reasons[verdict]) for verdict, count in counts.items())


def _warnings(base: Run, current: Run) -> list[str]:
    """What differs between the runs beside the code."""
    before, now = base.manifest, current.manifest
    found = []
    if differences := before.fingerprint.differences(now.fingerprint):
        found.append(f"Measured on other terms, before against now: {'; '.join(differences)}.")
    cards = [(manifest.gpu_state or {}).get("uuid") for manifest in (before, now)]
    if before.fingerprint.device_name != now.fingerprint.device_name:
        found.append("The machines differ, so that the ratios tell of them rather than of the code.")
    elif all(cards) and cards[0] != cards[1]:
        found.append("They are of two cards: those of one kind differ by some percent.")
    return found
