"""A case: one point of a sweep, with the bytes and FLOP that follow from its tensors."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, get_args

from mlabench.cases.grouped import Grouped
from mlabench.cases.lengths import split_lengths, split_shares
from mlabench.cases.mla import FORMS, Mla
from mlabench.cases.tensors import CASE_DTYPES, DTYPE_BYTES, TensorSpec
from mlabench.errors import UsageError, near_names

KvLenDist = Literal["uniform", "ragged"]
Phase = Literal["decode", "prefill"]

VARIANTS: dict[str, type[Grouped] | type[Mla]] = {"mha": Grouped, "gqa": Grouped, "mqa": Grouped, "mla": Mla}
"""What a variant's name builds."""

ALLOWED: dict[str, tuple[str, ...]] = {
    "variant": tuple(VARIANTS),
    "form": FORMS,
    "kv_len_dist": get_args(KvLenDist),
    "dtype": CASE_DTYPES,
    "phase": get_args(Phase),
    "scope": ("core",),
}
"""The values of each field that is a word."""

BLOCK_TABLE = "block_table"


class Variant(Protocol):
    """An attention mechanism with its shape."""

    @property
    def name(self) -> str:
        """The word that stands for it on the command line."""
        ...

    @property
    def form(self) -> str | None:
        """How MLA runs; None for grouped attention."""
        ...

    @property
    def contract(self) -> str:
        """The set of tensors that its kernels take in decode; see `Case.contract`."""
        ...

    @property
    def label(self) -> str:
        """Short text for tables and legends."""
        ...

    @property
    def num_q_heads(self) -> int:
        """Query heads."""
        ...

    @property
    def softmax_scale(self) -> float:
        """What the scores are multiplied by."""
        ...

    def sizes(self) -> dict[str, int | str]:
        """The variant's own values by name."""
        ...

    def tensors(self, queries: tuple[int, ...], num_pages: int, page_size: int, dtype: str) -> tuple[TensorSpec, ...]:
        """Query, cache, weight and output tensors of one call; `queries` are the dimensions that count its queries."""
        ...

    def flops(self, attended_pairs: int, cached_tokens: int) -> int:
        """FLOP of one call, two per multiply-add."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One point: a variant, its phase and scope, and the shape of the batch.

    `kv_len` counts the cached tokens of a request, its `q_len` new ones included; in a `ragged` batch it is the mean.
    In decode every request has `q_len` new tokens; in the prefill of a ragged batch that is a mean too, and each
    request has the same share of new tokens, as far as whole numbers go. `models` names the presets with this very
    shape and is no part of the identity.
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
    models: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.kv_len < self.q_len:
            raise UsageError(f"kv_len {self.kv_len} is under q_len {self.q_len}: kv_len counts the new tokens too")

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
        return {"variant": self.variant.name, "form": self.variant.form, **self.variant.sizes(), **own}

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
        return f"{self.variant.label} batch {self.batch}{tokens} kv_len {self.kv_len}{ragged} {self.dtype}"

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
        return sum(math.ceil(length / self.page_size) for length in self.kv_lens)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor of one call."""
        packed = self.phase == "prefill"
        queries = (self.new_tokens,) if packed else (self.batch, self.q_len)
        starts = (TensorSpec("q_starts", (self.batch + 1,), "int32", "table"),) if packed else ()
        return (
            *self.variant.tensors(queries, self.num_pages, self.page_size, self.dtype),
            TensorSpec("lse", (*queries, self.variant.num_q_heads), "float32", "output"),
            TensorSpec(BLOCK_TABLE, (self.batch, self.max_pages_per_request), "int32", "table"),
            TensorSpec("kv_lens", (self.batch,), "int32", "table"),
            *starts,
        )

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

        Of the block table only the entries that name a page; a ragged batch's has others, which nothing reads.
        """
        page_ids = self.num_pages * DTYPE_BYTES["int32"]
        whole = sum(spec.nbytes for spec in self.specs if spec.role != "kv_cache" and spec.name != BLOCK_TABLE)
        return self.kv_cache_bytes + page_ids + whole

    @property
    def flops(self) -> int:
        """FLOP of one call, two per multiply-add, softmax not counted."""
        return self.variant.flops(self.attended_pairs, self.cached_tokens)


_OWN = tuple(f.name for f in fields(Case) if f.name not in ("variant", "models"))


def own_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The flat values without the sizes that their variant does not have; MHA and MQA give `num_kv_heads`."""
    name = values["variant"]
    flat = dict(values)
    if name in ("mha", "mqa"):
        flat["num_kv_heads"] = values["num_q_heads"] if name == "mha" else 1
    own = {"variant", *_OWN, *(f.name for f in fields(VARIANTS[name]))}
    return {key: value for key, value in flat.items() if key in own}
