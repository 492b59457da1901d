"""What a sweep was asked for: from options, a TOML file, or the default for the device."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mlabench.cases.axes import Value, axis_values, merge_axes
from mlabench.cases.models import preset_shape
from mlabench.errors import UsageError, near_names
from mlabench.measure.kernels import check_selection

DEFAULT_AXES: Mapping[str, Mapping[str, tuple[Value, ...]]] = {
    "cpu": {
        "variant": ("mha", "gqa", "mqa", "mla"),
        "form": ("absorbed", "recompute", "expanded"),
        "kv_len": (256, 512, 1024, 2048),
    },
    "cuda": {
        "variant": ("mha", "gqa", "mqa", "mla"),
        "form": ("absorbed", "recompute"),
        "batch": (1, 32),
        "kv_len": (1024, 4096, 16384),
    },
}
"""What a sweep without axes or models measures on each device kind."""

AXES_TABLE = "axes"


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """A sweep's resolved configuration. Times are in seconds; `precision` is relative.

    `sampling_s` bounds the sampling of one point, `timeout_s` everything of one point.
    """

    axes: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    model: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()
    device: str = "auto"
    method: str = "auto"
    cache: str = "auto"
    where: str = ""
    seed: int = 0
    sampling_s: float = 1.0
    precision: float = 0.005
    timeout_s: float = 600.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "SweepConfig":
        """The configuration that `to_json` made these values from."""
        values = {f.name: plain[f.name] for f in fields(cls) if f.name in plain}
        values["axes"] = {name: tuple(items) for name, items in plain["axes"].items()}
        return cls(**values | {name: tuple(plain[name]) for name in ("model", "kernel")})

    def resolved(self, device: str, method: str, cache: str) -> "SweepConfig":
        """The same with what `auto` was found to be, and the device's default axes if none were asked for."""
        axes = self.axes if self.axes or self.model else DEFAULT_AXES[device]
        return replace(self, device=device, method=method, cache=cache, axes=axes)

    def differences(self, other: "SweepConfig") -> list[str]:
        """The names of the settings that differ."""
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]


def load_config(path: Path) -> SweepConfig:
    """Read a TOML file: the settings by name, and the axes in a table `[axes]`.

    Raises `UsageError` that names the file, the line and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        plain = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    axes = plain.pop(AXES_TABLE, {})
    values = {key: _setting(path, text, key, value) for key, value in plain.items()}
    if not isinstance(axes, dict):
        raise UsageError(
            f"{_place(path, text, AXES_TABLE)}: axes is a table: write [axes] and one line an axis below it"
        )
    return SweepConfig(axes=merge_axes(_axis(path, text, key, value) for key, value in axes.items()), **values)


def _setting(path: Path, text: str, key: str, value: Any) -> Any:
    defaults = asdict(SweepConfig())
    del defaults[AXES_TABLE]
    if key not in defaults:
        raise UsageError(f"{_place(path, text, key)}: unknown key {key!r}: {near_names(key, (*defaults, AXES_TABLE))}")
    default = defaults[key]
    if isinstance(default, tuple) and isinstance(value, str | list):
        words = [value] if isinstance(value, str) else value
        if all(isinstance(word, str) for word in words):
            return _names(path, text, key, tuple(words))
    elif isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif type(value) is type(default):
        return value
    wanted = "a name or a list of names" if isinstance(default, tuple) else f"a value like {default!r}"
    raise UsageError(f"{_place(path, text, key)}: {key} takes {wanted}, not {value!r}")


def _names(path: Path, text: str, key: str, names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        if key == "kernel":
            check_selection(names)
        else:
            for name in names:
                preset_shape(name)
    except UsageError as error:
        raise UsageError(f"{_place(path, text, key)}: {error}") from None
    return names


def _axis(path: Path, text: str, key: str, value: Any) -> tuple[str, tuple[Value, ...]]:
    items: Sequence[Any] = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, int | str) and not isinstance(item, bool) for item in items):
        raise UsageError(f"{_place(path, text, key)}: axis {key!r} takes a whole number, a word, or a list of them")
    try:
        return axis_values(key, value)
    except UsageError as error:
        raise UsageError(f"{_place(path, text, key)}: {error}") from None


def _place(path: Path, text: str, key: str) -> str:
    pattern = re.compile(rf"""^\s*\[?\s*["']?{re.escape(key)}["']?\s*[=\].]""")
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern.match(line):
            return f"{path}, line {number}, key {key!r}"
    return f"{path}, key {key!r}"
