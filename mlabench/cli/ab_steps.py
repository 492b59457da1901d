"""What `mlabench ab` and `mlabench gate --ab` do with their options: the cases, the sides, the measuring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from mlabench.cases.axes import merge_axes, parse_axis
from mlabench.cases.case import ALLOWED, Case
from mlabench.cli.ab_changes import Changes, find_changes
from mlabench.cli.device_state import device_warnings
from mlabench.cli.project import find_project
from mlabench.cli.show import progress
from mlabench.cli.sweep_steps import resolve
from mlabench.errors import ExitCode, UsageError
from mlabench.measure.base_kernels import TABLE, is_own, read_kernels
from mlabench.measure.config import SweepConfig
from mlabench.measure.kernels import Kernel, all_kernels, find_kernel, find_kernels
from mlabench.measure.plan import chosen_cases, make_points
from mlabench.measure.side_by_side import MakeSide, Matchup, checkouts, match_up, run_side_by_side, same_sources
from mlabench.measure.sources import folder_of, package_of, root_of
from mlabench.records.paired_ratio import MIN_BLOCKS, paired_ratio
from mlabench.records.pairs import PAIRS_FOLDER, Pair, Plan
from mlabench.records.store import load_run, refuse_used
from mlabench.units import format_ratio_interval
from mlabench.verdict.comparison import format_points, warn_of_effect
from mlabench.verdict.interleaved import (
    LEAST_EFFECTS,
    MAX_S,
    AbGateResult,
    AbResult,
    ab_result,
    judge_pairs,
    make_plan,
    missing_point,
    plan_settings,
    was_run,
)
from mlabench.verdict.point import Point

AT_HAND = "the sources at hand"


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that both commands have: `given` are the sweep's settings by name, `axes` its texts."""

    axes: Sequence[str] = ()
    given: Mapping[str, Any] | None = None
    config: Path | None = None
    min_effect: float | None = None
    max_s: float = MAX_S
    out: Path | None = None
    allow_new: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """The pairs, how they were measured, and lines about all of them."""

    pairs: tuple[Pair, ...]
    plan: Plan
    gpu_state: Mapping[str, Any] | None
    warnings: tuple[str, ...]


def run_ab(base_commit: str, asked: Asked) -> AbGateResult:
    """Hold every chosen kernel against itself at a commit, on every case that it takes.

    Raises `UsageError`, and `typer.Exit` when interrupted.
    """
    _refuse_used(asked)
    settings = resolve_asked(asked)
    with checkouts() as side:
        matchups = match_commit(settings, base_commit, side)
        gone, warnings = _gone(settings, matchups, chosen_cases(settings))
        measured = _measure(settings, matchups, asked)
        pairs = zip(matchups, measured.pairs, strict=True)
        changes = find_changes(matchups, [matchup for matchup, pair in pairs if was_run(pair)])
    warnings = (*measured.warnings, *warnings, *filter(None, (changes.warning,)))
    commit = measured.pairs[0].base.commit or base_commit
    name = commit[:12] if commit.startswith(base_commit) else f"{base_commit} ({commit[:12]})"
    judged = judge_pairs(measured.pairs, measured.gpu_state, allow_new=asked.allow_new)
    told = plan_settings(measured.plan)
    told = replace(told, others={**told.others, "allow_new": asked.allow_new})
    return AbGateResult(AT_HAND, (name,), told, (*gone, *judged), warnings, blind_spot=blind_spot(changes, settings))


def match_commit(settings: SweepConfig, base_commit: str, side: MakeSide) -> list[Matchup]:
    """Every chosen kernel against itself at the commit, on every case that it takes. Raises `UsageError`."""
    points = [(point.case, point.kernel) for point in make_points(settings, settings.device) if point.kernel]
    if not points:
        raise UsageError("none of the chosen kernels takes any of the cases: choose others with --kernel or -a")
    return [match_up(case, side(kernel, base_commit), side(kernel, None)) for case, kernel in points]


def blind_spot(changes: Changes, settings: SweepConfig) -> str:
    """What leaves the gate without an answer: files that differ and are not run.

    Where kernels were chosen by name the others were left out on purpose, as long as any file that differs was run.
    """
    if not changes.unrun or (settings.kernel and changes.num_run):
        return ""
    return f"no point runs {len(changes.unrun)} of {changes.num_run + len(changes.unrun)} files that differ"


def run_sides(base: str, candidates: Sequence[str], asked: Asked) -> AbResult:
    """Hold other kernels against one, each `KERNEL` or `KERNEL@COMMIT`, on every case that it takes.

    The others may be named by their backend, or as `peers`. Raises `UsageError`, and `typer.Exit` when interrupted.
    """
    _refuse_used(asked)
    base_name, base_commit = parse_side(base)
    base_kernel = find_kernel(base_name)
    others = _find_others(base_kernel, candidates)
    names = tuple(dict.fromkeys((base_kernel.name, *(kernel.name for kernel, _ in others))))
    settings = replace(resolve_asked(asked), kernel=names)
    cases = _cases_of(settings, base_kernel)
    with checkouts() as side:
        sides = [side(kernel, commit) for kernel, commit in ((base_kernel, base_commit), *others)]
        measured = _measure(settings, [match_up(case, *sides) for case in cases], asked)
    told = candidates if len(others) == len(candidates) else [kernel.name for kernel, _ in others]
    return ab_result(base, told, measured.pairs, measured.plan, measured.gpu_state, measured.warnings)


