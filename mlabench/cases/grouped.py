"""Grouped attention: MHA, GQA and MQA are one formula told apart by `num_kv_heads`.

Source: Ainslie et al., "GQA" (arXiv 2305.13245), section 2.2; Shazeer (arXiv 1911.02150) for MQA.
"""

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from mlabench.cases.tensors import TensorSpec
from mlabench.errors import UsageError

if TYPE_CHECKING:
    from mlabench.cases.layer import GroupedDims


def _divisors(number: int) -> list[int]:
    return [value for value in range(1, min(number, 1024) + 1) if number % value == 0]


@dataclass(frozen=True, slots=True)
class Grouped:
    """`num_q_heads` query heads share `num_kv_heads` cached heads of `head_dim`."""

    num_q_heads: int
    num_kv_heads: int
    head_dim: int

    form: ClassVar[None] = None
    contract: ClassVar[str] = "grouped"

    def __post_init__(self) -> None:
        if self.num_q_heads % self.num_kv_heads:
            raise UsageError(
                f"num_q_heads {self.num_q_heads} is not a multiple of num_kv_heads {self.num_kv_heads}: "
                f"choose one of {', '.join(str(n) for n in _divisors(self.num_q_heads))}, as in -a num_kv_heads=1"
            )

    @property
    def name(self) -> str:
        """`mha`, `mqa` or `gqa`."""
        if self.num_kv_heads == self.num_q_heads:
            return "mha"
        return "mqa" if self.num_kv_heads == 1 else "gqa"

    @property
    def label(self) -> str:
        """Short text for tables and legends: `GQA-8 (128 heads)`."""
        name = f"GQA-{self.num_kv_heads}" if self.name == "gqa" else self.name.upper()
        return f"{name} ({self.num_q_heads} heads)"

    @property
    def core(self) -> "Grouped":
        """The variant whose attention alone this is."""
        return self

    def sizes(self) -> dict[str, int | str]:
        """The variant's own values by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def softmax_scale(self) -> float:
        """1 / sqrt(head_dim)."""
        return 1 / math.sqrt(self.head_dim)

    def layer_dims(self, hidden_size: int, q_lora_rank: int | None) -> "GroupedDims":
        """The dimensions of a layer around it, whose query has no rank of its own."""
        from mlabench.cases.layer import GroupedDims

        del q_lora_rank
        return GroupedDims(hidden_size, self.num_q_heads, self.num_kv_heads, self.head_dim)

    def tensors(self, queries: tuple[int, ...], num_pages: int, page_size: int, dtype: str) -> tuple[TensorSpec, ...]:
        """Query, cache and output tensors of one call; `queries` are the dimensions that count them."""
        query = (*queries, self.num_q_heads, self.head_dim)
        cache = (num_pages, page_size, self.num_kv_heads, self.head_dim)
        return (
            TensorSpec("q", query, dtype, "query"),
            TensorSpec("k_cache", cache, dtype, "kv_cache"),
            TensorSpec("v_cache", cache, dtype, "kv_cache"),
            TensorSpec("out", query, dtype, "output"),
        )

    def flops(self, attended_pairs: int, cached_tokens: int) -> int:
        """FLOP of scores and output over the query-key pairs; two per multiply-add, softmax not counted."""
        del cached_tokens
        return 2 * attended_pairs * self.num_q_heads * 2 * self.head_dim
