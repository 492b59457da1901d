"""What the parts of a layer cost: against the tensors that they take, and against published dimensions."""

import subprocess
import sys
from dataclasses import fields
from math import prod
from pathlib import Path

import pytest
import torch

from mla_kernels import layer_torch, mla_layer_torch
from mla_kernels.layer_parts import GROUPED_PARTS, MLA_PARTS, GroupedDims, MlaDims, grouped_parts, mla_parts
from mlabench.cases.models import load_presets
from tests.mla_kernels import layers

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
NOT_COUNTED = ("rope_table", "q_rope")  # the rotary table, and columns that are counted in q


def dims_of(model: str) -> MlaDims | GroupedDims:
    preset = load_presets()[model]
    kind = MlaDims if preset["variant"] == "mla" else GroupedDims
    return kind(**{field.name: preset[field.name] for field in fields(kind) if field.name in preset})


def numbers(*shapes) -> int:
    return sum(prod(shape) for shape in shapes)


def mega(count: float) -> float:
    return round(count / 1e6, 2)


def check_counts(part, arguments, tokens):
    """The part against the tensors that its bind takes: each byte of them is moved once."""
    weights = {name: value for name, value in arguments.items() if name.endswith(("_proj", "_norm", "premultiplied"))}
    assert part.weight_bytes == sum(value.nbytes for value in weights.values())
    assert part.flops == 2 * tokens * sum(value.numel() for value in weights.values() if value.ndim > 1)
    if part.name == "cache_write":
        moved = 2 * sum(row.nbytes for row in arguments["rows"]) + arguments["slots"].nbytes
    else:
        moved = sum(value.nbytes for name, value in arguments.items() if name not in NOT_COUNTED)
    assert part.bytes_moved == moved


@DTYPES
@pytest.mark.parametrize("q_lora_rank", [20, None])
@pytest.mark.parametrize("form", MLA_PARTS)
def test_mla_parts_count_their_tensors(form, q_lora_rank, dtype):
    dims = MlaDims(48, 3, 16, 8, 4, 6, q_lora_rank)
    kv_lens, q_len = torch.tensor([9, 5]), 2
    hidden = layers.make_hidden(4, dims.hidden_size, dtype)
    cache = layers.mla_cache(dims, form, kv_lens.tolist(), hidden)
    calls, _ = layers.mla_part_calls(dims, form, layers.mla_weights(dims, dtype), hidden, kv_lens, cache)
    parts = mla_parts(dims, form, 4, cached_tokens=14, dtype_bytes=dtype.itemsize)
    assert tuple(part.name for part in parts) == tuple(calls) == MLA_PARTS[form]
    for part in parts:
        bind, arguments = calls[part.name]
        assert bind.__name__ == f"bind_{part.name}"
        tokens = 14 if part.name == "expand_cached" else 2 * q_len
        if part.name == "expand_cached":  # of the cache it reads the rows that the slots name
            arguments = arguments | {"kv_cache": arguments["kv_cache"].view(-1, dims.latent_dim)[arguments["slots"]]}
        check_counts(part, arguments, tokens)


@DTYPES
@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
def test_grouped_parts_count_their_tensors(num_kv_heads, dtype):
    dims = GroupedDims(48, 6, num_kv_heads, 8)
    kv_lens, hidden = torch.tensor([9, 5]), layers.make_hidden(4, 48, dtype)
    weights = layer_torch.make_weights(dims.weight_shapes, dtype)
    cache = layers.Cache.empty(kv_lens.tolist(), [(num_kv_heads, 8)] * 2, hidden)
    calls = layers.grouped_part_calls(dims, weights, hidden, kv_lens, cache)
    parts = grouped_parts(dims, 4, dtype.itemsize)
    assert tuple(part.name for part in parts) == tuple(calls) == GROUPED_PARTS
    for part in parts:
        arguments = calls[part.name][1]
        if part.name == "qkv":  # keys and values are in qkv, queries in q
            arguments = arguments | {"qkv": arguments["qkv"][:, 6:]}
        check_counts(part, arguments, 4)


@pytest.mark.parametrize(
    ("model", "parameters_in_millions"),
    [
        ("deepseek-v3", 187.11),
        ("kimi-k2", 101.12),
        ("deepseek-v2-lite", 13.76),
        ("llama-3.1-70b", 150.99),
        ("llama-3.1-405b", 570.43),
        ("qwen2.5-72b", 150.99),
    ],
)
def test_weights_of_published_layers(model, parameters_in_millions):
    shapes = dims_of(model).weight_shapes
    assert mega(numbers(*shapes.values())) == parameters_in_millions


