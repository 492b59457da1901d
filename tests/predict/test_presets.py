"""Models and GPUs: the package's, a user's, and a checkpoint's own config.json."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mlabench.cases.models import load_presets, preset_shape
from mlabench.errors import UsageError
from mlabench.machine.datasheet import load_gpus
from mlabench.predict.hardware import choose_gpus, gpu_of_device
from mlabench.predict.huggingface import ARCHITECTURES
from mlabench.predict.presets import choose_models
from mlabench.predict.stacks import stack_of
from tests.cli.commands import ROOT


def latent(model_type: str, **changes: Any) -> dict[str, Any]:
    """A config.json of DeepSeek-V3's sizes, but for the changes."""
    sizes = {"hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128}
    ranks = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64}
    return {"model_type": model_type, **sizes, **ranks, "v_head_dim": 128, **changes}


def grouped(model_type: str, hidden_size: int, layers: int, heads: int, **others: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden_size, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"model_type": model_type, **sizes, **others}


SMALL = {"kv_lora_rank": 256, "q_lora_rank": 768, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32}
CONFIGS: dict[str, dict[str, Any]] = {
    "deepseek-v3": latent("deepseek_v3"),
    "kimi-k2": {"model_type": "kimi_k25", "text_config": latent("kimi_k2", num_attention_heads=64)},
    "deepseek-v3.2": latent("deepseek_v32", index_n_heads=64, index_head_dim=128, index_topk=2048),
    "gemma-2-27b": grouped("gemma2", 4608, 46, 32, num_key_value_heads=16, head_dim=128, sliding_window=4096),
    "gemma-3-27b": grouped("gemma3", 5376, 62, 32, num_key_value_heads=16, head_dim=128, sliding_window=1024),
    "gpt-oss-120b": grouped(
        *("gpt_oss", 2880, 36, 64),
        num_key_value_heads=8,
        head_dim=64,
        sliding_window=128,
        layer_types=["sliding_attention", "full_attention"] * 18,
    ),
    "qwen2.5-7b": grouped(
        *("qwen2", 3584, 28, 28), num_key_value_heads=4, sliding_window=131072, use_sliding_window=False
    ),
    "mistral-7b-v0.3": grouped("mistral", 4096, 32, 32, num_key_value_heads=8, head_dim=128, sliding_window=None),
    "deepseek-v2-lite": latent(
        "deepseek_v2", hidden_size=2048, num_hidden_layers=27, num_attention_heads=16, q_lora_rank=None
    ),
    "longcat-flash": latent(
        "longcat_flash", hidden_size=6144, num_layers=28, num_hidden_layers=56, num_attention_heads=64
    ),
    "minicpm3-4b": grouped("minicpm3", 2560, 62, 40, **SMALL),
    "llama-3.1-8b": grouped("llama", 4096, 32, 32, num_key_value_heads=8),
    "llama-2-7b": grouped("llama", 4096, 32, 32),
    "qwen3-32b": grouped("qwen3", 5120, 64, 64, num_key_value_heads=8, head_dim=128),
    "gemma-2b": grouped("gemma", 2048, 18, 8, num_key_value_heads=1),
    "falcon-7b": grouped("falcon", 4544, 32, 71, multi_query=True, num_kv_heads=71),
    "falcon-40b": grouped("falcon", 8192, 60, 128, num_kv_heads=8, multi_query=True, new_decoder_architecture=True),
    "starcoder-15b": {"model_type": "gpt_bigcode", "n_embd": 6144, "n_layer": 40, "n_head": 48, "multi_query": True},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_gives_the_preset_of_its_model(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIGS[name]))
    (model,) = choose_models([str(path)])
    preset = load_presets()[name]
    assert model.shape == preset_shape(name)
    assert model.num_attention_layers == preset.get("num_attention_layers", preset["num_layers"])
    assert model.stack == stack_of(preset)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "has no model_type"),
        ('{"model_type": "mamba"}', "architecture 'mamba', which is not supported: .*--models$"),
        ('{"model_type": "llama", "num_attention_heads": 32}', "has no num_hidden_layers or num_layers or n_layer"),
        ('{"model_type": "llama", "num_attention_heads": "32"}', "num_attention_heads is '32'"),
        ('{"model_type": "llama", "text_config": 3, "num_attention_heads": 3}', "text_config is no object"),
        (
            '{"model_type": "llama", "num_attention_heads": 7, "num_key_value_heads": 3, "hidden_size": 70, '
            '"num_hidden_layers": 2}',
            "num_q_heads 7 is not a multiple",
        ),
        (json.dumps(grouped("llama", 4096, 10**400, 32)), "needs num_layers, .*: it is over 1e"),
        ("[" * 100_000, "is no JSON"),
        (json.dumps({**latent("deepseek_v3"), "v_head_dim": None}), "has no v_head_dim"),
        *(
            (json.dumps({**CONFIGS["gpt-oss-120b"], "layer_types": kinds}), "layer_types is no list of 36 words")
            for kinds in (["sliding_attention"] * 40, ["linear_attention"] * 36, "sliding_attention")
        ),
        (json.dumps({**CONFIGS["gpt-oss-120b"], "sliding_window": None}), "has no sliding_window"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line(content: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=complaint) as told:
        choose_models([str(path)])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        (grouped("gemma3_text", 3840, 48, 16, num_key_value_heads=8, sliding_window=1024), (16, 8, 256)),
        ({"model_type": "gemma3", "text_config": {"hidden_size": 2560, "num_hidden_layers": 34}}, (8, 4, 256)),
        (grouped("qwen3", 5120, 64, 64, num_key_value_heads=8), (64, 8, 128)),
        (grouped("gpt_oss", 2880, 36, 64, num_key_value_heads=8), (64, 8, 64)),
        (grouped("llama", 2880, 36, 64, num_key_value_heads=8), (64, 8, 45)),
    ],
)
def test_what_a_config_leaves_out_is_its_classs(
    config: dict[str, Any], heads: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    (model,) = choose_models([str(path)])
    assert tuple(model.shape[key] for key in ("num_q_heads", "num_kv_heads", "head_dim")) == heads


@pytest.mark.parametrize(
    ("changes", "windowed"),
    [
        ({}, 0),
        ({"use_sliding_window": True, "max_window_layers": 20}, 8),
        ({"use_sliding_window": True, "max_window_layers": 0}, 28),
        ({"layer_types": ["full_attention"] * 20 + ["sliding_attention"] * 8}, 8),
    ],
)
def test_layers_with_a_window_are_counted(changes: dict[str, Any], windowed: int, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**CONFIGS["qwen2.5-7b"], **changes}))
    (model,) = choose_models([str(path)])
    assert model.stack is not None
    assert (model.stack.full_layers, model.stack.window_layers) == (28 - windowed, windowed)


