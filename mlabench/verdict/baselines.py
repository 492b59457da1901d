"""Which stored runs a run is held against, and whether they may be."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from mlabench.errors import MissingBaselineError, UsageError
from mlabench.records.pairs import load_sweep
from mlabench.records.store import BASELINES_FOLDER, Run, is_run


def find_baselines(current: Run, named: Sequence[Path]) -> tuple[Run, ...]:
    """The named runs, or without any the committed ones, all of them measured on the current one's terms.

    Raises `MissingBaselineError` for one that is none, or was measured on another machine, software or method,
    `UsageError` for one that is the current run or another baseline over again; and what `committed_baselines` does.
    """
    runs = tuple(map(_load, named)) or committed_baselines(current)
    for run, other in combinations((current, *runs), 2):
        if share_measurements(run, other):
            raise UsageError(
                f"{other.path} holds measurements of {run.path}, which say nothing of themselves: "
                "--baseline takes each run once, and another than the current one"
            )
    for run in runs:
        _check_terms(run, current)
    return runs


def share_measurements(run: Run, other: Run) -> bool:
    """Whether a record stands in both: they are one run, or a copy of it that may have gone on since."""
    if run.manifest.created_at != other.manifest.created_at:
        return False
    records = {record.key: record for record in other.records}
    return any(records.get(record.key) == record for record in run.records)


def committed_baselines(current: Run) -> tuple[Run, ...]:
    """The runs kept for the current one's device under `BASELINES_FOLDER` that asked for the same points.

    All that repeat the current run count together, so that their spread shows what unchanged code does. Where none
    does, the only one of its timing method and cache is taken. Raises `MissingBaselineError` where none is there or one
    cannot be read, and `UsageError` where the choice is the user's.
    """
    folder = BASELINES_FOLDER / current.manifest.fingerprint.slug
    paths = sorted(path for path in folder.glob("*") if is_run(path) and path.resolve() != current.path.resolve())
    if not paths:
        raise MissingBaselineError(
            f"there is no baseline under {folder}: name one with --baseline, or make the first there, thrice: "
            f"mlabench sweep --config FILE --out {folder}/NAME"
        )
    runs = [_load(path) for path in paths]
    alike = [run for run in runs if _is_timed_alike(run, current)]
    same = [run for run in alike if _asked(run) == _asked(current)]
    if same or len(alike) == 1:
        return tuple(same or alike)
    names = ", ".join(path.name for path in paths)
    if not alike:
        timed = "/".join(sorted(_methods(current) | _caches(current))) or "no method"
        raise MissingBaselineError(
            f"{folder} holds {names}, none of them timed as this run ({timed}): "
            "name one with --baseline, or keep a run there"
        )
    told = ", ".join(f"{run.name} (another {' and '.join(_other_cases(run, current))})" for run in alike)
    raise UsageError(
        f"{folder} holds {told}, none of them of this run's cases: choose one with --baseline, "
        "and add --allow-missing where this run is a part of it"
    )


def _check_terms(run: Run, current: Run) -> None:
    differences = current.manifest.fingerprint.differences(run.manifest.fingerprint)
    mine, theirs = _methods(current), _methods(run)
    if mine and theirs and mine.isdisjoint(theirs):
        differences.append(f"method {'/'.join(sorted(mine))!r} against {'/'.join(sorted(theirs))!r}")
    if differences:
        raise MissingBaselineError(
            f"baseline {run.path} was measured on other terms (current against baseline): {'; '.join(differences)}; "
            "give a --baseline of this machine, software and method"
        )


def _methods(run: Run) -> frozenset[str]:
    """The timing methods of the run's records; without any, the one that was asked for."""
    asked = run.manifest.config.get("method")
    return frozenset(record.method for record in run.records) or frozenset([asked] if asked else [])


def _caches(run: Run) -> frozenset[str]:
    return frozenset(record.timing.cache for record in run.records if record.timing)


def _is_timed_alike(run: Run, current: Run) -> bool:
    """Whether both were timed by the same method, and from the same cache as far as they timed anything."""
    mine, theirs = _caches(current), _caches(run)
    return _methods(run) == _methods(current) and (mine == theirs or not mine or not theirs)


def _load(path: Path) -> Run:
    inside = sorted(each.name for each in path.glob("*") if is_run(each))
    if inside and not is_run(path):
        raise UsageError(
            f"{path} is a folder of runs ({', '.join(inside)}): give each that counts a --baseline of its own"
        )
    try:
        return load_sweep(path)
    except (UsageError, OSError) as error:
        raise MissingBaselineError(f"no baseline: {error}") from None


def _asked(run: Run) -> Mapping[str, Any]:
    """What the run was to measure, in no order: axes and names may be listed either way round."""
    config = run.manifest.config
    axes = {name: sorted(map(str, values)) for name, values in (config.get("axes") or {}).items()}
    names = {name: sorted(config.get(name) or ()) for name in ("model", "kernel")}
    return {**axes, **names, "where": " ".join((config.get("where") or "").split())}


def _other_cases(run: Run, current: Run) -> list[str]:
    """The axes and settings by which the runs asked for other points."""
    mine, theirs = _asked(current), _asked(run)
    return [name for name in dict.fromkeys((*mine, *theirs)) if mine.get(name) != theirs.get(name)]
