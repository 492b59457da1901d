"""Whole attention layers: the parts of a form in order around a core kernel, for decode and for prefill.

`layer_parts` says which parts a form has, what they weigh and what they hand on; `mla_layer_torch`,
`grouped_layer_torch` and `layer_torch` hold them. The core is any kernel of the form's contract: absorbed MLA for
`absorbed` and `premultiplied`, grouped attention for `expanded` and for MHA, GQA and MQA, `recompute` for itself, which
expands the cached latents in the core.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mla_kernels import grouped_layer_torch, layer_torch, mla_layer_torch
from mla_kernels.layer_parts import CORE, GROUPED_PARTS, IN_CORE, MLA_PARTS, runs_after_core

Call = Callable[[], None]

CORE_TENSORS = ("q", "kv_cache", "k_cache", "v_cache", "block_table", "kv_lens", "q_starts", "out", "lse")
"""What a core kernel takes, as far as its form and phase have it; `recompute` takes `kv_b_proj` too."""

CACHES = ("kv_cache", "k_cache", "v_cache")

RESULTS = {"output_up": "latent_out", "output_premultiplied": "latent_out", "output": "heads_out"}
"""By part after the core, what it calls the result that it takes; only the first of them takes the core's."""


@dataclass(frozen=True)
class Layer:
    """A layer bound to its tensors: call it to enqueue all of its parts.

    `parts` are the same calls by name, in order, the core among them. `slots` are where the new tokens' rows lie in
    `caches` flattened over pages. `config` and `workspace_bytes` are as of a `Launch`, the latter None where the core
    does not say; `core` is the bound kernel.
    """

    parts: Mapping[str, Call]
    core: Any
    caches: Mapping[str, Tensor]
    slots: Tensor
    config: Mapping[str, int | str | float]
    workspace_bytes: int | None

    def __call__(self) -> None:
        """Enqueue the work on the current stream."""
        for part in self.parts.values():
            part()

    def new_rows(self) -> dict[str, Tensor]:
        """What the caches hold of the new tokens, by name: `[tokens, ...]`, copies."""
        return {name: cache.flatten(0, 1)[self.slots] for name, cache in self.caches.items()}

    def fill_new_rows(self, value: float) -> None:
        """Set what the caches hold of the new tokens to a value."""
        for cache in self.caches.values():
            cache.flatten(0, 1).index_fill_(0, self.slots, value)


def bind(form: str | None, bind_core: Callable[..., Any], tensors: Mapping[str, Tensor], softmax_scale: float) -> Layer:
    """Bind the parts of a form of `layer_parts.MLA_PARTS`, None for grouped attention, and the core between them.

    `tensors` by name: `hidden` and `output [tokens, hidden_size]`; the weights of `layer_parts.weight_shapes`; what
    `layer_parts.handed_on` says, `[tokens, ...]`; `rope_table`, float32 `[positions, rope_dim / 2, 2]`, cosines and
    sines; and those of `CORE_TENSORS` as the core takes them. New tokens are the last of each request: as many of each,
    or with `q_starts` (prefill) as that says. Where they lie is computed here, as an engine does once a step.

    Raises ValueError for tensors that contradict each other, and what `bind_core` raises.
    """
    caches = {name: tensors[name] for name in CACHES if name in tensors}
    positions, slots = _place(tensors, caches)
    where = {"positions": positions, "rope_table": torch.view_as_complex(tensors["rope_table"])}
    rows = {"slots": slots, "caches": list(caches.values())}
    arguments = _mla_arguments(form, tensors, where, rows) if form else _grouped_arguments(tensors, where, rows)
    names = [name for name in (MLA_PARTS[form] if form else GROUPED_PARTS) if name not in IN_CORE]
    before = {name: _bind(name, arguments[name]) for name in names if not runs_after_core(name)}
    for part in before.values():  # so that the core is bound to what it will be given
        part()
    core = bind_core(**_core_tensors(form, tensors), softmax_scale=softmax_scale)
    out = tensors["out"]
    after = {name: _bind_after(name, arguments[name], core, out) for name in names if runs_after_core(name)}
    own = [getattr(part, "workspace_bytes", 0) for part in (*before.values(), *after.values())]
    core_bytes = getattr(core, "workspace_bytes", None)
    return Layer(
        {**before, CORE: core, **after},
        core,
        caches,
        slots,
        getattr(core, "config", {}),
        None if core_bytes is None else core_bytes + sum(own),
    )