def test_parts_of_deepseek_v3():
    dims = dims_of("deepseek-v3")
    shapes = dims.weight_shapes
    kv_b = {"keys": (128, 128, 512), "values": (128, 128, 512)}
    assert numbers(shapes["kv_b_proj"]) == numbers(*kv_b.values())
    by_name = {name: mega(numbers(shape)) for name, shape in shapes.items() if len(shape) > 1}
    assert by_name == {
        "q_a_proj": 11.01, "q_b_proj": 37.75, "kv_a_proj": 4.13, "kv_b_proj": 16.78, "o_proj": 117.44,
    }  # fmt: skip
    parts = {part.name: part for part in mla_parts(dims, "absorbed", 1)}
    absorption = [parts["query_absorb"], parts["output_up"]]
    assert sum(part.flops for part in absorption) == 33_554_432  # a query token, as much as expanding one cached token
    assert sum(part.weight_bytes for part in absorption) == 33_554_432  # the README's 33.6 MB
    expansion = {part.name: part for part in mla_parts(dims, "recompute", 1, cached_tokens=1000)}["expand_cached"]
    assert expansion.flops == 1000 * 33_554_432
    without_prefix = mla_parts(dims, "recompute", 7)
    assert without_prefix == mla_parts(dims, "recompute", 7, cached_tokens=7)
    assert {part.name: part.flops for part in without_prefix}["expand_cached"] == 7 * 33_554_432


def test_the_readme_says_what_the_parts_weigh():
    readme = (Path(__file__).parents[2] / "kernels" / "README.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines()]
    rows = {name: cells[2:] for cells in lines if len(cells) == 5 for name in cells[0].replace("`", "").split(", ")}
    for form, column in {"absorbed": 0, "premultiplied": 1, "expanded": 2, "recompute": 2}.items():
        weights = {part.name: part.weight_bytes for part in mla_parts(dims_of("deepseek-v3"), form, 1)}
        for name, weight_bytes in (weights | {"all": sum(weights.values())}).items():
            assert rows[name][column] == (f"{weight_bytes / 1e6:.1f} MB" if weight_bytes else ""), name


def test_one_token_does_as_many_flop_as_a_part_has_bytes_of_matrices():
    dims = dims_of("deepseek-v3")
    norms = {"query": 1536, "query_premultiplied": 1536, "latent": 512}
    for part in (*mla_parts(dims, "absorbed", 1), *mla_parts(dims, "premultiplied", 1)):
        assert part.flops == part.weight_bytes - 2 * norms.get(part.name, 0)


def test_the_forms_but_premultiplied_have_the_same_weights():
    dims = dims_of("deepseek-v3")
    whole = 2 * numbers(*dims.weight_shapes.values())
    for form in ("absorbed", "expanded", "recompute"):
        assert sum(part.weight_bytes for part in mla_parts(dims, form, 1)) == whole


def test_premultiplied_matrices_are_larger():
    dims = dims_of("deepseek-v3")
    w_uq, w_uk, w_uv = (128, 128, 1536), (128, 128, 512), (128, 128, 512)
    shapes = dims.premultiplied_shapes
    assert mega(numbers(w_uq, w_uk)) == 33.55
    assert mega(numbers(shapes["q_premultiplied"])) == 100.66  # 3.0 times as many
    assert mega(numbers(w_uv, dims.weight_shapes["o_proj"])) == 125.83
    assert mega(numbers(shapes["o_premultiplied"])) == 469.76  # 3.7 times
    absorbed, premultiplied = (mla_parts(dims, form, 1) for form in ("absorbed", "premultiplied"))
    for count in ("weight_bytes", "flops", "bytes_moved"):
        totals = [sum(getattr(part, count) for part in parts) for parts in (absorbed, premultiplied)]
        assert totals[1] / totals[0] == pytest.approx(3.2, abs=0.01), count


def test_kv_len_from_which_a_decode_step_of_deepseek_v3_costs_more_flop():
    dims = dims_of("deepseek-v3")
    layer = sum(part.flops for part in mla_parts(dims, "absorbed", 1))

    def crossing(num_kv_heads: int) -> int:
        grouped = sum(part.flops for part in grouped_parts(GroupedDims(7168, 128, num_kv_heads, 128), 1))
        core, grouped_core = 2 * 128 * (2 * 512 + 64), 2 * 128 * 2 * 128
        return int((grouped - layer) / (core - grouped_core))

    assert [crossing(128), crossing(8)] == [2654, 586]


def test_premultiplied_weights_have_their_shapes():
    for q_lora_rank in (20, None):
        dims = MlaDims(48, 3, 16, 8, 4, 6, q_lora_rank)
        weights = layer_torch.make_weights(dims.weight_shapes, torch.float32)
        made = mla_layer_torch.premultiply(weights, dims.qk_nope_head_dim)
        assert {name: tuple(value.shape) for name, value in made.items()} == dims.premultiplied_shapes


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="num_q_heads 6 is not a multiple of num_kv_heads 4"):
        GroupedDims(48, 6, 4, 8)


def test_the_arithmetic_does_without_torch():
    program = "import sys; sys.modules['torch'] = None; from mla_kernels import layer_parts"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
