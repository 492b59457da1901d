"""What was found: a row for each kernel function that a configuration launches, and the file that holds them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mlabench.errors import UsageError

SCHEMA_VERSION = 1
"""Of an inspection's JSON; raised when a value changes its meaning or goes."""

Status = Literal["ok", "misfit", "unsupported", "unavailable", "error"]
"""`misfit` was compiled and is too large for an SM; `unsupported` the kernel itself declined."""

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One function in one configuration on one architecture; counts that were not found are None.

    Where a kernel ended before or within its launches, a row without a `function` says why. `config` is what the kernel
    says it chose. Registers are a thread's, bytes and tensor-memory columns a CTA's; `sass.MachineCode` has the counts.
    """

    kernel: str
    configuration: str
    arch: str
    function: str
    status: Status
    reason: str = ""
    config: Mapping[str, Any] | None = None
    num_warps: int | None = None
    registers: int | None = None
    stack_bytes: int | None = None
    spill_stores: int | None = None
    spill_loads: int | None = None
    loop_spills: int | None = None
    shared_bytes: int | None = None
    tensor_columns: int | None = None
    matrix_loops: int | None = None
    matrix_waits: int | None = None
    matrix_instructions: Mapping[str, int] | None = None
    async_copies: Mapping[str, int] | None = None
    ctas_an_sm: int | None = None
    warps_an_sm: int | None = None
    instructions: int | None = None

    @property
    def key(self) -> Key:
        """What makes a row the same row in another inspection."""
        return self.kernel, self.configuration, self.arch, self.function

    @property
    def compiled(self) -> bool:
        """Whether there is machine code."""
        return self.registers is not None

    def to_json(self) -> dict[str, Any]:
        """Plain values, without those that are not there."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


@dataclass(frozen=True, slots=True)
class Inspection:
    """Rows, and the compiler they hold for: Triton's version, and ptxas's by architecture."""

    triton_version: str
    ptxas_versions: Mapping[str, str]
    rows: tuple[Row, ...]

    def to_text(self) -> str:
        """JSON with a line for each row, so that a change of one is a change of one line."""
        head = {name: value for name, value in asdict(self).items() if name != "rows"}
        members = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
        rows = ",\n".join(json.dumps(row.to_json(), allow_nan=False) for row in self.rows)
        return f'{{"schema_version": {SCHEMA_VERSION},\n' + ",\n".join(members) + f',\n"rows": [\n{rows}\n]}}\n'


def load_inspection(path: Path) -> Inspection:
    """Read what `Inspection.to_text` wrote. Raises `UsageError` for a file that is not there or is none."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["schema_version"] != SCHEMA_VERSION:
            raise UsageError(
                f"{path} has schema version {plain['schema_version']}, this mlabench writes {SCHEMA_VERSION}: "
                f"make it again with `mlabench inspect --json > {path}`"
            )
        rows = tuple(_row(each) for each in plain["rows"])
        return Inspection(str(plain["triton_version"]), dict(plain["ptxas_versions"]), rows)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} was not written by `mlabench inspect --json`: {_why(error)}") from None


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON ({error})"
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _row(plain: Mapping[str, Any]) -> Row:
    return Row(**{"function": "", **{f.name: plain[f.name] for f in fields(Row) if f.name in plain}})