def _place(tensors: Mapping[str, Tensor], caches: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Positions and cache slots of the new tokens."""
    kv_lens, tokens = tensors["kv_lens"], len(tensors["hidden"])
    if "q_starts" in tensors:
        starts = tensors["q_starts"].long()
    else:
        starts = torch.arange(len(kv_lens) + 1, device=kv_lens.device) * (tokens // len(kv_lens))
    page_size = next(iter(caches.values())).shape[1]
    return layer_torch.place_tokens(starts, kv_lens.long(), tensors["block_table"], page_size)


def _core_tensors(form: str | None, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = (*CORE_TENSORS, "kv_b_proj") if form == "recompute" else CORE_TENSORS
    return {name: tensors[name] for name in names if name in tensors}


def _packed(tensor: Tensor) -> Tensor:
    """`[tokens, num_q_heads, dim]` of the core's query or result, which in decode are of a batch of requests."""
    return tensor.flatten(0, tensor.ndim - 3)


def _mla_arguments(
    form: str, tensors: Mapping[str, Tensor], where: Mapping[str, Tensor], rows: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What each part's bind takes, as far as the form has its tensors; `_bind_after` adds the core's result."""

    def pick(*names: str) -> dict[str, Any]:
        return {name: tensors[name] for name in names if name in tensors}

    q, rope_dim = _packed(tensors["q"]), 2 * where["rope_table"].shape[1]
    down, query, absorb, up = pick("hidden", "q_a_proj", "q_a_norm"), {"q": q}, {}, {}
    if "kv_b_proj" in tensors:
        nope_dim = tensors["q_b_proj"].shape[1] - rope_dim
        k_up_proj, v_up_proj = mla_layer_torch.split_kv_b_proj(tensors["kv_b_proj"], nope_dim)
        up = {"k_up_proj": k_up_proj, "v_up_proj": v_up_proj}
    if form == "absorbed":
        unabsorbed_q = tensors["unabsorbed_q"]
        query = {"q": unabsorbed_q, "q_rope": q[..., -rope_dim:]}
        absorb = {"q_nope": unabsorbed_q[..., :-rope_dim], "absorbed": q[..., :-rope_dim], "k_up_proj": up["k_up_proj"]}
    cached = ("keys", "values") if form == "expanded" else ("latent",)
    return {
        "query": {**down, **pick("q_b_proj"), **where, **query},
        "query_absorb": absorb,
        "query_premultiplied": {**down, **pick("q_premultiplied", "q_rope_proj"), **where, "q": q},
        "latent": {**pick("hidden", "kv_a_proj", "kv_a_norm", "latent"), **where},
        "expand": {**pick("latent", "keys", "values"), **up},
        "cache_write": {**rows, "rows": [tensors[name] for name in cached]},
        "output_up": {**pick("heads_out"), "v_up_proj": up.get("v_up_proj")},
        "output": pick("heads_out", "o_proj", "output"),
        "output_premultiplied": pick("o_premultiplied", "output"),
    }


def _grouped_arguments(
    tensors: Mapping[str, Tensor], where: Mapping[str, Tensor], rows: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The same of grouped attention."""
    q, qkv = _packed(tensors["q"]), tensors["qkv"]
    return {
        "qkv": {"hidden": tensors["hidden"], "qkv_proj": tensors["qkv_proj"], "qkv": qkv, "q": q, **where},
        "cache_write": {**rows, "rows": grouped_layer_torch.split_kv(qkv, q.shape[1])},
        "output": {"o_proj": tensors["o_proj"], "output": tensors["output"]},
    }


def _bind_after(name: str, arguments: Mapping[str, Any], core: Any, out: Tensor) -> Call:
    """A part behind the core; where the core allocates what it returns, bound in each call to what that is."""
    result = RESULTS[name]
    if result in arguments:
        return _bind(name, arguments)
    if not hasattr(core, "outputs"):
        return _bind(name, {**arguments, result: _packed(out)})

    def run() -> None:
        written = core.latest if hasattr(core, "latest") else core.outputs[-1]
        _bind(name, {**arguments, result: _packed(written["out"]).contiguous()})()

    return run


def _bind(name: str, arguments: Mapping[str, Any]) -> Call:
    for module in (mla_layer_torch, grouped_layer_torch, layer_torch):
        if (function := getattr(module, f"bind_{name}", None)) is not None:
            part: Call = function(**arguments)
            return part
    raise ValueError(f"there is no part {name}")
