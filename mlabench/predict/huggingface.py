"""Presets from the `config.json` of a Hugging Face checkpoint on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlabench.errors import UsageError, near_names
from mlabench.predict.files import read_object

Config = Mapping[str, Any]
Preset = dict[str, Any]

SLIDING = "sliding_attention"
LAYER_TYPES = ("full_attention", SLIDING)
"""The words of `layer_types` that a preset can tell apart."""

_GEMMA_3 = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096}
DEFAULTS: Mapping[str, Config] = {
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256, "sliding_window": 4096},
    "gemma3": _GEMMA_3,
    "gemma3_text": _GEMMA_3,
    "gpt_oss": {"head_dim": 64, "sliding_window": 128},
    "qwen3": {"head_dim": 128},
}
"""What a config leaves out where its class has it: Gemma-3-12B's gives no head_dim, which is not hidden_size / heads.

Source: huggingface/transformers, configuration_*.py.
"""


def read_config(path: Path) -> Preset:
    """A model preset, with the keys of `models.toml`.

    Raises `UsageError` for a file that cannot be read, an architecture that is not in `ARCHITECTURES`, and a size that
    is missing or no whole number.
    """
    whole = read_object(path, "--model")
    config = whole.get("text_config", whole)
    if not isinstance(config, dict):
        raise UsageError(f"--model {path}: its text_config is no object")
    model_type = config.get("model_type", whole.get("model_type"))
    if not isinstance(model_type, str):
        raise UsageError(f"--model {path} has no model_type: it is no config.json of a Hugging Face checkpoint")
    if model_type not in ARCHITECTURES:
        raise UsageError(
            f"--model {path} is of the architecture {model_type!r}, which is not supported: "
            f"{near_names(model_type, ARCHITECTURES)}; describe the model in a file for --models"
        )
    sizes = _Sizes(path, {**DEFAULTS.get(model_type, {}), **config})
    return {**ARCHITECTURES[model_type](sizes), "source": str(path)}


class _Sizes:
    """The whole numbers of a config; errors name the file."""

    def __init__(self, path: Path, config: Config) -> None:
        self._path, self._config = path, config

    def one_of(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """The first of the names that the config gives. Raises `UsageError` for none, or for one under `least`."""
        for name in names:
            if (value := self._config.get(name)) is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UsageError(f"--model {self._path}: {name} is {value!r}, and no whole number from {least} on")
            return value
        if default is None:
            raise UsageError(f"--model {self._path} has no {' or '.join(names)}")
        return default

    def gives(self, name: str) -> bool:
        """Whether the config gives a value."""
        return self._config.get(name) is not None

    def windowed(self, layers: int) -> int | None:
        """How many of the layers `layer_types` gives a window; None where the config has none. Raises `UsageError`."""
        kinds = self._config.get("layer_types")
        if kinds is None:
            return None
        if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in LAYER_TYPES for kind in kinds):
            raise UsageError(
                f"--model {self._path}: layer_types is no list of {layers} words, each {' or '.join(LAYER_TYPES)}"
            )
        return kinds.count(SLIDING)

    def says(self, name: str, default: bool = False) -> bool:
        """Whether a switch is on."""
        return bool(self._config.get(name, default))


def _layers(sizes: _Sizes) -> Preset:
    layers = sizes.one_of("num_hidden_layers", "num_layers", "n_layer")
    hidden_size = sizes.one_of("hidden_size", "n_embd")
    return {"num_layers": layers, "hidden_size": hidden_size}


def _mla(sizes: _Sizes, v_head_dim: int | None = None) -> Preset:
    heads = sizes.one_of("num_attention_heads")
    common = _layers(sizes)
    ranks = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim")
    q_lora_rank = sizes.one_of("q_lora_rank", default=0)
    return {
        "variant": "mla",
        **common,
        "num_q_heads": heads,
        **{name: sizes.one_of(name) for name in ranks},
        "v_head_dim": sizes.one_of("v_head_dim", default=v_head_dim),
        **({"q_lora_rank": q_lora_rank} if q_lora_rank else {}),
        **(_indexer(sizes) if sizes.gives("index_topk") else {}),
    }


def _indexer(sizes: _Sizes) -> Preset:
    """The lightning indexer of sparse attention."""
    names = {"index_num_heads": "index_n_heads", "index_head_dim": "index_head_dim", "index_topk": "index_topk"}
    return {key: sizes.one_of(name) for key, name in names.items()}


def _minicpm3(sizes: _Sizes) -> Preset:
    """Without a `v_head_dim` of its own: the heads share the hidden size."""
    return _mla(sizes, sizes.one_of("hidden_size") // sizes.one_of("num_attention_heads"))


def _longcat(sizes: _Sizes) -> Preset:
    """Two MLA blocks a layer; `num_hidden_layers`, where it is given, counts the blocks."""
    layers = sizes.one_of("num_layers")
    return {**_mla(sizes), "num_layers": layers, "num_attention_layers": 2 * layers}


def _grouped(sizes: _Sizes, num_kv_heads: int | None = None) -> Preset:
    heads = sizes.one_of("num_attention_heads", "n_head")
    common = _layers(sizes)
    num_kv_heads = num_kv_heads or sizes.one_of("num_key_value_heads", "num_kv_heads", default=heads)
    variant = "mha" if num_kv_heads == heads else "mqa" if num_kv_heads == 1 else "gqa"
    head_dim = sizes.one_of("head_dim", default=common["hidden_size"] // heads)
    return {"variant": variant, **common, "num_q_heads": heads, "num_kv_heads": num_kv_heads, "head_dim": head_dim}


def _windowed(count: Callable[[_Sizes, int], int]) -> Callable[[_Sizes], Preset]:
    """Grouped attention with a window in some layers: those that `layer_types` names, or `count` of all of them."""

    def read(sizes: _Sizes) -> Preset:
        preset = _grouped(sizes)
        named = sizes.windowed(preset["num_layers"])
        layers = count(sizes, preset["num_layers"]) if named is None else named
        if not layers or (named is None and not sizes.gives("sliding_window")):
            return preset
        return {**preset, "sliding_window": sizes.one_of("sliding_window"), "num_sliding_window_layers": layers}

    return read


def _every_layer(_: _Sizes, layers: int) -> int:
    return layers


def _every_other(_: _Sizes, layers: int) -> int:
    return layers - layers // 2


def _all_but_one_in_six(sizes: _Sizes, layers: int) -> int:
    return layers - layers // sizes.one_of("sliding_window_pattern", default=6)


def _last_ones(sizes: _Sizes, layers: int) -> int:
    """Qwen's: none unless it is switched on, and then those from `max_window_layers` on."""
    return layers - min(layers, sizes.one_of("max_window_layers", least=0)) if sizes.says("use_sliding_window") else 0


