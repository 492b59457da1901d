"""An interleaved comparison: one case on two kernels, with its raw blocks; `pairs.jsonl` holds one a line."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.records.record import Status
from mlabench.records.store import Run, StoreError, load_run

PAIRS_NAME = "pairs.jsonl"

PAIRS_FOLDER = Path("results/runs/ab")
"""Where a comparison is put that is given no other place; a level below the sweeps' runs, which it is not one of."""


@dataclass(frozen=True, slots=True)
class Side:
    """One kernel of a comparison and what became of it; `status` is `ok` if its output passed the check.

    `commit` is the full hash of the commit whose sources it is, None for those at hand. `source` is the file that its
    bind came from, seen from the working directory where it lies there. A side that was not tried has the status None.
    """

    kernel: str
    backend: str
    commit: str | None = None
    status: Status | None = None
    reason: str = ""
    source: str | None = None
    relative_error: float | None = None
    lse_error: float | None = None
    workspace_bytes: int | None = None
    kernel_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The kernel, and the commit where it has one: `mla_decode_triton@1a2b3c4`."""
        return f"{self.kernel}@{self.commit[:7]}" if self.commit else self.kernel


@dataclass(frozen=True, slots=True)
class Block:
    """A chunk of calls of either side, one chunk right after the other, or with those of further candidates between.

    Times are in microseconds a call, in the order taken; clocks are the SM clock during each call, in MHz, None where
    the device tells none.
    """

    base_first: bool
    base_us: tuple[float, ...]
    candidate_us: tuple[float, ...]
    base_mhz: tuple[float, ...] | None = None
    candidate_mhz: tuple[float, ...] | None = None

    @property
    def log_ratio(self) -> float:
        """Logarithm of the candidate's median time over the base's."""
        return math.log(median(self.candidate_us) / median(self.base_us))

    @property
    def log_cycles_ratio(self) -> float | None:
        """The same of clock cycles; None without clocks."""
        if self.base_mhz is None or self.candidate_mhz is None:
            return None
        base, candidate = _cycles(self.base_us, self.base_mhz), _cycles(self.candidate_us, self.candidate_mhz)
        return math.log(candidate / base) if base > 0 and candidate > 0 else None

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Block":
        """The block whose fields these are."""
        numbers = {name: None if plain.get(name) is None else tuple(map(float, plain[name])) for name in _NUMBERS}
        return cls(plain["base_first"], **numbers)  # type: ignore[arg-type]


_NUMBERS = tuple(f.name for f in fields(Block))[1:]


@dataclass(frozen=True, slots=True)
class Plan:
    """When blocks are judged, and by what.

    `looks` are the counts of blocks at which they are judged, the last one where sampling ends; none begins after
    `max_s` seconds. `min_effect` is a fraction and `min_effect_us` a time: the larger is the least change that counts.
    A chance of at most `certain_p` is ground for a verdict whatever the other cases of the comparison give.
    """

    looks: tuple[int, ...]
    max_s: float
    min_effect: float
    min_effect_us: float
    certain_p: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A case on two sides. `blocks` is empty unless both passed the check before and after them.

    `stop` says what ended the sampling: `decided`, `time` or `blocks`. `phases_s` says where the wall time went. Where
    several candidates were measured with one base, each pair has that base's calls, and the times of them all.
    """

    case: Case
    base: Side
    candidate: Side
    method: str
    cache: str
    seed: int
    plan: Plan
    blocks: tuple[Block, ...] = ()
    stop: str = ""
    overhead_us: float | None = None
    telemetry: Mapping[str, Any] | None = None
    started_at: str = ""
    wall_s: float | None = None
    phases_s: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values for one line of `pairs.jsonl`."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {
            "case": self.case.to_fields(),
            "case_id": self.case.case_id,
            "models": list(self.case.models),
            "base": asdict(self.base),
            "candidate": asdict(self.candidate),
            "plan": asdict(self.plan),
            "blocks": [asdict(block) for block in self.blocks],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Pair":
        """The pair that `to_json` made these values from."""
        values = {name: plain[name] for name in cls.__slots__ if name in plain}
        values["case"] = Case.from_fields(plain["case"], models=tuple(plain.get("models", ())))
        values |= {name: Side(**plain[name]) for name in ("base", "candidate")}
        values["plan"] = plan_from_json(plain["plan"])
        values["blocks"] = tuple(Block.from_json(block) for block in plain["blocks"])
        return cls(**values)


def plan_from_json(plain: Mapping[str, Any]) -> Plan:
    """The plan whose fields these are."""
    return Plan(**{**plain, "looks": tuple(plain["looks"])})


def append_pair(run: Path, pair: Pair) -> None:
    """Write one synced line to the run's `pairs.jsonl`. Raises `StoreError`."""
    path = run / PAIRS_NAME
    line = json.dumps(pair.to_json(), allow_nan=False, separators=(",", ":")).encode() + b"\n"
    try:
        with path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            f"cannot append to {path}: {error.strerror or error}; make room, or choose another --out"
        ) from None


def load_pairs(path: Path) -> Sequence[Pair]:
    """The pairs of a run directory or of a file, without a last line that was cut short. Raises `UsageError`."""
    path = path / PAIRS_NAME if path.is_dir() else path
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; `mlabench ab` makes such a file") from None
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def load_sweep(path: Path) -> Run:
    """`store.load_run` of a sweep's run. Raises `UsageError` also for one of `mlabench ab`, which holds no records."""
    run = load_run(path)
    if "interleaved" in run.manifest.config:
        raise UsageError(
            f"{path} is a run of `mlabench ab` or `mlabench gate --ab`, which was judged as it was measured: "
            "name a run of `mlabench sweep`"
        )
    return run


def _parse(path: Path, number: int, line: bytes) -> Pair:
    try:
        return Pair.from_json(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}, line {number}: not a compared pair ({error})") from None


def _cycles(times_us: Sequence[float], clocks_mhz: Sequence[float]) -> float:
    return median(time_us * clock_mhz for time_us, clock_mhz in zip(times_us, clocks_mhz, strict=True))
