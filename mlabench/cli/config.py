"""`mlabench config`: which defaults are in force, and where each comes from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlabench.cli import options

if TYPE_CHECKING:
    from mlabench.cli.project import Project

SCHEMA_VERSION = 1

ON_THE_COMMAND_LINE = "option"


def config(
    file: Annotated[
        Path | None, typer.Option("--config", help="A sweep's TOML file, as `mlabench sweep --config` takes it.")
    ] = None,
    device: options.Device = None,
    method: Annotated[str | None, typer.Option(help="Timing method.", show_default="auto")] = None,
    cache: options.Cache = None,
    kernel: options.Kernels = None,
    model: options.Models = None,
    timeout_s: options.TimeoutS = None,
    as_json: options.AsJson = False,
) -> None:
    """Show which settings are in force, and where each comes from: an option, a file with its line, or the default.

    Settings are looked for in mlabench.toml, or in the table [tool.mlabench] of pyproject.toml: in the working
    directory, then in its parents up to the git repository's root. The first file found counts alone. Paths in it are
    seen from its folder. What is given on the command line wins, and a file given with --config takes the place of all
    that a sweep takes from there. With the options here, which are those of a sweep, it shows what such a call would
    take.

    Exit codes: 0 done, 2 a file holds what it cannot.

    Example: mlabench config --device cpu
    """
    from mlabench.cli.project import SETTINGS, SWEEP_NAMES, find_project
    from mlabench.cli.show import print_table

    given: dict[str, Any] = {"device": device, "method": method, "cache": cache, "timeout_s": timeout_s}
    given |= {"kernel": tuple(kernel or ()) or None, "model": tuple(model or ()) or None}
    project, of_sweep = find_project(), _of_sweep_file(file) if file else None
    rows = []
    for name, setting in SETTINGS.items():
        value, source = _in_force(name, given, project, of_sweep if name in SWEEP_NAMES else None, file)
        row = {"setting": name, "value": value, "default": setting.default, "from": source}
        rows.append(row | {"commands": list(setting.commands)})
    if as_json:
        found = str(project.path) if project.path else None
        print(json.dumps({"schema_version": SCHEMA_VERSION, "file": found, "settings": rows}, indent=1))
        return
    print_table(
        ("setting", "in force", "from", "for"),
        [(row["setting"], _text(row), str(row["from"]), ", ".join(row["commands"])) for row in rows],
    )
    print(f"file: {project.path}" if project.path else f"file: none, {_searched()}")


def _of_sweep_file(path: Path) -> Mapping[str, Any]:
    """The settings that a sweep's file names. Raises `UsageError`."""
    import tomllib

    from mlabench.measure.config import load_config

    loaded = load_config(path)
    return {name: getattr(loaded, name) for name in tomllib.loads(path.read_text(encoding="utf-8")) if name != "axes"}


def _in_force(
    name: str,
    given: Mapping[str, Any],
    project: "Project",
    of_sweep: Mapping[str, Any] | None,
    file: Path | None,
) -> tuple[Any, str]:
    """The value, None for the default, and where it comes from."""
    if given.get(name) is not None:
        return _plain(given[name]), ON_THE_COMMAND_LINE
    if of_sweep is not None:
        return (_plain(of_sweep[name]), str(file)) if name in of_sweep else (None, "default")
    if name in project.values:
        return _plain(project.values[name]), project.place(name)
    return None, "default"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _text(row: Mapping[str, Any]) -> str:
    value = row["default"] if row["value"] is None else row["value"]
    return ", ".join(value) if isinstance(value, list) else str(value)


def _searched() -> str:
    from mlabench.cli.project import OWN_NAME, SHARED_NAME, searched_folders

    folders = searched_folders(Path.cwd())
    where = f"from here up to {folders[-1]}" if len(folders) > 1 else f"in {folders[0]}"
    return f"no {OWN_NAME}, and no [tool.mlabench] in a {SHARED_NAME}, {where}"
