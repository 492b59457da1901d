"""What every attention variant has: one protocol, which `Grouped` and `Mla` fulfil."""

from typing import TYPE_CHECKING, Protocol

from mlabench.cases.tensors import TensorSpec

if TYPE_CHECKING:
    from mlabench.cases.layer import Dims


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
    def core(self) -> "Variant":
        """The variant whose attention alone this is; itself unless only layers have it."""
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

    def layer_dims(self, hidden_size: int, q_lora_rank: int | None) -> "Dims":
        """The dimensions of a layer around it."""
        ...

    def tensors(self, queries: tuple[int, ...], num_pages: int, page_size: int, dtype: str) -> tuple[TensorSpec, ...]:
        """Query, cache, weight and output tensors of one call; `queries` are the dimensions that count its queries."""
        ...

    def flops(self, attended_pairs: int, cached_tokens: int) -> int:
        """FLOP of one call, two per multiply-add."""
        ...
