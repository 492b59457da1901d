"""The outcome of a whole run against its baselines, and the exit code that says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mlabench.errors import ExitCode, UsageError
from mlabench.records.pairs import load_sweep
from mlabench.units import format_latency, format_percent
from mlabench.verdict.baselines import find_baselines
from mlabench.verdict.compare import compare_runs
from mlabench.verdict.comparison import (
    WORDS,
    Comparison,
    format_points,
    noise_of,
    settings_of,
    warn_of_effect,
    warn_of_sources,
)
from mlabench.verdict.noise import MIN_BASELINES_FOR_SPREAD
from mlabench.verdict.point import COMPARED, Point, Verdict

OUTCOMES: Mapping[ExitCode, str] = {
    ExitCode.PASS: "PASS",
    ExitCode.REGRESSION: "FAIL",
    ExitCode.INCONCLUSIVE: "INCONCLUSIVE",
    ExitCode.INCORRECT: "FAIL",
    ExitCode.NOTHING_MEASURED: "FAIL",
}
"""Each exit code of a judged run in a word."""

UNCLEAR = (Verdict.BROKEN, Verdict.INCONCLUSIVE, Verdict.INVALID)
"""The verdicts that leave a gate without an answer."""

_REGRESSIONS = (Verdict.SLOWER, Verdict.LOST, Verdict.MISSING, Verdict.CHANGED)
_REMARKABLE = (Verdict.FASTER, Verdict.NEW, Verdict.MISSING)


@dataclass(frozen=True, slots=True)
class GateResult(Comparison):
    """A judged comparison: it passes or fails by its points' verdicts.

    A `blind_spot` is what the points cannot show; with one the gate is inconclusive at best.
    """

    title: ClassVar[str] = "gate"
    hints: ClassVar[Mapping[ExitCode, str]] = {
        ExitCode.REGRESSION: (
            "if the change is meant, store the current run as the new baseline; "
            "--ab COMMIT tells a machine that slowed from code that did"
        ),
        ExitCode.NOTHING_MEASURED: "sweep the baseline's cases with its kernels and method",
    }
    """What to do about an outcome, by exit code."""

    blind_spot: str = ""

    @property
    def hint(self) -> str:
        """What to do about the outcome; may be empty."""
        if self.exit_code is ExitCode.INCONCLUSIVE:
            return self.hint_when_unclear
        return self.hints.get(self.exit_code, "")

    @property
    def hint_when_unclear(self) -> str:
        """What may make an answer of none."""
        if Verdict.INCONCLUSIVE not in self.counts:
            return "the points say what cannot be compared: mend those kernels, or sweep on the baseline's terms"
        if any(point.crowded and point.verdict is Verdict.INCONCLUSIVE for point in self.points):
            return "sweep what the notes name again on an idle machine, or with --ab COMMIT measure both in turns"
        if len(self.baselines) < MIN_BASELINES_FOR_SPREAD:
            return "sweep again with a longer --sampling-s, or give three or more runs as --baseline"
        return "sweep again on an idle machine, or with --ab COMMIT measure both in turns"

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
        unclear = self.blind_spot or any(verdict in counts for verdict in UNCLEAR)
        return ExitCode.INCONCLUSIVE if unclear else ExitCode.PASS

    @property
    def regressions(self) -> tuple[Verdict, ...]:
        """The verdicts that fail this gate, beside an incorrect kernel."""
        return tuple(v for v in _REGRESSIONS if not (self.settings.allow_missing and v == Verdict.MISSING))

    @property
    def summary(self) -> str:
        """One line: the outcome, its exit code and why."""
        code = self.exit_code
        return f"{self.title}: {OUTCOMES[code]} ({code.value}): {self._because(code)}"

    def fails(self, point: Point) -> bool:
        """Whether the point alone makes this gate fail."""
        return point.verdict in (Verdict.INCORRECT, *self.regressions)

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
                tally = self._tally(UNCLEAR) if any(verdict in self.counts for verdict in UNCLEAR) else ""
                return "; ".join(filter(None, (tally, self.blind_spot)))
        compared = sum(count for verdict, count in self.counts.items() if verdict in COMPARED)
        least = f"{format_percent(self.settings.min_effect, 1)} and {format_latency(self.settings.min_effect_us)}"
        return f"{format_points(compared)} compared, none slower by more than {least}{self._others(_REMARKABLE)}"

    def _tally(self, verdicts: Sequence[Verdict]) -> str:
        first, *others = (verdict for verdict in verdicts if verdict in self.counts)
        return f"{self.counts[first]} of {len(self.points)} points {WORDS[first]}{self._others(others)}"

    def _others(self, verdicts: Sequence[Verdict]) -> str:
        return "".join(f", {self.counts[verdict]} {WORDS[verdict]}" for verdict in verdicts if verdict in self.counts)


def run_gate(
    current: Path, baselines: Sequence[Path], min_effect: float | None = None, allow_missing: bool = False
) -> GateResult:
    """Judge the run directory `current` against one baseline or more.

    Without a baseline it is held against the committed ones that repeat it. `min_effect` is a fraction and by default
    the device's own. Raises `UsageError` for a `current` that is no run or its own baseline, and `MissingBaselineError`
    for a baseline that is none, or was measured on another machine, software or method.
    """
    if min_effect is not None and not 0 < min_effect < 1:
        raise UsageError(f"--min-effect {min_effect} must lie between 0 and 1: write 0.05 for 5%")
    run = load_sweep(current)
    before = find_baselines(run, baselines)
    noise = noise_of(run) if min_effect is None else replace(noise_of(run), min_effect=min_effect)
    warnings = [warning for each in (run, *before) for warning in each.warnings]
    warnings += [line for each in before for line in warn_of_sources(each, run)]
    warnings += warn_of_effect(min_effect, noise_of(run).min_effect, run.manifest.fingerprint.device)
    paths = [each.path for each in before]
    points = compare_runs(run, before, noise)
    return GateResult(str(current), tuple(map(str, paths)), settings_of(noise, allow_missing), points, tuple(warnings))
