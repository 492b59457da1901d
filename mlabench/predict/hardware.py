"""The GPUs that a prediction can be made for: the package's data sheets, and a user's."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlabench.errors import UsageError, near_names
from mlabench.machine.ceilings import Ceilings
from mlabench.machine.datasheet import load_gpus
from mlabench.predict.files import read_tables

DEFAULT_GPU = "h200-sxm"
ALL = "all"

_RATE = re.compile(r"^(bfloat16|float16|float32)_flops_per_s$")
_KNOWN = ("name_pattern", "memory_bytes_per_s", "memory_bytes", "source", "note")
_RATES = ("bfloat16_flops_per_s", "float16_flops_per_s", "float32_flops_per_s")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU under its published peaks: dense matrix products, and memory traffic whatever its mix; and its memory."""

    name: str
    ceilings: Ceilings
    name_pattern: str | None = None
    memory_bytes: float | None = None


def choose_gpus(names: Sequence[str], file: Path | None = None) -> tuple[Gpu, ...]:
    """The named GPUs, each once; `all` is every one, and a name up to one of its dashes will do, as in `h200`.

    `file` adds a user's, in the format of the package's `gpus.toml`. Without names they are the file's, and without a
    file the default. Raises `UsageError`.
    """
    own = read_tables(file, "--gpus") if file else {}
    sheets, names = {**load_gpus(), **own}, names or list(own) or [DEFAULT_GPU]
    found = sheets if ALL in names else dict.fromkeys(_find(name, sheets) for name in names)
    return tuple(_gpu(name, sheets[name], file) for name in found)


def gpu_of_device(device_name: str, file: Path | None = None) -> Gpu:
    """The GPU whose `name_pattern` a device's own name matches. Raises `UsageError` where none does."""
    for gpu in choose_gpus([ALL], file):
        if gpu.name_pattern and re.search(gpu.name_pattern, device_name):
            return gpu
    raise UsageError(f"no GPU preset matches the device {device_name!r}: add one with --gpus FILE and a name_pattern")


def _find(name: str, sheets: Mapping[str, Any]) -> str:
    if name in sheets:
        return name
    # Not any start of a name: an H20 is another GPU than the H200.
    wanted = name.lower()
    matches = [known for known in sheets if f"{known.lower()}-".startswith(f"{wanted}-")]
    if len(matches) == 1:
        return matches[0]
    close = matches or [known for known in sheets if wanted and known.lower().startswith(wanted)]
    hint = f"it could be {' or '.join(close)}" if close else near_names(wanted, (*sheets, ALL))
    raise UsageError(f"unknown GPU {name!r}: {hint}; --gpus FILE adds one of your own (docs/cli.md)")


def _gpu(name: str, sheet: Mapping[str, Any], file: Path | None) -> Gpu:
    rates = {match[1]: value for key, value in sheet.items() if (match := _RATE.match(key))}
    for key in sheet:
        if key not in _KNOWN and not _RATE.match(key) and not key.endswith("_flops_per_s"):
            raise UsageError(
                f"--gpus {file}: GPU {name} has an unknown key {key!r}: {near_names(key, (*_KNOWN, *_RATES))}"
            )
    bandwidth = sheet.get("memory_bytes_per_s", 0)
    if not rates or not all(map(_is_quantity, (bandwidth, *rates.values()))):
        raise UsageError(
            f"--gpus {file}: GPU {name} needs memory_bytes_per_s and bfloat16_flops_per_s, "
            "numbers above zero, as in 4.8e12"
        )
    try:
        re.compile(sheet.get("name_pattern", ""))
    except (re.error, TypeError) as error:
        raise UsageError(f"--gpus {file}: the name_pattern of GPU {name} is no pattern: {error}") from None
    return Gpu(
        name, Ceilings(bandwidth, bandwidth, bandwidth, rates), sheet.get("name_pattern"), _memory(name, sheet, file)
    )


def _memory(name: str, sheet: Mapping[str, Any], file: Path | None) -> float | None:
    memory = sheet.get("memory_bytes")
    if memory is not None and not _is_quantity(memory):
        raise UsageError(f"--gpus {file}: the memory_bytes of GPU {name} is no number above zero, as in 141e9")
    return memory


def _is_quantity(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
