"""The published numbers of GPUs."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any


def find_datasheet(device_name: str) -> Mapping[str, Any]:
    """The published numbers of a GPU by its own name; empty for one that `gpus.toml` does not know."""
    return next((gpu for gpu in load_gpus().values() if re.search(gpu["name_pattern"], device_name)), {})


@cache
def load_gpus() -> Mapping[str, Mapping[str, Any]]:
    """Every GPU by its preset's name; the keys are those of `gpus.toml`."""
    return tomllib.loads(files("mlabench.machine").joinpath("gpus.toml").read_text(encoding="utf-8"))
