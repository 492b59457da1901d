"""What the parts of an attention layer cost: weights, FLOP and bytes from the dimensions alone, without torch.

A layer is its core (the attention kernel) and the parts around it, in the order in which they run. Those of each form
of MLA are in `MLA_PARTS`; every part of that name is a `bind_<part>` in `mla_layer_torch`, or in `layer_torch` where
grouped attention has it too. FLOP are those of the products, two a multiply-add: norms, rotation and the core are not
counted. Bytes moved are the least traffic: weights, inputs and indices read once, outputs written once; the rotary
table and what stays within a part are not counted.

Sources: DeepSeek-V2 (arXiv 2405.04434), section 2.1 and appendix C; DeepSeek-V3 (arXiv 2412.19437), section 2.1.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

INDEX_BYTES = 8
"""A position or a cache slot is an int64."""

MLA_PARTS: dict[str, tuple[str, ...]] = {
    "absorbed": ("query", "latent", "cache_write", "query_absorb", "output_up", "output"),
    "premultiplied": ("query_premultiplied", "latent", "cache_write", "output_premultiplied"),
    "expanded": ("query", "latent", "expand", "cache_write", "output"),
    "recompute": ("query", "latent", "cache_write", "expand_cached", "output"),
}
"""The parts of a layer by form. Output parts run after the core, all others before it.

`premultiplied` is the absorbed form with its matrices multiplied beforehand. `recompute` is also how prefill runs over
a cache of latents: the core is then grouped attention over the expanded tokens. `mla_recompute_decode_torch` holds
`expand_cached` itself.
"""

GROUPED_PARTS = ("qkv", "cache_write", "output")

CORE = "core"
"""The core's name among the parts."""

IN_CORE = ("expand_cached",)
"""Parts that are the core's own work where a layer is built around a kernel of the `recompute` form."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a layer, and what a call of it costs."""

    name: str
    weight_bytes: int
    flops: int
    bytes_moved: int


@dataclass(frozen=True, slots=True)
class MlaDims:
    """An MLA layer, in DeepSeek's names; without `q_lora_rank` the query is projected from the hidden state at once."""

    hidden_size: int
    num_q_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None

    @property
    def qk_head_dim(self) -> int:
        """Columns of a head's query and expanded key."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_dim(self) -> int:
        """Numbers that the cache holds of a token."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def rope_dim(self) -> int:
        """Columns of a head that are turned."""
        return self.qk_rope_head_dim

    @property
    def query_input_dim(self) -> int:
        """Columns of what the heads' queries are projected from."""
        return self.q_lora_rank or self.hidden_size

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The layer's weights by name; matrices are `[..., out, in]`."""
        heads, hidden = self.num_q_heads, self.hidden_size
        query_down: dict[str, tuple[int, ...]] = {}
        if self.q_lora_rank:
            query_down = {"q_a_proj": (self.q_lora_rank, hidden), "q_a_norm": (self.q_lora_rank,)}
        return query_down | {
            "q_b_proj": (heads, self.qk_head_dim, self.query_input_dim),
            "kv_a_proj": (self.latent_dim, hidden),
            "kv_a_norm": (self.kv_lora_rank,),
            "kv_b_proj": (heads, self.qk_nope_head_dim + self.v_head_dim, self.kv_lora_rank),
            "o_proj": (hidden, heads * self.v_head_dim),
        }

    @property
    def premultiplied_shapes(self) -> dict[str, tuple[int, ...]]:
        """What `premultiply` makes of `q_b_proj`, `kv_b_proj` and `o_proj`; matrices are `[..., in, out]` but for the
        rows of `q_b_proj` that are kept.
        """
        heads = self.num_q_heads
        return {
            "q_premultiplied": (heads, self.query_input_dim, self.kv_lora_rank),
            "q_rope_proj": (heads, self.qk_rope_head_dim, self.query_input_dim),
            "o_premultiplied": (heads, self.kv_lora_rank, self.hidden_size),
        }


@dataclass(frozen=True, slots=True)
class GroupedDims:
    """An MHA, GQA or MQA layer. Raises ValueError where the KV heads do not divide the query heads."""

    hidden_size: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int

    def __post_init__(self) -> None:
        if self.num_q_heads % self.num_kv_heads:
            raise ValueError(f"num_q_heads {self.num_q_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")

    @property
    def rope_dim(self) -> int:
        """Columns of a head that are turned: all."""
        return self.head_dim

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The layer's weights by name; matrices are `[..., out, in]`."""
        return {
            "qkv_proj": (self.num_q_heads + 2 * self.num_kv_heads, self.head_dim, self.hidden_size),
            "o_proj": (self.hidden_size, self.num_q_heads * self.head_dim),
        }


@dataclass(frozen=True, slots=True)
class _Count:
    """A part's weights, and of a token the numbers that it reads and writes and the indices that it reads."""

    weights: tuple[tuple[int, ...], ...]
    numbers: int
    indices: int = 0

    def part(self, name: str, tokens: int, dtype_bytes: int) -> Part:
        weight_bytes = sum(prod(shape) for shape in self.weights) * dtype_bytes
        products = sum(prod(shape) for shape in self.weights if len(shape) > 1)
        token_bytes = self.numbers * dtype_bytes + self.indices * INDEX_BYTES
        return Part(name, weight_bytes, 2 * tokens * products, weight_bytes + tokens * token_bytes)


