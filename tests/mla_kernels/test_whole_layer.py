"""Layers bound around a core kernel, and the float64 references of what runs before and behind it."""

from dataclasses import replace

import pytest
import torch

from mla_kernels import (
    grouped_decode_torch,
    grouped_prefill_torch,
    layer,
    mla_decode_torch,
    mla_prefill_torch,
    mla_recompute_decode_torch,
    reference,
    reference_layer,
)
from mla_kernels.launch import Launch
from mla_kernels.layer_parts import CORE, handed_on, parts_around, weight_shapes
from mla_kernels.rope import rope_table
from tests.mla_kernels import cases, layers

FORMS = ("absorbed", "premultiplied", "recompute", "expanded", None)
"""None is grouped attention."""

CORES = {
    "absorbed": mla_decode_torch.bind,
    "premultiplied": mla_decode_torch.bind,
    "recompute": mla_recompute_decode_torch.bind,
    "expanded": grouped_decode_torch.bind,
    None: grouped_decode_torch.bind,
}
PREFILL_CORES = {
    "absorbed": mla_prefill_torch.bind,
    "premultiplied": mla_prefill_torch.bind,
    "expanded": grouped_prefill_torch.bind,
    None: grouped_prefill_torch.bind,
}
LENS = (11, 3, 6)
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)


def dims_of(form):
    return layers.MLA if form else layers.GQA


def weights_of(form, dtype, dims):
    if form is None:
        return layers.layer_torch.make_weights(dims.weight_shapes, dtype)
    every = layers.mla_weights(dims, dtype)
    return {name: every[name] for name in weight_shapes(dims, form)}


def states(dtype, dims, lens=LENS):
    return [layers.make_hidden(length, dims.hidden_size, dtype, seed=length) for length in lens]


def plain(form, dims, own):
    """The whole of each request's output by a formula without cache, from the weights that all forms share."""
    dtype = own[0].dtype
    if form is None:
        return [layers.plain_grouped(dims, weights_of(None, dtype, dims), state) for state in own]
    return [layers.plain_mla(dims, layers.mla_weights(dims, dtype), state) for state in own]


