"""The models that a prediction can be made for: presets of the package, of a user's file, of a `config.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlabench.cases.case import VARIANTS, Case
from mlabench.cases.grid import DEFAULT_SHAPE
from mlabench.cases.models import SHAPE_KEYS, load_presets
from mlabench.errors import UsageError, near_names
from mlabench.predict.cache_formats import CACHE_FORMATS
from mlabench.predict.files import read_tables
from mlabench.predict.huggingface import read_config
from mlabench.predict.stacks import INDEX_KEYS, LAYER_KEYS, Stack, stack_of

ALL = "all"

_LATENT = ("num_q_heads", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
_NEEDED: Mapping[str, Sequence[str]] = {
    "mha": ("num_layers", "num_q_heads", "head_dim"),
    "gqa": ("num_layers", "num_q_heads", "num_kv_heads", "head_dim"),
    "mqa": ("num_layers", "num_q_heads", "head_dim"),
    "mla": ("num_layers", *_LATENT),
}
"""What a preset of each variant must give."""

_COUNTS = ("num_kv_heads", *LAYER_KEYS, *INDEX_KEYS, "num_parameters", "num_active_parameters", "max_context")
"""What it may give beside them, all positive whole numbers."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model's name, the sizes it gives to a case, its layers, and what it says of its weights and its cache.

    `num_active_parameters` is what one token uses of a mixture of experts; `kv_cache_dtype` is the format in which the
    model is commonly served. A name of None stands for no model: a sweep's default sizes, of which nobody knows the
    layers.
    """

    name: str | None
    shape: Mapping[str, Any]
    num_attention_layers: int | None
    stack: Stack | None = None
    num_parameters: int | None = None
    num_active_parameters: int | None = None
    weight_dtype: str | None = None
    kv_cache_dtype: str | None = None
    max_context: int | None = None


_OF_WEIGHTS_AND_CACHE = ("num_parameters", "num_active_parameters", "weight_dtype", "kv_cache_dtype", "max_context")

NO_MODEL = Model(None, {}, None)


def choose_models(names: Sequence[str], file: Path | None = None) -> tuple[Model, ...]:
    """The named models, each once: presets, paths of a `config.json`, or `all` presets.

    `file` adds a user's presets in the format of the package's `models.toml`; one of a known name takes its place.
    Without names they are the file's. Raises `UsageError`.
    """
    own = read_tables(file, "--models") if file else {}
    for name, preset in own.items():
        _check(name, preset, f"--models {file}")
    presets, names = {**load_presets(), **own}, names or list(own)
    return tuple(_model(name, presets) for name in (presets if ALL in names else dict.fromkeys(names)))


def _model(name: str, presets: Mapping[str, Mapping[str, Any]]) -> Model:
    if name in presets:
        preset = presets[name]
    elif "/" in name or name.endswith(".json"):
        preset = read_config(Path(name))
        _check(name, preset, "--model")
    else:
        raise UsageError(f"unknown model {name!r}: {near_names(name, (*presets, ALL))}")
    shape = {key: preset[key] for key in SHAPE_KEYS if key in preset}
    layers = preset.get("num_attention_layers", preset["num_layers"])
    rest = {key: preset.get(key) for key in _OF_WEIGHTS_AND_CACHE}
    return Model(name, shape, layers, stack_of(preset), **rest)


def _check(name: str, preset: Mapping[str, Any], where: str) -> None:
    """Refuse a preset that no case can be made of. Raises `UsageError`."""
    variant = preset.get("variant")
    if variant not in VARIANTS:
        raise UsageError(f"{where}: model {name} needs variant, one of {', '.join(VARIANTS)}")
    known = {key for table in load_presets().values() for key in table} | set(_COUNTS)
    for key in preset:
        if key not in known:
            raise UsageError(f"{where}: model {name} has an unknown key {key!r}: {near_names(key, known)}")
    for key in (*_NEEDED[variant], *(key for key in _COUNTS if key in preset)):
        value = preset.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            got = f"it is {value!r}" if key in preset else "it is missing"
            raise UsageError(f"{where}: model {name} needs {key}, a positive whole number: {got}")
    try:
        Case.from_fields({**DEFAULT_SHAPE, **{key: preset[key] for key in SHAPE_KEYS if key in preset}})
        stack_of(preset)
        if preset.get("kv_cache_dtype", CACHE_FORMATS[0]) not in CACHE_FORMATS:
            raise UsageError(f"kv_cache_dtype is none of {', '.join(CACHE_FORMATS)}")
    except UsageError as error:
        raise UsageError(f"{where}: model {name}: {error}") from None