def _falcon(sizes: _Sizes) -> Preset:
    """One KV head under `multi_query`, unless the newer decoder counts its own."""
    if sizes.says("new_decoder_architecture"):
        return _grouped(sizes)
    one = sizes.says("multi_query", default=True)
    return _grouped(sizes, 1 if one else sizes.one_of("num_attention_heads", "n_head"))


def _bigcode(sizes: _Sizes) -> Preset:
    return _grouped(sizes, 1 if sizes.says("multi_query", default=True) else sizes.one_of("n_head"))


ARCHITECTURES: Mapping[str, Callable[[_Sizes], Preset]] = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2"), _mla),
    **dict.fromkeys(("glm_moe_dsa", "glm4_moe_lite", "youtu", "youtu_llm"), _mla),
    "minicpm3": _minicpm3,
    "longcat_flash": _longcat,
    "llama": _grouped,
    "mistral": _windowed(_every_layer),
    **dict.fromkeys(("qwen2", "qwen3", "qwen3_moe"), _windowed(_last_ones)),
    **dict.fromkeys(("gpt_oss", "gemma2"), _windowed(_every_other)),
    **dict.fromkeys(("gemma3", "gemma3_text"), _windowed(_all_but_one_in_six)),
    "gemma": _grouped,
    "falcon": _falcon,
    "gpt_bigcode": _bigcode,
}
"""How each `model_type` is read: those of the models in `models.toml`."""
