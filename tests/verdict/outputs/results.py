"""Judged points, made up for the outputs."""

from collections.abc import Sequence
from typing import Any

from mlabench.verdict.comparison import settings_of
from mlabench.verdict.gate import GateResult
from mlabench.verdict.noise import NOISE, Ratio
from mlabench.verdict.point import Point, Verdict

MEASURED = (Verdict.SLOWER, Verdict.INCONCLUSIVE, Verdict.FASTER, Verdict.NOT_SLOWER, Verdict.SAME)


def point(verdict: Verdict, ratio: float = 1.0, name: str = "case", **fields: Any) -> Point:
    """A point of 100 us in the baseline, with its ratio where the verdict comes from times."""
    times = Ratio(100 * ratio, 100.0, 0.01, 0.05, 1) if verdict in MEASURED else None
    values = {"ratio": times, "cycles": times, "reason": "", **fields}
    return Point((f"id-{name}", "mla_decode_triton", "graph"), f"MLA {name} kv_len 4096", verdict, **values)


def judged(points: Sequence[Point], *, warnings: Sequence[str] = (), allow_missing: bool = False) -> GateResult:
    """The points as one gate's."""
    settings = settings_of(NOISE["cuda"], allow_missing)
    return GateResult("runs/now", ("baselines/a", "baselines/b"), settings, tuple(points), tuple(warnings))
