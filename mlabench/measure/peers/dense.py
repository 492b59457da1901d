"""Tokens of a paged cache as peers without pages want them: one behind the other, request after request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DenseTokens:
    """Where the tokens of a batch lie, `slots [tokens]`, and whether that is one behind the other already.

    If so they are read in place: one request in one page (`-a page_size=4096` with `-a kv_len=4096`), or several with a
    page each, under a `--seed` that brings their pages in order. Otherwise they are gathered in the call, which a
    latency then holds; `bind` would gather values that are no longer those of the timed calls.
    """

    slots: "Tensor"
    in_place: bool

    @property
    def layout(self) -> str:
        """In words."""
        return "pages in order, read in place" if self.in_place else "pages gathered in the call"

    def reader(self, cache: "Tensor") -> Callable[[], "Tensor"]:
        """What gives a cache's tokens, `[tokens, num_kv_heads, dim]`, valid until its next call."""
        from mla_kernels.paged_torch import Gather

        if self.in_place:
            tokens = cache.flatten(0, 1)[: len(self.slots)]
            return lambda: tokens
        gather = Gather(cache, self.slots[None])
        return lambda: gather()[0]

    def gathered_bytes(self, *caches: "Tensor") -> int:
        """Bytes of the readers' workspaces."""
        return 0 if self.in_place else sum(len(self.slots) * cache[0, 0].nbytes for cache in caches)


def find_dense(block_table: "Tensor", kv_lens: "Tensor", page_size: int) -> DenseTokens:
    """Read a block table and lengths once; later changes to them are not seen."""
    import torch

    slots = list_slots(block_table, kv_lens, page_size)
    return DenseTokens(slots, torch.equal(slots, torch.arange(len(slots), device=slots.device)))


def list_slots(block_table: "Tensor", kv_lens: "Tensor", page_size: int) -> "Tensor":
    """The cache slots of all tokens, request after request."""
    import torch

    from mla_kernels.paged_torch import find_tokens

    slots = find_tokens(block_table, kv_lens, 1, page_size).slots  # [B, L]
    return slots[torch.arange(slots.shape[1], device=slots.device) < kv_lens[:, None]]
