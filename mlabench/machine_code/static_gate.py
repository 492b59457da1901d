"""The static gate: an inspection against the stored one of the same Triton version."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlabench.errors import ExitCode, MissingBaselineError, UsageError
from mlabench.machine_code.compare import REGRESSIONS, Difference, Verdict, compare_rows
from mlabench.machine_code.rows import Inspection, Row, load_inspection
from mlabench.records.store import BASELINES_FOLDER

SCHEMA_VERSION = 1
"""Of the values that `StaticResult.to_json` gives; raised when one changes its meaning or goes."""

FOLDER = BASELINES_FOLDER / "machine-code"
"""Where the inspections to compare with are kept, a file for each Triton version."""


@dataclass(frozen=True)
class StaticResult:
    """An inspection held against `path`, whose rows of what was inspected are `baseline`."""

    path: Path
    baseline: tuple[Row, ...]
    current: Inspection

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """What changed, the worst first."""
        return compare_rows(self.baseline, self.current.rows)

    @property
    def counts(self) -> Counter[Verdict]:
        """Differences by verdict."""
        return Counter(difference.verdict for difference in self.differences)

    @property
    def exit_code(self) -> ExitCode:
        """Any difference but the number of instructions fails: what is exact is the same or it is not."""
        if not any(row.compiled for row in self.current.rows):
            return ExitCode.NOTHING_MEASURED
        return ExitCode.REGRESSION if self.counts.keys() - {Verdict.NOTED} else ExitCode.PASS

    @property
    def summary(self) -> str:
        """One line: the outcome, its exit code and why."""
        code = self.exit_code
        outcome = "PASS" if code == ExitCode.PASS else "FAIL"
        return f"static gate: {outcome} ({code.value}): {self._because(code)}"

    def _because(self, code: ExitCode) -> str:
        total = len({row.key[:3] for row in self.current.rows})
        if code == ExitCode.NOTHING_MEASURED:
            return f"nothing was compiled in {total} configurations"
        noted = self.counts[Verdict.NOTED]
        if code == ExitCode.PASS:
            but = f" but for the number of instructions in {noted}" if noted else ""
            return f"{total} configurations, the same as {self.path}{but}"
        failing = [difference for difference in self.differences if difference.verdict != Verdict.NOTED]
        tally = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items())
        where = len({difference.key[:3] for difference in failing})
        kind = "" if REGRESSIONS & self.counts.keys() else "no regression, but "
        return f"{kind}{where} of {total} configurations differ from {self.path} ({tally})"

    def to_json(self) -> dict[str, Any]:
        """Plain values: the outcome, what it was held against, and every difference."""
        return {
            "schema_version": SCHEMA_VERSION,
            "exit_code": self.exit_code.value,
            "outcome": self.exit_code.name.lower(),
            "summary": self.summary,
            "baseline": str(self.path),
            "triton_version": self.current.triton_version,
            "ptxas_versions": dict(self.current.ptxas_versions),
            "counts": {verdict.value: self.counts[verdict] for verdict in Verdict},
            "differences": [difference.to_json() for difference in self.differences],
        }


def baseline_path(triton_version: str) -> Path:
    """Where the inspection of this Triton version is kept."""
    return FOLDER / f"triton-{triton_version}.json"


def load_baseline(path: Path | None, triton_version: str, ptxas_versions: Mapping[str, str]) -> tuple[Path, Inspection]:
    """The stored inspection, by default the one of this Triton version.

    Raises `MissingBaselineError` where there is none, or another Triton or ptxas made it.
    """
    path = path or baseline_path(triton_version)
    if not path.is_file():
        raise MissingBaselineError(f"there is no baseline {path} ({_versions()}): {_recipe(triton_version)}")
    try:
        stored = load_inspection(path)
    except UsageError as error:
        raise MissingBaselineError(f"no baseline: {error}") from None
    if stored.triton_version != triton_version:
        raise MissingBaselineError(
            f"{path} was made with Triton {stored.triton_version}, this is {triton_version}: {_recipe(triton_version)}"
        )
    for arch, version in ptxas_versions.items():
        if (theirs := stored.ptxas_versions.get(arch, version)) != version:
            raise MissingBaselineError(
                f"{path} was made with ptxas {theirs} for {arch}, this is {version}: use the ptxas of Triton's own "
                f"package, or {_recipe(triton_version)}"
            )
    return path, stored


def select_rows(stored: Inspection, kernels: Collection[str], archs: Collection[str]) -> tuple[Row, ...]:
    """The baseline's rows of these architectures and, if any are named, these kernels."""
    return tuple(row for row in stored.rows if row.arch in archs and (not kernels or row.kernel in kernels))


def _versions() -> str:
    versions = sorted(path.stem.removeprefix("triton-") for path in FOLDER.glob("triton-*.json"))
    return f"{FOLDER} has Triton {' and '.join(versions)}" if versions else f"{FOLDER} has none"


def _recipe(triton_version: str) -> str:
    return f"make one with `mlabench inspect --json > {baseline_path(triton_version)}`"