def _refuse_used(asked: Asked) -> None:
    if asked.out:
        refuse_used(asked.out, mend="choose another --out")


def parse_side(text: str) -> tuple[str, str | None]:
    """The name and the commit of `KERNEL` or `KERNEL@COMMIT`. Raises `UsageError`."""
    name, separator, commit = text.partition("@")
    if separator and not commit:
        raise UsageError(f"{text!r} names no commit: write KERNEL@COMMIT, or KERNEL for the sources at hand")
    return name, commit or None


def _find_others(base: Kernel, texts: Sequence[str]) -> list[tuple[Kernel, str | None]]:
    """The kernels and commits that are held against the base. Raises `UsageError`."""
    sides = [
        (kernel, commit) for name, commit in map(parse_side, texts) for kernel in find_kernels(name, base.contract)
    ]
    others = list(dict.fromkeys(sides))
    for kernel, _ in others:
        if kernel.contract != base.contract:
            raise UsageError(
                f"{base.name} takes {base.contract} cases and {kernel.name} {kernel.contract} ones: "
                "choose two kernels that read the same tensors"
            )
    names = [kernel.name for kernel, _ in others]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is named at two commits: give the second a run of its own")
    return others


def resolve_asked(asked: Asked) -> SweepConfig:
    """The settings of a comparison in turns. Raises `UsageError`."""
    settings = resolve(asked.config, merge_axes(map(parse_axis, asked.axes)), asked.given or {})
    if settings.method == "sustained":
        raise UsageError("method 'sustained' runs for seconds and cannot be interleaved: choose graph or events")
    return settings


def _cases_of(settings: SweepConfig, kernel: Kernel) -> Sequence[Case]:
    chosen = chosen_cases(settings)
    cases = tuple(case for case in chosen if case.contract == kernel.contract)
    if not cases:
        others = [replace(case, phase=phase) for case in chosen for phase in ALLOWED["phase"]]
        phase = next((case.phase for case in others if case.contract == kernel.contract), None)
        mend = f"choose -a phase={phase}" if phase else "choose others with -a or --model"
        raise UsageError(f"no case is left that {kernel.name} takes ({kernel.contract}): {mend}")
    return cases


def _gone(
    settings: SweepConfig, matchups: Sequence[Matchup], cases: Sequence[Case]
) -> tuple[list[Point], tuple[str, ...]]:
    """The points of kernels that are in the base's table of the suite and in none now, unless kernels were chosen.

    And a warning where that table cannot be read.
    """
    own = [m for m in matchups if m.base.folder and is_own(folder_of(package_of(m.base.kernel.target)))]
    if settings.kernel or not own:
        return [], ()
    before = read_kernels(root_of(Path(str(own[0].base.folder))))
    if not before:
        return [], (f"the base's {TABLE} cannot be read: a kernel that was deleted since does not show",)
    names = {kernel.name for kernel in all_kernels()}
    gone = [kernel for kernel in before if kernel.name not in names and settings.device in kernel.devices]
    points = [
        missing_point(case, kernel.name, settings.method)
        for kernel in gone
        for case in cases
        if case.contract == kernel.contract
    ]
    return points, ()


def _warnings(settings: SweepConfig, matchups: Sequence[Matchup], asked: Asked) -> tuple[str, ...]:
    same = [
        f"the kernels' sources are the same on both sides: every file of {package}"
        for package in same_sources(matchups)
    ]
    effect = warn_of_effect(asked.min_effect, LEAST_EFFECTS[settings.device][0], settings.device)
    return (*same, *effect, *device_warnings(settings.device))


def _measure(settings: SweepConfig, matchups: Sequence[Matchup], asked: Asked) -> Measured:
    others = len(matchups[0].candidates)
    pairs_to_come = len(matchups) * others
    plan = make_plan(settings.device, pairs_to_come, asked.min_effect, asked.max_s)
    if others * asked.max_s >= settings.timeout_s:
        each = f" for each of {others} kernels" if others > 1 else ""
        limit = f"the {settings.timeout_s:g} s after which a case is given up (timeout_s)"
        raise UsageError(f"--max-s {asked.max_s:g}{each} must be less than {limit}")
    warnings = _warnings(settings, matchups, asked)
    folder = find_project().runs_folder / PAIRS_FOLDER.name
    path = asked.out or folder / f"{datetime.now():%Y%m%d-%H%M%S}-{settings.device}"
    if not asked.quiet:
        typer.echo(f"mlabench: {format_points(pairs_to_come)} on the {settings.device} device, into {path}", err=True)
    try:
        with progress(pairs_to_come, quiet=asked.quiet) as shown:
            pairs = run_side_by_side(
                path,
                settings,
                matchups,
                plan,
                lambda matchup: shown.start(f"{matchup.case.label} · {_names(matchup)}"),
                lambda pair: shown.finish(_line(pair)),
            )
    except KeyboardInterrupt:
        typer.echo(f"mlabench: interrupted; what was measured is in {path}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    return Measured(pairs, plan, load_run(path).manifest.gpu_state, warnings)


def _names(matchup: Matchup) -> str:
    return ", ".join(candidate.kernel.name for candidate in matchup.candidates)


def _line(pair: Pair) -> str:
    what = f"{pair.case.label} · {pair.candidate.label}"
    if len(pair.blocks) < MIN_BLOCKS:
        return f"{what}: not compared"
    ratio = paired_ratio(pair.blocks, pair.plan)
    return f"{what}: {format_ratio_interval(ratio.value, *ratio.interval)} after {len(pair.blocks)} blocks"
