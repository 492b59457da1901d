"""Presets: the attention shapes of published models, read from `models.toml`."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from mlabench.errors import UsageError, near_names

SHAPE_KEYS = (
    "variant",
    "num_q_heads",
    "num_kv_heads",
    "head_dim",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "hidden_size",
    "q_lora_rank",
)
"""The keys of a preset that shape its attention, the last two that of its whole layer."""


@cache
def load_presets() -> Mapping[str, Mapping[str, Any]]:
    """Every preset by name; the keys are those of `models.toml`."""
    return tomllib.loads(files("mlabench.cases").joinpath("models.toml").read_text(encoding="utf-8"))


def preset_shape(name: str) -> dict[str, Any]:
    """The sizes that a preset gives to a case. Raises `UsageError` for an unknown name."""
    presets = load_presets()
    if name not in presets:
        if name.endswith(".json"):
            raise UsageError(f"{name} is no preset, and only predict and plan read files: give its sizes with -a")
        raise UsageError(f"unknown model {name!r}: {near_names(name, presets)}")
    return {key: presets[name][key] for key in SHAPE_KEYS if key in presets[name]}


def num_attention_layers(name: str) -> int:
    """Attention blocks of a preset that own a cache."""
    preset = load_presets()[name]
    return int(preset.get("num_attention_layers", preset["num_layers"]))
