"""What `mlabench gate --dry-run` tells: which points or baselines there are, and whether they fit; nothing is timed."""

from collections.abc import Sequence
from pathlib import Path

from mlabench.cases.axes import merge_axes, parse_axis
from mlabench.cli.ab_changes import find_changes
from mlabench.cli.ab_steps import Asked, blind_spot, match_commit, resolve_asked
from mlabench.cli.device_state import device_warnings, worker_fingerprint
from mlabench.cli.show import print_table, warn
from mlabench.cli.sweep_steps import resolve
from mlabench.machine.detect import device_name
from mlabench.measure.side_by_side import checkouts
from mlabench.records.manifest import Manifest
from mlabench.records.store import Run
from mlabench.units import format_seconds
from mlabench.verdict.baselines import find_baselines
from mlabench.verdict.comparison import format_points
from mlabench.verdict.noise import MIN_BASELINES_FOR_SPREAD


def plan_ab(base_commit: str, asked: Asked) -> None:
    """Print the points of `gate --ab`, the files that differ and are run by none, and the longest that it may take.

    Raises `UsageError`.
    """
    settings = resolve_asked(asked)
    with checkouts() as side:
        matchups = match_commit(settings, base_commit, side)
        changes = find_changes(matchups, matchups)
    print_table(("kernel", "case"), [(each.base.kernel.name, each.case.label) for each in matchups])
    _warn((changes.warning, *device_warnings(settings.device)))
    where = f"{format_points(len(matchups))} on {device_name(settings.device)}"
    print(f"{where}: at most {format_seconds(len(matchups) * asked.max_s)} in turns, beside compiling and checking")
    if told := blind_spot(changes, settings):
        print(f"the gate would be inconclusive (3): {told}")


def plan_stored(asked: Asked, named: Sequence[Path]) -> None:
    """Print the baselines that a sweep with these settings would be held against.

    Raises `MissingBaselineError` where there are none of this machine, software and method, and `UsageError`.
    """
    settings = resolve(asked.config, merge_axes(map(parse_axis, asked.axes)), asked.given or {})
    manifest = Manifest("", settings.to_json(), {}, worker_fingerprint(settings), None)
    baselines = find_baselines(Run(Path("the run to come"), manifest, ()), named)
    for run in baselines:
        print(run.path)
    _warn(device_warnings(settings.device))
    count = "1 baseline" if len(baselines) == 1 else f"{len(baselines)} baselines"
    more = "" if len(baselines) >= MIN_BASELINES_FOR_SPREAD else "; three or more show how far unchanged runs lie apart"
    print(f"{count} of this machine ({manifest.fingerprint.device_name}) and its software{more}")


def _warn(lines: Sequence[str]) -> None:
    for line in filter(None, lines):
        warn(line)