def mla_parts(
    dims: MlaDims, form: str, tokens: int, cached_tokens: int | None = None, dtype_bytes: int = 2
) -> tuple[Part, ...]:
    """The parts of an MLA layer in a form of `MLA_PARTS`, over `tokens` new ones.

    `cached_tokens`, the new ones included, are what `recompute` expands; where it is None there are only new ones.
    """
    counts = _mla_counts(dims, form)
    cached_tokens = tokens if cached_tokens is None else cached_tokens
    return tuple(
        counts[name].part(name, cached_tokens if name == "expand_cached" else tokens, dtype_bytes)
        for name in MLA_PARTS[form]
    )


def grouped_parts(dims: GroupedDims, tokens: int, dtype_bytes: int = 2) -> tuple[Part, ...]:
    """The parts of an MHA, GQA or MQA layer over `tokens` new ones."""
    weights, kv_dim = dims.weight_shapes, 2 * dims.num_kv_heads * dims.head_dim
    q_dim = dims.num_q_heads * dims.head_dim
    counts = {
        "qkv": _Count((weights["qkv_proj"],), dims.hidden_size + q_dim + kv_dim, indices=1),
        "cache_write": _Count((), 2 * kv_dim, indices=1),
        "output": _Count((weights["o_proj"],), q_dim + dims.hidden_size),
    }
    return tuple(counts[name].part(name, tokens, dtype_bytes) for name in GROUPED_PARTS)


def parts_around(dims: MlaDims | GroupedDims, form: str | None, tokens: int, dtype_bytes: int = 2) -> tuple[Part, ...]:
    """The parts that run around a core kernel of the form, None for grouped attention, over `tokens` new ones."""
    if isinstance(dims, GroupedDims):
        return grouped_parts(dims, tokens, dtype_bytes)
    return tuple(part for part in mla_parts(dims, str(form), tokens, None, dtype_bytes) if part.name not in IN_CORE)


def runs_after_core(name: str) -> bool:
    """Whether the part of this name takes what the core gives."""
    return name.startswith("output")


def weight_shapes(dims: MlaDims | GroupedDims, form: str | None) -> dict[str, tuple[int, ...]]:
    """The weights that a layer of the form holds, by name."""
    if isinstance(dims, GroupedDims) or form != "premultiplied":
        return dims.weight_shapes
    replaced = ("q_b_proj", "kv_b_proj", "o_proj")
    kept = {name: shape for name, shape in dims.weight_shapes.items() if name not in replaced}
    return kept | dims.premultiplied_shapes


def handed_on(dims: MlaDims | GroupedDims, form: str | None) -> dict[str, tuple[int, ...]]:
    """What parts give to one another, of each new token, beside the core's query and its result."""
    if isinstance(dims, GroupedDims):
        return {"qkv": (dims.num_q_heads + 2 * dims.num_kv_heads, dims.head_dim)}
    query = (dims.num_q_heads, dims.qk_head_dim)
    value = (dims.num_q_heads, dims.v_head_dim)
    further: dict[str, dict[str, tuple[int, ...]]] = {
        "absorbed": {"unabsorbed_q": query, "heads_out": value},
        "expanded": {"keys": query, "values": value},
    }
    return {"latent": (dims.latent_dim,)} | further.get(str(form), {})


def _mla_counts(dims: MlaDims, form: str) -> Mapping[str, _Count]:
    heads, hidden, rank = dims.num_q_heads, dims.hidden_size, dims.kv_lora_rank
    weights = dims.weight_shapes | dims.premultiplied_shapes
    query_down = tuple(weights[name] for name in ("q_a_proj", "q_a_norm") if name in weights)
    key_up, value_up = (heads, dims.qk_nope_head_dim, rank), (heads, dims.v_head_dim, rank)
    expanded_dim = heads * (dims.qk_head_dim + dims.v_head_dim)
    premultiplied_query = (*query_down, weights["q_premultiplied"], weights["q_rope_proj"])
    expansion, latent_dim = (key_up, value_up), dims.latent_dim
    return {
        "query": _Count((*query_down, weights["q_b_proj"]), hidden + heads * dims.qk_head_dim, indices=1),
        "query_absorb": _Count((key_up,), heads * (dims.qk_nope_head_dim + rank)),
        "query_premultiplied": _Count(premultiplied_query, hidden + heads * latent_dim, indices=1),
        "latent": _Count((weights["kv_a_proj"], weights["kv_a_norm"]), hidden + latent_dim, indices=1),
        "cache_write": _Count((), 2 * (expanded_dim if form == "expanded" else latent_dim), indices=1),
        "expand": _Count(expansion, latent_dim + expanded_dim),
        "expand_cached": _Count(expansion, latent_dim + expanded_dim, indices=1),
        "output_up": _Count((value_up,), heads * (rank + dims.v_head_dim)),
        "output": _Count((weights["o_proj"],), heads * dims.v_head_dim + hidden),
        "output_premultiplied": _Count((weights["o_premultiplied"],), heads * rank + hidden),
    }
