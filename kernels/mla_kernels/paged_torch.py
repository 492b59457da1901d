"""What the torch backends share: where each request's tokens lie in a paged cache, and which of them a query sees."""

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor


@dataclass(frozen=True)
class PagedTokens:
    """The cached tokens of a batch, padded to the longest request with a slot that holds a token.

    `slots [batch, kv_len]` indexes the cache flattened over pages; `hidden [batch, q_len, kv_len]` marks what a query
    must not see, None where every query sees all; `blind [batch, q_len]` marks queries that see nothing, None where
    there is none. `kv_len` may be 0.
    """

    slots: Tensor
    hidden: Tensor | None
    blind: Tensor | None

    def blank(self, out: Tensor, requests: slice = slice(None)) -> Tensor:
        """`out [batch, q_len, num_q_heads, v_dim]` with zeros where a query sees nothing."""
        return out if self.blind is None else out.masked_fill(self.blind[requests, :, None, None], 0.0)


def find_tokens(block_table: Tensor, kv_lens: Tensor, q_len: int, page_size: int) -> PagedTokens:
    """Read the table and the lengths once, on the host; later changes to them are not seen."""
    table, lengths = block_table.cpu().long(), kv_lens.cpu().long()
    token = torch.arange(int(lengths.max()))
    present = token < lengths[:, None]  # [B, L]
    pages = torch.where(present, table[:, token // page_size], 0)
    slots = pages * page_size + token % page_size
    if not bool(present.all()):
        slots[~present] = slots[present][:1]
    last_seen = (lengths[:, None] - q_len + torch.arange(q_len))[..., None]  # [B, Q, 1]
    hidden = token > last_seen
    blind = last_seen[..., 0] < 0
    device = block_table.device
    return PagedTokens(
        slots.to(device),
        hidden.to(device) if bool(hidden.any()) else None,
        blind.to(device) if bool(blind.any()) else None,
    )


def fill_zero(out: Tensor) -> None:
    """The result of a batch without any cached token."""
    out.zero_()


class Gather:
    """Copies a cache's tokens in order into a workspace of its own: `[batch, kv_len, ...]` from pages.

    `slots [batch, kv_len]` says which; a call may give others of no more requests.
    """

    def __init__(self, cache: Tensor, slots: Tensor) -> None:
        self._cache, self._slots = cache.flatten(0, 1), slots
        self._tokens = cache.new_empty(*slots.shape, *cache.shape[2:])
        self.nbytes = self._tokens.nbytes

    def __call__(self, slots: Tensor | None = None) -> Tensor:
        """The tokens at the slots, valid until the next call."""
        slots = self._slots if slots is None else slots
        tokens = self._tokens[: slots.shape[0]]
        torch.index_select(self._cache, 0, slots.flatten(), out=tokens.flatten(0, 1))
        return tokens


class Attention:
    """scaled_dot_product_attention of `[batch, heads, rows, qk_dim]` over tokens `[batch, kv_len, heads, dim]`.

    On a CPU, whose fused kernel takes values only as wide as the keys, narrower values are widened with zeros in a
    workspace, and the result is cut again.
    """

    def __init__(self, batch: int, kv_len: int, heads: int, qk_dim: int, v_dim: int, like: Tensor) -> None:
        self._v_dim = v_dim
        widen = like.device.type == "cpu" and v_dim < qk_dim
        self._wide = like.new_zeros(batch, kv_len, heads, qk_dim) if widen else None
        self.nbytes = 0 if self._wide is None else self._wide.nbytes

    def __call__(self, rows: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, scale: float) -> Tensor:
        """The result `[batch, heads, rows, v_dim]`; `seen` is a mask that broadcasts to the scores, None for all."""
        if self._wide is not None:
            wide = self._wide[: values.shape[0]]
            wide[..., : self._v_dim].copy_(values)
            values = wide
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
        return functional.scaled_dot_product_attention(rows, keys, values, seen, scale=scale)[..., : self._v_dim]
