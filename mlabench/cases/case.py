"""A case: one point of a sweep, with the bytes and FLOP that follow from its tensors."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlabench.cases.grouped import Grouped
from mlabench.cases.lengths import split_lengths, split_shares
from mlabench.cases.mla import FORMS, Mla
from mlabench.cases.tensors import BLOCK_TABLE, CASE_DTYPES, DTYPE_BYTES, ROPE_TABLE, TensorSpec
from mlabench.cases.variant import Variant
from mlabench.errors import UsageError, near_names

if TYPE_CHECKING:
    from mlabench.cases.layer import Dims, Part

KvLenDist = Literal["uniform", "ragged"]
Phase = Literal["decode", "prefill"]
Scope = Literal["core", "layer"]

VARIANTS: dict[str, type[Grouped] | type[Mla]] = {"mha": Grouped, "gqa": Grouped, "mqa": Grouped, "mla": Mla}
"""What a variant's name builds."""

ALLOWED: dict[str, tuple[str, ...]] = {
    "variant": tuple(VARIANTS),
    "form": FORMS,
    "kv_len_dist": get_args(KvLenDist),
    "dtype": CASE_DTYPES,
    "phase": get_args(Phase),
    "scope": get_args(Scope),
}
"""The values of each field that is a word."""


@dataclass(frozen=True, slots=True)
class Case:
    """One point: a variant, its phase and scope, and the shape of the batch.

    `kv_len` counts the cached tokens of a request, its `q_len` new ones included; in a `ragged` batch it is the mean.
    In decode every request has `q_len` new tokens; in the prefill of a ragged batch that is a mean too, and each
    request has the same share of new tokens, as far as whole numbers go. `hidden_size` and `q_lora_rank` are those of a
    `layer`, and None for its `core`. `models` names the presets with this very shape and is no part of the identity.
    """

    variant: Variant
    batch: int
    q_len: int
    kv_len: int
    kv_len_dist: str = "uniform"
    page_size: int = 64
    dtype: str = "bfloat16"
    phase: str = "decode"
    scope: str = "core"
    hidden_size: int | None = None
    q_lora_rank: int | None = None
    models: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.kv_len < self.q_len:
            raise UsageError(f"kv_len {self.kv_len} is under q_len {self.q_len}: kv_len counts the new tokens too")
        if self.scope == "layer":
            from mlabench.cases.layer import check_layer

            check_layer(self.variant, self.hidden_size, self.q_lora_rank)
        elif self.variant.core != self.variant:
            raise UsageError(f"form={self.variant.form} is one of whole layers: add -a scope=layer")

    @classmethod
    def from_fields(cls, values: Mapping[str, Any], models: tuple[str, ...] = ()) -> "Case":
        """Build a case from flat values by name; sizes that the variant does not have are ignored.

        Raises `UsageError` for a value that cannot be, naming it.
        """
        for name, allowed in ALLOWED.items():
            if values.get(name) is not None and values[name] not in allowed:
                raise UsageError(f"{name}={values[name]} is unknown: {near_names(str(values[name]), allowed)}")
        for name, value in values.items():
            if isinstance(value, int) and value < 1:
                raise UsageError(f"{name}={value} must be a positive whole number")
        flat, kind = own_fields(values), VARIANTS[values["variant"]]
        variant = kind(**{f.name: flat[f.name] for f in fields(kind) if f.name in flat})
        return cls(variant, models=models, **{name: flat[name] for name in _OWN if name in flat})

    def to_fields(self) -> dict[str, Any]:
        """The flat values that build this case again."""
        own = {name: getattr(self, name) for name in _OWN}
        name, form = self.variant.name, self.variant.form
        return {"variant": name, "form": form, **own_fields({"variant": name, **self.variant.sizes(), **own})}

    @property
    def case_id(self) -> str:
        """Content address: twelve hexadecimal digits of the case's own values."""
        text = json.dumps(self.to_fields(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def contract(self) -> str:
        """The set of tensors that the case's kernels take: the variant's, with `_prefill` behind it in that phase."""
        return f"{self.variant.contract}_prefill" if self.phase == "prefill" else self.variant.contract

    @property
    def label(self) -> str:
        """One line for people."""
        ragged = " ragged" if self.kv_len_dist == "ragged" else ""
        phase = " prefill" if self.phase == "prefill" else ""
        tokens = f"{phase} q_len {self.q_len}" if phase or self.q_len > 1 else ""
        layer = f" layer of {self.hidden_size}" if self.scope == "layer" else ""
        return f"{self.variant.label}{layer} batch {self.batch}{tokens} kv_len {self.kv_len}{ragged} {self.dtype}"

    @property
    def kv_lens(self) -> tuple[int, ...]:
        """Cached tokens of each request; they sum to `batch * kv_len` unless the least one of a request binds.

        That is `q_len` in decode, and 1 in prefill.
        """
        least = self.q_len if self.phase == "decode" else 1
        return split_lengths(self.batch, self.kv_len, least, self.kv_len_dist)

    @property
    def q_lens(self) -> tuple[int, ...]:
        """New tokens of each request; in prefill a share of its tokens, at least one.

        They sum to `batch * q_len` wherever `kv_lens` sum to `batch * kv_len`.
        """
        if self.phase == "decode" or self.kv_len_dist == "uniform":
            return (self.q_len,) * self.batch
        return split_shares(self.kv_lens, round(self.cached_tokens * self.q_len / self.kv_len))

    @property
    def new_tokens(self) -> int:
        """Queries of one call, over the batch."""
        return sum(self.q_lens)

    @property
    def max_pages_per_request(self) -> int:
        """Width of the block table."""
        return math.ceil(max(self.kv_lens) / self.page_size)

    @property
    def num_pages(self) -> int:
        """Pages that the batch occupies."""
        requests = Counter(self.kv_lens)
        return sum(-(-length // self.page_size) * count for length, count in requests.items())

    @property
    def core(self) -> "Case":
        """The case of its attention alone; itself unless its scope is `layer`."""
        if self.scope == "core":
            return self
        return replace(self, variant=self.variant.core, scope="core", hidden_size=None, q_lora_rank=None)

    @property
    def dims(self) -> "Dims":
        """The dimensions of a case whose scope is `layer`."""
        return self.variant.layer_dims(self.hidden_size or 0, self.q_lora_rank)

    @property
    def parts(self) -> "tuple[Part, ...]":
        """What a layer is made of, its core among it, in the order in which it runs, and what each part costs."""
        if self.scope == "core":
            return ()
        from mlabench.cases.layer import layer_costs

        return layer_costs(self.core, self.dims, self.variant.form)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor of one call."""
        return _specs(self)

    @property
    def cached_tokens(self) -> int:
        """Tokens in the cache, over the batch."""
        return sum(self.kv_lens)

    @property
    def attended_pairs(self) -> int:
        """Query-key pairs under the causal mask among the new tokens."""
        lengths = zip(self.q_lens, self.kv_lens, strict=True)
        return sum(q_len * kv_len - q_len * (q_len - 1) // 2 for q_len, kv_len in lengths)

    @property
    def kv_cache_bytes_per_token(self) -> int:
        """Cache bytes of one token in one layer."""
        return sum(spec.slot_bytes for spec in self.specs if spec.role == "kv_cache")

    @property
    def kv_cache_bytes(self) -> int:
        """Cache bytes of the batch's tokens in one layer; what one call must read."""
        return self.kv_cache_bytes_per_token * self.cached_tokens

    @property
    def kv_cache_allocated_bytes(self) -> int:
        """Cache bytes that the batch's pages occupy, the unused slots of last pages included."""
        return sum(spec.nbytes for spec in self.specs if spec.role == "kv_cache")

    @property
    def memory_bytes(self) -> int:
        """Bytes of all tensors of the call; a kernel's workspace comes on top."""
        return sum(spec.nbytes for spec in self.specs)

    @property
    def bytes_moved(self) -> int:
        """The least traffic of one call: every input, cached token and weight read once, every output written once.

        In a layer every part counts for itself: what one hands to another is written and read once.
        """
        return sum(part.bytes_moved for part in self.parts) if self.scope == "layer" else self.unavoidable_bytes

    @property
    def unavoidable_bytes(self) -> int:
        """The traffic that no call can spare: in a layer without what its parts hand on, which a cache may hold.

        Of the block table only the entries that name a page count; a ragged batch's has others, which nothing reads.
        New tokens' cache rows are written where those of others are read. Of the rotary table few rows are read.
        """
        page_ids = self.num_pages * DTYPE_BYTES["int32"]
        spared = ("kv_cache", "intermediate")
        whole = [spec for spec in self.specs if spec.role not in spared and spec.name not in (BLOCK_TABLE, ROPE_TABLE)]
        return self.kv_cache_bytes + page_ids + sum(spec.nbytes for spec in whole)

    @property
    def flops(self) -> int:
        """FLOP of one call, two per multiply-add, softmax not counted."""
        if self.scope == "layer":
            return sum(part.flops for part in self.parts)
        return self.variant.flops(self.attended_pairs, self.cached_tokens)


_OWN = tuple(f.name for f in fields(Case) if f.name not in ("variant", "models"))
_OF_LAYERS = ("hidden_size", "q_lora_rank")


def own_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The flat values without the sizes that their variant or scope does not have; MHA and MQA give `num_kv_heads`."""
    name = values["variant"]
    flat = dict(values)
    if name in ("mha", "mqa"):
        flat["num_kv_heads"] = values["num_q_heads"] if name == "mha" else 1
    own = {"variant", *_OWN, *(f.name for f in fields(VARIANTS[name]))}
    if values.get("scope") != "layer":
        own.difference_update(_OF_LAYERS)
    elif VARIANTS[name] is Grouped:
        own.remove("q_lora_rank")
    return {key: value for key, value in flat.items() if key in own}


@lru_cache(maxsize=64)
def _specs(case: Case) -> tuple[TensorSpec, ...]:
    """Every number of a case that is summed up asks for them in turn."""
    if case.scope == "layer":
        from mlabench.cases.layer import layer_specs

        return layer_specs(case.core, case.dims, case.variant.form)
    packed = case.phase == "prefill"
    queries = (case.new_tokens,) if packed else (case.batch, case.q_len)
    starts = (TensorSpec("q_starts", (case.batch + 1,), "int32", "table"),) if packed else ()
    return (
        *case.variant.tensors(queries, case.num_pages, case.page_size, case.dtype),
        TensorSpec("lse", (*queries, case.variant.num_q_heads), "float32", "output"),
        TensorSpec(BLOCK_TABLE, (case.batch, case.max_pages_per_request), "int32", "table"),
        TensorSpec("kv_lens", (case.batch,), "int32", "table"),
        *starts,
    )
