"""Reading a user's files: every way in which one cannot be read is one clear line."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlabench.errors import UsageError


def read_tables(path: Path, option: str) -> Mapping[str, Mapping[str, Any]]:
    """The tables of a TOML file by name, at least one. Raises `UsageError`."""
    try:
        tables = tomllib.loads(_text(path, option))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} {path} is no TOML: {error}") from None
    if not tables:
        raise UsageError(f"{option} {path} is empty: begin each preset with [its-name]")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{option} {path}: {name} is no table: begin each preset with [its-name]")
    return tables


def read_object(path: Path, option: str) -> Mapping[str, Any]:
    """The object that a JSON file holds. Raises `UsageError`."""
    try:
        plain = json.loads(_text(path, option))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} {path} is no JSON: {error}") from None
    if not isinstance(plain, dict):
        raise UsageError(f"{option} {path} holds no JSON object")
    return plain


def _text(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"cannot read {option} {path}: {reason}") from None