def test_a_config_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        choose_models([str(tmp_path / "config.json")])
    with pytest.raises(UsageError, match="Is a directory"):
        choose_models([f"{tmp_path}/"])


def test_every_architecture_is_one_that_can_be_read() -> None:
    assert all(callable(read) for read in ARCHITECTURES.values())
    assert {"deepseek_v2", "deepseek_v3", "glm_moe_dsa", "llama", "gpt_oss"} <= set(ARCHITECTURES)


MODEL = '[mine]\nvariant = "gqa"\nnum_layers = 2\nnum_q_heads = 8\nnum_kv_heads = 2\nhead_dim = 64\nsource = "me"\n'


def test_a_file_adds_models_and_takes_the_place_of_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(MODEL + MODEL.replace("mine", "llama-2-7b"))
    mine, replaced = choose_models(["mine", "llama-2-7b"], file)
    assert dict(mine.shape) == {"variant": "gqa", "num_q_heads": 8, "num_kv_heads": 2, "head_dim": 64}
    assert mine.num_attention_layers == replaced.num_attention_layers == 2
    assert len(choose_models(["all"], file)) == len(load_presets()) + 1
    assert choose_models([], file) == (mine, replaced)
    assert choose_models([]) == ()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"gqa"', '"gqqa"', "needs variant, one of mha, gqa, mqa, mla"),
        ('"gqa"', '["gqa"]', "needs variant, one of mha, gqa, mqa, mla"),
        ('source = "me"', 'hidden_size = "4k"', "needs hidden_size, .*: it is '4k'"),
        ('source = "me"', "hidden_size = 2.5", "needs hidden_size, .*: it is 2.5"),
        ('source = "me"', "q_lora_rank = true", "needs q_lora_rank, .*: it is True"),
        ('source = "me"', f"hidden_size = 1{'0' * 400}", "needs hidden_size, .*: it is over 1e"),
        ('source = "me"', f"hidden_size = 1{'0' * 5000}", "is no TOML"),
        ('source = "me"', 'weight_dtype = ["float8"]', "weight_dtype is .* no quoted text"),
        ('source = "me"', "num_parameters = 8\nnum_active_parameters = 9", "are more than num_parameters"),
        ("[mine]", "[all]", "no model can be named all"),
        (MODEL, "", "is empty: begin each preset"),
        ("num_layers = 2\n", "", "needs num_layers, a positive whole number: it is missing"),
        ("head_dim = 64", "head_dim = 6.4", "needs head_dim, .*: it is 6.4"),
        ("num_kv_heads = 2", "num_kv_heads = 3", "num_q_heads 8 is not a multiple"),
        ('source = "me"', 'kv_cache_dtype = "int3"', "kv_cache_dtype is none of bfloat16"),
        ('source = "me"', "sliding_window = 8", "sliding_window and num_sliding_window_layers go together"),
        ('source = "me"', "num_parameters = 8e9", "needs num_parameters, .*: it is 8000000000.0"),
        ("head_dim", "heads_dim", "unknown key 'heads_dim': did you mean head_dim"),
        ("[mine]\n", "", "variant is no table"),
        ("[mine]", "[mine", "is no TOML"),
    ],
)
def test_bad_models_are_one_line(old: str, new: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(MODEL.replace(old, new))
    with pytest.raises(UsageError, match=complaint) as told:
        choose_models(["mine"], file)
    assert "\n" not in str(told.value)


def test_an_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown model 'deepseek-v4': did you mean"):
        choose_models(["deepseek-v4"])


def test_every_preset_has_its_source() -> None:
    for name, table in {**load_presets(), **load_gpus()}.items():
        assert table["source"], name


@pytest.mark.parametrize("name", ["h200", "H200-SXM", "h200-sxm"])
def test_the_start_of_a_gpus_name_will_do(name: str) -> None:
    (gpu,) = choose_gpus([name])
    assert gpu.name == "h200-sxm"
    assert gpu.ceilings.bandwidth_bytes_per_s == 4.8e12
    assert gpu.ceilings.matmul_flops_per_s == {"bfloat16": 989.4e12, "float16": 989.4e12}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("h", "could be h100-sxm-80gb or h800-sxm or h200-sxm"),
        ("h20", "unknown GPU 'h20': it could be h200-sxm"),
        ("v100", "unknown GPU 'v100'"),
        ("", "unknown GPU '': known: a100"),
        ("rtx5090", "--gpus FILE adds one of your own"),
    ],
)
def test_an_unknown_gpu_is_told(name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        choose_gpus([name])


def test_gpus_are_chosen_once_and_all_at_once() -> None:
    assert [gpu.name for gpu in choose_gpus(["h200", "h200-sxm"])] == ["h200-sxm"]
    assert [gpu.name for gpu in choose_gpus(["all"])] == list(load_gpus())
    assert choose_gpus([]) == choose_gpus(["h200"])


def test_a_file_adds_gpus(tmp_path: Path) -> None:
    file = tmp_path / "gpus.toml"
    sheet = '[mine]\nname_pattern = "My GPU"\nbfloat16_flops_per_s = 1e12\nmemory_bytes_per_s = 1e11\n'
    file.write_text(sheet)
    assert gpu_of_device("My GPU 2", file) == choose_gpus(["mine"], file)[0]
    assert choose_gpus([], file) == choose_gpus(["mine"], file)
    for wrong, complaint in (
        (sheet.replace("1e11", '"fast"'), "needs memory_bytes_per_s and"),
        (sheet.replace("1e12", "-1"), "needs memory_bytes_per_s and"),
        (sheet.replace("1e11", "inf"), "needs memory_bytes_per_s and"),
        (sheet.replace("1e12", "true"), "needs memory_bytes_per_s and"),
        (f"{sheet}memory_bytes = inf\n", "memory_bytes of GPU mine is no number"),
        (sheet.replace("name_pattern", "pattern"), "unknown key 'pattern'"),
        (f"{sheet}bf16 = 1e12\n", "unknown key 'bf16': known: bfloat16_flops_per_s, "),
        (sheet.replace("flops", "flop"), "unknown key 'bfloat16_flop_per_s': did you mean bfloat16_flops_per_s"),
        (sheet.replace("My GPU", "("), "name_pattern"),
        ("", "is empty: begin each preset"),
    ):
        file.write_text(wrong)
        with pytest.raises(UsageError, match=complaint):
            choose_gpus(["mine"], file)


def test_the_files_of_the_guide_are_read(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").split("## Models and GPUs of your own")[1]
    sheet, preset = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)[:2]
    file = tmp_path / "own.toml"
    file.write_text(sheet)
    (gpu,) = choose_gpus(["my-card"], file)
    assert (gpu.ceilings.bandwidth_bytes_per_s, gpu.memory_bytes, gpu.name_pattern) == (864e9, 48e9, "My Card")
    file.write_text(preset)
    (model,) = choose_models(["my-model"], file)
    assert (model.shape["num_kv_heads"], model.num_parameters, model.weight_dtype) == (8, 70_600_000_000, "float8")


def test_a_gpu_of_a_file_is_not_taken_for_one_of_another_case(tmp_path: Path) -> None:
    file = tmp_path / "gpus.toml"
    file.write_text("[H200-SXM]\nbfloat16_flops_per_s = 1e12\nmemory_bytes_per_s = 1e11\n")
    for names in ([], ["H200-SXM"]):
        (gpu,) = choose_gpus(names, file)
        assert (gpu.name, gpu.ceilings.bandwidth_bytes_per_s) == ("H200-SXM", 1e11)
    with pytest.raises(UsageError, match="could be h200-sxm or H200-SXM"):
        choose_gpus(["h200"], file)


def test_a_device_without_a_preset_is_told() -> None:
    with pytest.raises(UsageError, match="no GPU preset matches the device 'Intel Xeon'"):
        gpu_of_device("Intel Xeon")
