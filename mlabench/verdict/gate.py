"""The outcome of a whole run against its baselines, and the exit code that says it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlabench.errors import ExitCode, MissingBaselineError, UsageError
from mlabench.records.store import BASELINES_FOLDER, Run, is_run, load_run
from mlabench.units import format_latency, format_percent
from mlabench.verdict.compare import COMPARED, FALSE_DISCOVERY_RATE, MIN_SAMPLES, Point, Verdict, compare_runs
from mlabench.verdict.noise import CONFIDENCE, NOISE, Noise

SCHEMA_VERSION = 1
"""Of the values that `GateResult.to_json` gives; raised when one changes its meaning or goes."""


WORDS: Mapping[Verdict, str] = {
    Verdict.INCORRECT: "incorrect",
    Verdict.LOST: "no longer measured",
    Verdict.MISSING: "missing",
    Verdict.CHANGED: "with changed exact counts",
    Verdict.SLOWER: "slower",
    Verdict.BROKEN: "broken without a baseline",
    Verdict.INVALID: "not comparable",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.NEW: "new",
    Verdict.FASTER: "faster",
    Verdict.NOT_SLOWER: "not slower",
    Verdict.SAME: "the same",
    Verdict.UNMEASURED: "without a time in either run",
}
"""Each verdict as it reads after a number of points."""

OUTCOMES: Mapping[ExitCode, str] = {
    ExitCode.PASS: "PASS",
    ExitCode.REGRESSION: "FAIL",
    ExitCode.INCONCLUSIVE: "INCONCLUSIVE",
    ExitCode.INCORRECT: "FAIL",
    ExitCode.NOTHING_MEASURED: "FAIL",
}
"""Each exit code of a judged run in a word."""

_REGRESSIONS = (Verdict.SLOWER, Verdict.LOST, Verdict.MISSING, Verdict.CHANGED)
_REMARKABLE = (Verdict.FASTER, Verdict.NEW, Verdict.MISSING)
_UNCLEAR = (Verdict.BROKEN, Verdict.INCONCLUSIVE, Verdict.INVALID)


@dataclass(frozen=True, slots=True)
class GateResult:
    """A judged run. `noise` carries the least change that counted; `warnings` are lines about whole runs."""

    current: Path
    baselines: tuple[Path, ...]
    noise: Noise
    allow_missing: bool
    points: tuple[Point, ...]
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> Counter[Verdict]:
        """Points by verdict."""
        return Counter(point.verdict for point in self.points)

    @property
    def exit_code(self) -> ExitCode:
        """The first code that applies, in the order that `ExitCode` documents."""
        counts = self.counts
        if Verdict.INCORRECT in counts:
            return ExitCode.INCORRECT
        if COMPARED.isdisjoint(counts):
            return ExitCode.NOTHING_MEASURED
        if any(verdict in counts for verdict in self.regressions):
            return ExitCode.REGRESSION
        return ExitCode.INCONCLUSIVE if any(verdict in counts for verdict in _UNCLEAR) else ExitCode.PASS

    @property
    def regressions(self) -> tuple[Verdict, ...]:
        """The verdicts that fail this gate."""
        return tuple(v for v in _REGRESSIONS if not (self.allow_missing and v == Verdict.MISSING))

    @property
    def summary(self) -> str:
        """One line: the outcome, its exit code and why."""
        code = self.exit_code
        return f"gate: {OUTCOMES[code]} ({code.value}): {self._because(code)}"

    def _because(self, code: ExitCode) -> str:
        match code:
            case ExitCode.INCORRECT:
                return self._tally((Verdict.INCORRECT, *self.regressions))
            case ExitCode.NOTHING_MEASURED if Verdict.NEW in self.counts:
                return "nothing was compared: no measured point is in both runs"
            case ExitCode.NOTHING_MEASURED:
                return "nothing was measured in the current run"
            case ExitCode.REGRESSION:
                return self._tally(self.regressions)
            case ExitCode.INCONCLUSIVE:
                return self._tally(_UNCLEAR)
        compared = sum(count for verdict, count in self.counts.items() if verdict in COMPARED)
        least = f"{format_percent(self.noise.min_effect, 1)} and {format_latency(self.noise.min_effect_us)}"
        return f"{compared} points compared, none slower by more than {least}{self._others(_REMARKABLE)}"

    def _tally(self, verdicts: Sequence[Verdict]) -> str:
        first, *others = (verdict for verdict in verdicts if verdict in self.counts)
        return f"{self.counts[first]} of {len(self.points)} points {WORDS[first]}{self._others(others)}"

    def _others(self, verdicts: Sequence[Verdict]) -> str:
        return "".join(f", {self.counts[verdict]} {WORDS[verdict]}" for verdict in verdicts if verdict in self.counts)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the outcome, what it was judged by, and every point. Times are in microseconds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "exit_code": self.exit_code.value,
            "outcome": self.exit_code.name.lower(),
            "summary": self.summary,
            "current": str(self.current),
            "baselines": [str(path) for path in self.baselines],
            "settings": {
                **asdict(self.noise),
                "allow_missing": self.allow_missing,
                "min_samples": MIN_SAMPLES,
                "false_discovery_rate": FALSE_DISCOVERY_RATE,
                "confidence": CONFIDENCE,
            },
            "counts": {verdict.value: self.counts[verdict] for verdict in Verdict},
            "warnings": list(self.warnings),
            "points": [_point_to_json(point) for point in self.points],
        }


def run_gate(
    current: Path, baselines: Sequence[Path], min_effect: float | None = None, allow_missing: bool = False
) -> GateResult:
    """Judge the run directory `current` against one baseline or more.

    Without a baseline it is the committed one of the run's device. `min_effect` is a fraction and by default the
    device's own. Raises `UsageError` for a `current` that is no run, and
    `MissingBaselineError` for a baseline that is none, or was measured on another machine, software or method.
    """
    if min_effect is not None and not 0 < min_effect < 1:
        raise UsageError(f"--min-effect {min_effect} must lie between 0 and 1: write 0.05 for 5%")
    if len({path.resolve() for path in baselines}) < len(baselines):
        raise UsageError("--baseline takes each run once")
    run = load_run(current)
    baselines = baselines or (_committed_baseline(run),)
    before = tuple(_load_baseline(path, run) for path in baselines)
    device = run.manifest.fingerprint.device
    noise = NOISE.get(device, NOISE["cpu"])
    if min_effect is not None:
        noise = replace(noise, min_effect=min_effect)
    warnings = [warning for each in (run, *before) for warning in each.warnings]
    if current.resolve() in {path.resolve() for path in baselines}:
        warnings.append(f"{run.name} is compared with itself")
    points = compare_runs(run, before, noise)
    return GateResult(current, tuple(baselines), noise, allow_missing, points, tuple(warnings))


def _committed_baseline(current: Run) -> Path:
    folder = BASELINES_FOLDER / current.manifest.fingerprint.slug
    runs = sorted(path for path in folder.glob("*") if is_run(path))
    if not runs:
        raise MissingBaselineError(
            f"there is no baseline under {folder}: name one with --baseline, or keep a run there"
        )
    if len(runs) > 1:
        raise UsageError(f"{folder} holds {', '.join(path.name for path in runs)}: choose one with --baseline")
    return runs[0]


def _load_baseline(path: Path, current: Run) -> Run:
    try:
        run = load_run(path)
    except (UsageError, OSError) as error:
        raise MissingBaselineError(f"no baseline: {error}") from None
    differences = current.manifest.fingerprint.differences(run.manifest.fingerprint)
    mine, theirs = ({record.method for record in each.records} for each in (current, run))
    if mine and theirs and mine.isdisjoint(theirs):
        differences.append(f"method {'/'.join(sorted(mine))!r} against {'/'.join(sorted(theirs))!r}")
    if differences:
        raise MissingBaselineError(
            f"baseline {path} was measured on other terms (current against baseline): {'; '.join(differences)}; "
            "give a --baseline of this machine, software and method"
        )
    return run


def _point_to_json(point: Point) -> dict[str, Any]:
    case_id, kernel, method = point.key
    ratio = point.ratio
    low, high = ratio.interval if ratio else (None, None)
    return {
        "case_id": case_id,
        "kernel": kernel,
        "method": method,
        "label": point.label,
        "verdict": point.verdict.value,
        "reason": point.reason,
        "current_us": ratio.current_us if ratio else None,
        "baseline_us": ratio.baseline_us if ratio else None,
        "baseline_runs": ratio.baseline_runs if ratio else None,
        "ratio": ratio.value if ratio else None,
        "ratio_low": low,
        "ratio_high": high,
        "min_effect": ratio.min_effect if ratio else None,
        "p_slower": ratio.p_slower if ratio else None,
        "p_faster": ratio.p_faster if ratio else None,
        "changes": [asdict(change) for change in point.changes],
        "warnings": list(point.warnings),
    }
