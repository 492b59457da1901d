"""Defaults of options, from the nearest `mlabench.toml`, or `[tool.mlabench]` in a `pyproject.toml`."""

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlabench.errors import UsageError, near_names
from mlabench.records.store import RUNS_FOLDER

OWN_NAME = "mlabench.toml"
SHARED_NAME = "pyproject.toml"

Take = Callable[[Any, Path], Any]
"""Makes a setting of a file's value, seen from the file's folder. Raises `TypeError` for another kind of value."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: what is in force without it, which commands take it, what it may be, and how a value is read."""

    name: str
    default: str
    commands: tuple[str, ...]
    takes: str
    take: Take


@dataclass(frozen=True, slots=True)
class Project:
    """The settings of one file by name, with the line of each. Without a file there are none, and `path` is None."""

    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def place(self, name: str) -> str:
        """Where a setting stands: `mlabench.toml, line 3`."""
        return f"{self.path}, line {self.lines[name]}" if name in self.lines else str(self.path)

    def sweep_settings(self) -> dict[str, Any]:
        """The settings that a sweep's own file can hold too."""
        return {name: value for name, value in self.values.items() if name in SWEEP_NAMES}

    def told(self, given: Mapping[str, Any]) -> str:
        """What to say of the file after an error of settings that must fit together; empty if it has none of them."""
        names = [name for name in ("device", "method", "cache") if name in self.values and name not in given]
        return f" ({', '.join(names)} from {self.path})" if names else ""

    @property
    def runs_folder(self) -> Path:
        """Where runs are put, and where the newest is looked for."""
        folder: Path = self.values.get("runs", RUNS_FOLDER)
        return folder


def find_project(start: Path | None = None) -> Project:
    """The nearest file's settings: in the working directory, or a parent of it up to the repository's root.

    Outside a git repository only the working directory counts. In one folder `mlabench.toml` goes before
    `pyproject.toml`, which counts only with a table `[tool.mlabench]`. Files are not merged. Raises `UsageError` that
    names the file, the line and the key.
    """
    here = (start or Path.cwd()).absolute()
    for folder in searched_folders(here):
        seen = Path() if folder == Path.cwd() else folder
        for name in (OWN_NAME, SHARED_NAME):
            path = seen / name
            if path.is_file() and (table := _read(path)) is not None:
                return _project(path, *table)
    return Project()


def searched_folders(here: Path) -> tuple[Path, ...]:
    """The folders that are looked through, the nearest first."""
    upwards = (here, *here.parents)
    root = next((number for number, folder in enumerate(upwards) if (folder / ".git").exists()), 0)
    return upwards[: root + 1]


def _read(path: Path) -> tuple[Mapping[str, Any], str] | None:
    """The table of settings and the file's text; None for a `pyproject.toml` without one."""
    shared = path.name == SHARED_NAME
    try:
        text = path.read_text(encoding="utf-8")
        # Another project's file may be anything, as long as it does not speak of this one.
        if shared and "mlabench" not in text:
            return None
        table: Any = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    if shared:
        tools = table.get("tool")
        table = tools.get("mlabench") if isinstance(tools, dict) else None
        if table is not None and not isinstance(table, dict):
            raise UsageError(f"{path}: tool.mlabench is a table: write [tool.mlabench] and one line a setting below it")
    return None if table is None else (table, text)


def _project(path: Path, table: Mapping[str, Any], text: str) -> Project:
    lines = {name: number for name in table if (number := _line(path, text, name))}
    found = Project(path, {}, lines)
    values = {}
    for name, value in table.items():
        setting = SETTINGS.get(name)
        if setting is None:
            raise UsageError(f"{found.place(name)}: unknown key {name!r}: {near_names(name, SETTINGS)}")
        try:
            values[name] = setting.take(value, path.parent)
        except TypeError:
            raise UsageError(f"{found.place(name)}: {name} takes {setting.takes}, not {value!r}") from None
    return Project(path, values, lines)


def _line(path: Path, text: str, name: str) -> int | None:
    """The line of a key; in a shared file only below the table's heading, as others have keys of the same name."""
    inside = path.name == OWN_NAME
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"\s*\[", line) and path.name == SHARED_NAME:
            inside = re.match(r"\s*\[\s*tool\s*\.\s*mlabench\s*\]", line) is not None
        if inside and re.match(rf"""\s*\[?\s*["']?{re.escape(name)}["']?\s*[=\].]""", line):
            return number
    return None


def _word(*words: str) -> Take:
    def take(value: Any, _folder: Path) -> str:
        if not isinstance(value, str) or (words and value not in words):
            raise TypeError
        return value

    return take


def _words(value: Any, _folder: Path) -> tuple[str, ...]:
    return tuple(_listed(value))


def _comma_words(value: Any, _folder: Path) -> str:
    return ",".join(_listed(value))


def _number(value: Any, _folder: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise TypeError
    return float(value)


def _path(value: Any, folder: Path) -> Path:
    if not isinstance(value, str):
        raise TypeError
    return folder / Path(value).expanduser()


def _paths(value: Any, folder: Path) -> tuple[Path, ...]:
    return tuple(_path(each, folder) for each in _listed(value))


def _listed(value: Any) -> Iterator[str]:
    items: Iterable[Any] = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
        raise TypeError
    yield from items


_MEASURE = ("sweep", "ab", "gate --ab", "profile")
_ARITHMETIC = ("predict", "plan")
_NAMES = "a name or a list of names"
_METHODS = ("auto", "cpu", "graph", "events", "sustained")

_ROWS = (
    Setting("device", "auto", _MEASURE, "auto, cpu or cuda", _word("auto", "cpu", "cuda")),
    Setting("method", "auto", _MEASURE[:3], f"one of {', '.join(_METHODS)}", _word(*_METHODS)),
    Setting("cache", "auto", _MEASURE[:3], "auto, cold or warm", _word("auto", "cold", "warm")),
    Setting("kernel", "all that the device runs by default", ("sweep", "gate --ab", "profile"), _NAMES, _words),
    Setting("model", "none: the axes' own sizes", (*_MEASURE, *_ARITHMETIC), _NAMES, _words),
    Setting("sampling_s", "1.0", ("sweep",), "seconds above zero", _number),
    Setting("precision", "0.005", ("sweep",), "a fraction above zero", _number),
    Setting("timeout_s", "600.0", _MEASURE[:3], "seconds above zero", _number),
    Setting(
        "runs",
        str(RUNS_FOLDER),
        ("sweep", "ab", "report", "gate", "history", "list runs", "profile"),
        "a folder's path",
        _path,
    ),
    Setting(
        "baseline", "those of the same sweep under results/baselines", ("gate",), "a path or a list of them", _paths
    ),
    Setting("report_format", "html,png", ("report",), "a format or a list of them", _comma_words),
    Setting("models", "none", _ARITHMETIC, "a file's path", _path),
    Setting("gpu", "h200-sxm", _ARITHMETIC, _NAMES, _words),
    Setting("gpus", "none", _ARITHMETIC, "a file's path", _path),
)

SETTINGS: Mapping[str, Setting] = {row.name: row for row in _ROWS}
"""Every key that a file may hold; relative paths are seen from its folder."""

SWEEP_NAMES = ("device", "method", "cache", "kernel", "model", "sampling_s", "precision", "timeout_s")
"""Those that the file of `mlabench sweep --config` can hold too."""