def make_tensors(form, dims, hidden, q_lens, cached=None, lens=LENS, packed=False):
    """Every tensor that `layer.bind` takes, in NaN but for inputs; `cached` rows by request are put into the cache."""
    dtype, tokens, heads = hidden.dtype, len(hidden), dims.num_q_heads
    latent = form in ("absorbed", "premultiplied", "recompute")
    if form is None:
        shapes, q_dim, v_dim = [(dims.num_kv_heads, dims.head_dim)] * 2, dims.head_dim, dims.head_dim
    else:
        absorbed = form in ("absorbed", "premultiplied")
        q_dim, v_dim = (dims.latent_dim, dims.kv_lora_rank) if absorbed else (dims.qk_head_dim, dims.v_head_dim)
        shapes = [(dims.latent_dim,)] if latent else [(heads, dims.qk_head_dim), (heads, dims.v_head_dim)]
    cache = layers.Cache.empty(lens, shapes, hidden)
    caches = dict(zip(("kv_cache",) if latent else ("k_cache", "v_cache"), cache.caches, strict=True))
    for request, rows in enumerate(cached or ()):
        for name, row in rows.items():
            position = torch.arange(len(row))
            slots = cache.block_table[request, position // cache.page_size].long() * cache.page_size
            caches[name].flatten(0, 1)[slots + position % cache.page_size] = row.to(dtype)
    queries = (tokens,) if packed else (len(lens), tokens // len(lens))

    def empty(*shape):
        return torch.full(shape, torch.nan, dtype=dtype)

    tables = {"block_table": cache.block_table, "kv_lens": torch.tensor(lens, dtype=torch.int32)}
    if packed:
        tables["q_starts"] = torch.tensor([0, *torch.tensor(q_lens).cumsum(0)], dtype=torch.int32)
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    return {
        "hidden": hidden,
        **weights_of(form, dtype, dims),
        **caches,
        **tables,
        "rope_table": torch.view_as_real(rope_table(max(lens), dims.rope_dim, dtype=complex_dtype)),
        "q": empty(*queries, heads, q_dim),
        "out": empty(*queries, heads, v_dim),
        "lse": torch.full((*queries, heads), torch.nan),
        **{name: empty(tokens, *shape) for name, shape in handed_on(dims, form).items()},
        "output": empty(tokens, dims.hidden_size),
    }


def scale(form, dims):
    return (dims.qk_head_dim if form else dims.head_dim) ** -0.5


def before_core(form, dims, hidden, positions):
    weights = weights_of(form, hidden.dtype, dims)
    if form is None:
        return reference_layer.grouped_before_core(weights, hidden, positions, dims.num_q_heads)
    return reference_layer.mla_before_core(form, weights, hidden, positions, dims.num_q_heads, dims.rope_dim)


def decode(form, dtype, dims=None, q_len=1):
    """A layer over the last tokens of requests whose others are cached, its tensors, and what must come of it."""
    dims = dims or dims_of(form)
    own = states(dtype, dims)
    cached = [before_core(form, dims, state, torch.arange(len(state)))[1] for state in own]
    cached = [{name: row[: len(row) - q_len] for name, row in rows.items()} for rows in cached]
    hidden = torch.cat([state[-q_len:] for state in own])
    tensors = make_tensors(form, dims, hidden, (q_len,) * len(own), cached)
    want = torch.cat([output[-q_len:] for output in plain(form, dims, own)])
    return layer.bind(form, CORES[form], tensors, scale(form, dims)), tensors, want


def expect(got, want):
    assert layers.relative_error(got, want) <= layers.RELATIVE_ERROR_LIMITS[got.dtype]


@DTYPES
@pytest.mark.parametrize("q_len", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_a_decode_step_is_the_formula(form, q_len, dtype):
    bound, tensors, want = decode(form, dtype, q_len=q_len)
    bound()
    expect(tensors["output"], want)


@pytest.mark.parametrize("form", ["absorbed", "premultiplied", "recompute", "expanded"])
def test_the_query_may_come_from_the_hidden_state_at_once(form):
    bound, tensors, want = decode(form, torch.float64, replace(layers.MLA, q_lora_rank=None))
    bound()
    expect(tensors["output"], want)


@DTYPES
def test_all_forms_are_one_function_of_the_same_weights(dtype):
    outputs = {}
    for form in ("absorbed", "premultiplied", "recompute", "expanded"):
        bound, tensors, _ = decode(form, dtype)
        bound()
        outputs[form] = tensors["output"]
    for output in outputs.values():
        expect(output, outputs["absorbed"])


@DTYPES
@pytest.mark.parametrize("form", PREFILL_CORES)
def test_a_prefill_of_requests_of_several_lengths_is_the_formula(form, dtype):
    dims = dims_of(form)
    own = states(dtype, dims)
    tensors = make_tensors(form, dims, torch.cat(own), LENS, packed=True)
    layer.bind(form, PREFILL_CORES[form], tensors, scale(form, dims))()
    expect(tensors["output"], torch.cat(plain(form, dims, own)))


@pytest.mark.parametrize("form", FORMS)
def test_the_references_around_a_reference_of_the_core_are_the_formula(form):
    dims, lens = dims_of(form), (9,)
    (state,) = states(torch.float64, dims, lens)
    q, rows = before_core(form, dims, state, torch.arange(9))
    shapes = [tuple(row.shape[1:]) for row in rows.values()]
    _, block_table, kv_lens = cases.paged_cache(lens, 4, shapes, torch.float64, 0, "cpu")
    tensors = make_tensors(form, dims, state, (9,), [rows], lens)
    caches = {name: tensors[name] for name in rows}
    common = {"block_table": block_table, "kv_lens": kv_lens, "softmax_scale": scale(form, dims)}
    weights = weights_of(form, torch.float64, dims)
    if form == "recompute":
        more = {"kv_b_proj": weights["kv_b_proj"], "v_head_dim": dims.v_head_dim}
        out, _ = reference.mla_recompute_decode(q[None], **caches, **common, **more)
    elif "kv_cache" in rows:
        out, _ = reference.mla_absorbed_decode(q[None], **caches, **common, kv_lora_rank=dims.kv_lora_rank)
    else:
        out, _ = reference.grouped_decode(q[None], **caches, **common)
    expect(reference_layer.after_core(form, weights, out[0]), plain(form, dims, [state])[0])


@pytest.mark.parametrize("form", FORMS)
def test_parts_run_in_the_order_in_which_they_are_counted(form):
    bound, _, _ = decode(form, torch.float32)
    names = [part.name for part in parts_around(dims_of(form), form, 3)]
    assert [name for name in bound.parts if name != CORE] == names
    place = list(bound.parts).index(CORE)
    assert [name.startswith("output") for name in names] == [number >= place for number in range(len(names))]


@pytest.mark.parametrize("form", FORMS)
def test_parts_called_one_by_one_are_the_layer(form):
    bound, tensors, want = decode(form, torch.float64)
    for part in bound.parts.values():
        part()
        part()
    expect(tensors["output"], want)


@pytest.mark.parametrize("form", FORMS)
def test_new_rows_are_those_of_the_reference_and_can_be_poisoned(form):
    bound, tensors, _ = decode(form, torch.float64)
    bound()
    dims, own = dims_of(form), states(torch.float64, dims_of(form))
    wanted = [before_core(form, dims, state, torch.arange(len(state)))[1] for state in own]
    rows = bound.new_rows()
    for name, row in rows.items():
        expect(row, torch.stack([each[name][-1] for each in wanted]))
    unused = {name: tensors[name].isnan().sum() for name in rows}
    bound.fill_new_rows(torch.nan)
    for name, row in rows.items():
        assert tensors[name].isnan().sum() == unused[name] + row.numel()
        assert bound.new_rows()[name].isnan().all()
    bound()
    assert all(row.equal(bound.new_rows()[name]) for name, row in rows.items())


def test_a_layer_tells_what_its_core_chose_and_what_all_of_it_allocates():
    bound, tensors, _ = decode("recompute", torch.float32)
    own = {name: tensors[name] for name in layer.CORE_TENSORS if name in tensors}
    core = mla_recompute_decode_torch.bind(**own, kv_b_proj=tensors["kv_b_proj"], softmax_scale=1.0)
    assert bound.config == core.config
    assert bound.workspace_bytes == core.workspace_bytes > 0


def test_rope_turns_by_the_position():
    """The same new token behind the same cache, further on: only the distances differ, and the output does too."""
    outputs = []
    for lens in ((9,), (14,)):
        hidden = layers.make_hidden(1, layers.MLA.hidden_size, torch.float64)
        rows = torch.linspace(-1, 1, 8 * layers.MLA.latent_dim, dtype=torch.float64).view(8, -1)
        padding = torch.zeros(lens[0] - 9, layers.MLA.latent_dim, dtype=torch.float64)
        cached = [{"kv_cache": torch.cat((padding, rows))}]
        tensors = make_tensors("absorbed", layers.MLA, hidden, (1,), cached, lens)
        bound = layer.bind("absorbed", mla_decode_torch.bind, tensors, scale("absorbed", layers.MLA))
        bound()
        outputs.append(bound.new_rows()["kv_cache"][0])
    rank = layers.MLA.kv_lora_rank
    assert outputs[0][:rank].equal(outputs[1][:rank])
    assert not outputs[0][rank:].allclose(outputs[1][rank:])
    assert outputs[0][rank:].norm() == pytest.approx(float(outputs[1][rank:].norm()))


@pytest.mark.parametrize("form", FORMS)
def test_a_core_that_allocates_what_it_returns_is_read_there(form):
    """As peers do: a new tensor in each call, and nothing in `out`."""

    class Own:
        workspace_bytes = None

        def __init__(self, **tensors):
            self.config, self._tensors, self.outputs = {"package": "1.0"}, tensors, ()
            self()

        def __call__(self):
            out = torch.full_like(self._tensors["out"], torch.nan)
            CORES[form](**self._tensors | {"out": out})()
            # Some give a view in which heads come first.
            self.outputs = ({"out": out.transpose(1, 2).contiguous().transpose(1, 2)},)

    dims = dims_of(form)
    _, tensors, want = decode(form, torch.float64)
    bound = layer.bind(form, Own, tensors, scale(form, dims))
    tensors["out"].fill_(torch.nan)
    bound()
    assert tensors["out"].isnan().all()
    expect(tensors["output"], want)
    assert bound.config == {"package": "1.0"}
    assert bound.workspace_bytes is None


def test_the_core_is_bound_to_what_the_parts_before_it_give():
    seen = {}

    def bind_core(**tensors):
        seen.update({name: tensors[name].clone() for name in ("q", "kv_cache")})
        return Launch({}, 0, lambda: None)

    bound, tensors, _ = decode("absorbed", torch.float32)
    for name in ("q", "latent", "unabsorbed_q"):
        tensors[name].fill_(torch.nan)
    bound.fill_new_rows(torch.nan)
    layer.bind("absorbed", bind_core, tensors, 1.0)
    assert not seen["q"].isnan().any()
    assert not seen["kv_cache"].flatten(0, 1)[bound.slots].isnan().any()


def test_tensors_that_contradict_are_refused():
    _, tensors, _ = decode("absorbed", torch.float32)
    with pytest.raises(ValueError, match="kv_a_proj has shape"):
        layer.bind("absorbed", CORES["absorbed"], tensors | {"kv_a_proj": torch.zeros(3, 48)}, 1.0)
