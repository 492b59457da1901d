"""Every preset against the formulas of the papers, written down here once more and not read off the tensors.

Sources: DeepSeek-V2 (arXiv 2405.04434), table 1 and section 2.1; FlashMLA's README for the float8 layout and the FLOP.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from mlabench.cases.models import load_presets
from mlabench.errors import UsageError
from mlabench.predict.cache_formats import CACHE_FORMATS
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import make_points, predict_rows

WIDTHS = {"bfloat16": 2, "float16": 2, "float8": 1}
SHAPES = [("decode", 1, 1, 4096), ("decode", 32, 1, 1000), ("decode", 4, 2, 131_072), ("prefill", 2, 1024, 1024)]
BEHIND_A_PREFIX = ("prefill", 1, 100, 5000)


def latent_bytes(preset: Mapping[str, Any], cache_format: str) -> int | None:
    rank, rope = preset["kv_lora_rank"], preset["qk_rope_head_dim"]
    if cache_format == "fp8_656":
        return None if rank % 128 else rank + 4 * (rank // 128) + 2 * rope
    return int((rank + rope) * WIDTHS[cache_format])


def token_bytes(preset: Mapping[str, Any], cache_format: str, tp: int) -> int | None:
    """Of one layer and rank; None for what the format cannot hold."""
    if preset["variant"] == "mla":
        return latent_bytes(preset, cache_format)
    if cache_format not in WIDTHS:
        return None
    return int(2 * max(1, preset["num_kv_heads"] // tp) * preset["head_dim"] * WIDTHS[cache_format])


def request_bytes(preset: Mapping[str, Any], per_token: int, kv_len: int) -> int:
    """Of all layers: those with a window keep no more than it, and each indexer a key and its scale."""
    layers = preset.get("num_attention_layers", preset["num_layers"])
    windows = preset.get("num_sliding_window_layers", 0)
    slots = (layers - windows) * kv_len + windows * min(kv_len, preset.get("sliding_window", kv_len))
    index = (preset["index_head_dim"] + 4) * layers * kv_len if "index_topk" in preset else 0
    return int(slots * per_token + index)


def core(preset: Mapping[str, Any], form: str | None, tp: int) -> tuple[int, int, int, int, int, int]:
    """A pair's FLOP, a cached token's FLOP and bytes, the widths of query and output, and the weights' bytes."""
    heads = preset["num_q_heads"] // tp
    if form is None:
        own = max(1, preset["num_kv_heads"] // tp)
        dim = preset["head_dim"]
        return 4 * heads * dim, 0, 4 * own * dim, dim, dim, 0
    rank, rope = preset["kv_lora_rank"], preset["qk_rope_head_dim"]
    nope, value = preset["qk_nope_head_dim"], preset["v_head_dim"]
    if form == "absorbed":
        return 2 * heads * (2 * rank + rope), 0, 2 * (rank + rope), rank + rope, rank, 0
    attention, expansion = 2 * heads * (nope + rope + value), 2 * rank * heads * (nope + value)
    if form == "expanded":
        return attention, 0, 2 * heads * (nope + rope + value), nope + rope, value, 0
    return attention, expansion, 2 * (rank + rope), nope + rope, value, expansion


@pytest.mark.parametrize("name", load_presets())
@pytest.mark.parametrize("cache_format", CACHE_FORMATS)
def test_what_a_token_and_a_request_cache(name: str, cache_format: str) -> None:
    preset, (model,), gpus = load_presets()[name], choose_models([name]), choose_gpus([])
    for tp in (1, 2):
        if preset["num_q_heads"] % tp:
            continue
        points = make_points([model], {"kv_len": [100, 8192]}, tps=(tp,), cache_formats=(cache_format,))
        per_token = token_bytes(preset, cache_format, tp)
        if per_token is None:
            with pytest.raises(UsageError, match="holds latents of a multiple of 128"):
                list(predict_rows(points, gpus))
            continue
        for row in predict_rows(points, gpus):
            assert row["kv_cache_bytes_per_token_per_layer"] == per_token
            assert row["kv_cache_bytes_all_layers"] == request_bytes(preset, per_token, row["kv_len"])


@pytest.mark.parametrize("name", load_presets())
def test_flop_and_bytes_of_every_form(name: str) -> None:
    preset, (model,), gpus = load_presets()[name], choose_models([name]), choose_gpus([])
    forms = ["absorbed", "recompute", "expanded"] if preset["variant"] == "mla" else ["absorbed"]
    for phase, batch, q_len, kv_len in (*SHAPES, BEHIND_A_PREFIX):
        sizes = {"phase": [phase], "batch": [batch], "q_len": [q_len], "kv_len": [kv_len], "form": forms}
        tps = tuple(tp for tp in (1, 4) if preset["num_q_heads"] % tp == 0)
        for row in predict_rows(make_points([model], sizes, tps=tps), gpus):
            pair, token, cached, query, out, weights = core(preset, row["form"], row["tp"])
            pairs = batch * sum(range(kv_len - q_len + 1, kv_len + 1))
            assert row["flops"] == pair * pairs + token * batch * kv_len
            rows, heads = batch * q_len, preset["num_q_heads"] // row["tp"]
            tables = 4 * (batch * -(-kv_len // 64) + batch + (batch + 1) * (phase == "prefill"))
            lse = 4 * rows * heads
            moved = batch * kv_len * cached + 2 * rows * heads * (query + out) + lse + tables + weights
            assert row["bytes_moved"] == moved
