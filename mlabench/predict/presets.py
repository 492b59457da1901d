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

_TEXTS = ("variant", "kv_cache_dtype", "weight_dtype", "source", "parameters_source", "note")
_COUNTS = ("num_parameters", "num_active_parameters", "max_context")
_KNOWN = {*_TEXTS, *SHAPE_KEYS, "num_layers", *LAYER_KEYS, *INDEX_KEYS, *_COUNTS}
"""What a preset may give; all but texts are positive whole numbers."""

_MOST = 10**15
"""Over any size there is, and so small that no product of sizes is too large for a float."""


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
    if name == ALL:
        raise UsageError(f"{where}: no model can be named {ALL}, which stands for all of them")
    # A tuple, since what a user's file gives may have no hash.
    if preset.get("variant") not in tuple(VARIANTS):
        raise UsageError(f"{where}: model {name} needs variant, one of {', '.join(VARIANTS)}")
    try:
        _check_values(preset)
        Case.from_fields({**DEFAULT_SHAPE, **{key: preset[key] for key in SHAPE_KEYS if key in preset}})
        stack_of(preset)
    except UsageError as error:
        raise UsageError(f"{where}: model {name}: {error}") from None


def _check_values(preset: Mapping[str, Any]) -> None:
    for key, value in preset.items():
        if key not in _KNOWN:
            raise UsageError(f"unknown key {key!r}: {near_names(key, _KNOWN)}")
        if key in _TEXTS and not isinstance(value, str):
            raise UsageError(f"{key} is {value!r}, and no quoted text")
    for key in dict.fromkeys((*_NEEDED[preset["variant"]], *preset)):
        if key not in _TEXTS and (wrong := _what_is_wrong(preset, key)):
            raise UsageError(f"it needs {key}, a positive whole number: {wrong}")
    if preset.get("num_active_parameters", 0) > preset.get("num_parameters", _MOST):
        raise UsageError("num_active_parameters are more than num_parameters")
    if preset.get("kv_cache_dtype", CACHE_FORMATS[0]) not in CACHE_FORMATS:
        raise UsageError(f"kv_cache_dtype is none of {', '.join(CACHE_FORMATS)}")


def _what_is_wrong(preset: Mapping[str, Any], key: str) -> str | None:
    if key not in preset:
        return "it is missing"
    value = preset[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        return f"it is {value!r}"
    return f"it is over {_MOST:g}" if value > _MOST else None
