"""The points of runs held against others, summed up but not judged."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from mlabench.errors import ExitCode
from mlabench.records.pairs import load_sweep
from mlabench.records.store import Run
from mlabench.verdict.baselines import share_measurements
from mlabench.verdict.compare import MIN_SAMPLES, compare_runs
from mlabench.verdict.noise import CONFIDENCE, NOISE, AnyRatio, Noise
from mlabench.verdict.point import COMPARED, Point, Verdict
from mlabench.verdict.settle import FALSE_DISCOVERY_RATE

SCHEMA_VERSION = 1
"""Of the values that `to_json` gives; raised when one changes its meaning or goes."""

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
    Verdict.UNMEASURED: "without a time",
}
"""Each verdict as it reads after a number of points."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What points were judged by.

    The least change that counts is the larger of `min_effect`, a fraction, and `min_effect_us`, a time. `others` are
    further plain values that only the JSON shows.
    """

    min_effect: float
    min_effect_us: float
    allow_missing: bool = False
    others: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, the others among the first."""
        own = {name: getattr(self, name) for name in ("min_effect", "min_effect_us", "allow_missing")}
        return own | dict(self.others)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Points with their verdicts. The sides are named as people know them: a run's path, a commit.

    `warnings` are lines about whole runs.
    """

    title: ClassVar[str] = "compare"

    current: str
    baselines: tuple[str, ...]
    settings: Settings
    points: tuple[Point, ...]
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> Counter[Verdict]:
        """Points by verdict."""
        return Counter(point.verdict for point in self.points)

    @property
    def totals(self) -> tuple[str, ...]:
        """Lines that sum the points up beside the summary; where there are any, every point is listed, in order."""
        return ()

    @property
    def exit_code(self) -> ExitCode:
        """Whether anything was compared."""
        return ExitCode.PASS if self.has_compared else ExitCode.NOTHING_MEASURED

    @property
    def has_compared(self) -> bool:
        """Whether any point has times on both sides that can be compared."""
        return not (COMPARED - {Verdict.INVALID}).isdisjoint(self.counts)

    @property
    def summary(self) -> str:
        """One line: how many points came out how."""
        tally = ", ".join(f"{self.counts[verdict]} {WORDS[verdict]}" for verdict in Verdict if verdict in self.counts)
        if self.has_compared:
            return f"{self.title}: {format_points(len(self.points))}: {tally}"
        return f"{self.title}: nothing was compared" + (f": {tally}" if tally else ", the runs hold no measured point")

    def to_json(self) -> dict[str, Any]:
        """Plain values: the outcome, what it was judged by, and every point. Times are in microseconds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.title,
            "exit_code": self.exit_code.value,
            "outcome": self.exit_code.name.lower(),
            "summary": self.summary,
            "current": self.current,
            "baselines": list(self.baselines),
            "settings": self.settings.to_json(),
            "counts": {verdict.value: self.counts[verdict] for verdict in Verdict},
            "warnings": list(self.warnings),
            "points": [_point_to_json(point) for point in self.points],
        }


def format_points(count: int) -> str:
    """A number of points in words."""
    return f"{count} point" if count == 1 else f"{count} points"


def settings_of(noise: Noise, allow_missing: bool = False) -> Settings:
    """The settings under which stored runs are compared."""
    others = {
        "between_run_sd": noise.between_run_sd,
        "min_samples": MIN_SAMPLES,
        "false_discovery_rate": FALSE_DISCOVERY_RATE,
        "confidence": CONFIDENCE,
    }
    return Settings(noise.min_effect, noise.min_effect_us, allow_missing, others)


def warn_of_effect(min_effect: float | None, least: float, device: str) -> tuple[str, ...]:
    """A line where the given least effect lies under the device's own; both are fractions."""
    if min_effect is None or min_effect >= least:
        return ()
    return (f"--min-effect {min_effect:g} is under {least:g}, the least on {device} that unchanged code stays below",)


def warn_of_sources(before: Run, now: Run) -> tuple[str, ...]:
    """A line where kernels of other packages are of other code now than in the run before, as far as both tell."""
    changed = before.manifest.changed_kernels(now.manifest.kernel_sources or {})
    return (f"kernels of other packages changed since {before.name}: {'; '.join(changed)}",) if changed else ()


def noise_of(run: Run) -> Noise:
    """What the run's kind of device does to a time, and the least change that counts there."""
    return NOISE.get(run.manifest.fingerprint.device, NOISE["cpu"])


def compare_two(base: Path, current: Path) -> Comparison:
    """Hold the run directory `current` against `base`, whatever they were measured on. Raises `UsageError`.

    Where machine or software differ, or one run is held against itself, a warning says so.
    """
    before, now = load_sweep(base), load_sweep(current)
    noise = noise_of(now)
    differences = before.manifest.fingerprint.differences(now.manifest.fingerprint)
    warnings = [*before.warnings, *now.warnings]
    if differences:
        warnings.append(f"measured on other terms (base against current): {'; '.join(differences)}")
    warnings += warn_of_sources(before, now)
    if share_measurements(before, now):
        warnings.append(f"{now.name} is compared with itself")
    points = join_methods(compare_runs(now, [before], noise))
    return Comparison(str(current), (str(base),), settings_of(noise), points, tuple(warnings))


def join_methods(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The points, those that the two sides timed by different methods as one that cannot be compared."""
    gone = {point.key[:2]: point for point in points if point.verdict is Verdict.MISSING}
    new = {point.key[:2]: point for point in points if point.verdict is Verdict.NEW}
    both = gone.keys() & new.keys()

    def joined(point: Point) -> Point:
        methods = f"{gone[point.key[:2]].key[2]} against {point.key[2]}"
        return replace(point, verdict=Verdict.INVALID, reason=f"methods differ: {methods}")

    kept = (point for point in points if not (point.verdict is Verdict.MISSING and point.key[:2] in both))
    return tuple(joined(point) if point.verdict is Verdict.NEW and point.key[:2] in both else point for point in kept)


def _point_to_json(point: Point) -> dict[str, Any]:
    case_id, kernel, method = point.key
    ratio = point.ratio
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
        **_interval_to_json("ratio", ratio),
        "min_effect": ratio.min_effect if ratio else None,
        "p_slower": ratio.p_slower if ratio else None,
        "p_faster": ratio.p_faster if ratio else None,
        **_interval_to_json("cycles_ratio", point.cycles),
        "changes": [asdict(change) for change in point.changes],
        "warnings": list(point.warnings),
    }


def _interval_to_json(name: str, ratio: AnyRatio | None) -> dict[str, float | None]:
    low, high = ratio.interval if ratio else (None, None)
    return {name: ratio.value if ratio else None, f"{name}_low": low, f"{name}_high": high}
