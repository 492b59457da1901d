"""What the torch backends share: where each request's tokens lie in a paged cache, and which of them a query sees."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as functional
from torch import Tensor

from mla_kernels.launch import check_dtype

QUERIES_AT_ONCE = 512
"""Of a request with a prefix."""


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


@dataclass(frozen=True)
class PackedRequest:
    """A request of a packed batch: its queries are rows `start` to `stop`, its tokens at `slots [kv_len]`.

    The queries are the last of the tokens. Rows that see nothing are left out.
    """

    start: int
    stop: int
    slots: Tensor

    def blocks(self, most: int) -> Iterator[tuple[slice, int]]:
        """Rows of at most so many queries, and how many tokens the last of them sees."""
        for first in range(self.start, self.stop, most):
            last = min(first + most, self.stop)
            yield slice(first, last), len(self.slots) - (self.stop - last)


def find_requests(
    block_table: Tensor, kv_lens: Tensor, q_starts: Tensor, page_size: int, total_q: int
) -> list[PackedRequest]:
    """Read table, lengths and starts once, on the host; requests of which no query sees anything are left out.

    Raises ValueError where `q_starts` is not int32, or gives a request rows beyond the `total_q` of the batch.
    """
    check_dtype("q_starts", q_starts, torch.int32)
    starts = q_starts.tolist()
    if (last := max(starts)) > total_q:
        raise ValueError(f"q_starts gives a request queries up to row {last}, out has {total_q}")
    table, lengths, device = block_table.cpu().long(), kv_lens.tolist(), block_table.device
    requests = []
    for pages, kv_len, (start, stop) in zip(table, lengths, pairwise(starts), strict=True):
        token = torch.arange(kv_len)
        slots = (pages[token // page_size] * page_size + token % page_size).to(device)
        requests.append(PackedRequest(max(start, stop - kv_len), stop, slots))
    return [request for request in requests if request.start < request.stop]


class FillBlind:
    """Puts zeros into the rows of a packed output that no request has, since they see nothing."""

    def __init__(self, out: Tensor, requests: list[PackedRequest]) -> None:
        blind = torch.ones(out.shape[0], dtype=torch.bool)
        for request in requests:
            blind[request.start : request.stop] = False
        self._out = out
        self._rows = blind.nonzero().flatten().to(out.device) if bool(blind.any()) else None

    def __call__(self) -> None:
        """Write the zeros."""
        if self._rows is not None:
            self._out.index_fill_(0, self._rows, 0.0)


def fill_zero(out: Tensor) -> None:
    """The result of a batch without any cached token."""
    out.zero_()


class GatherRequest:
    """Copies one request's tokens at a time into a workspace: `[kv_len, ...]` from pages.

    With `width` the last dimension is that wide, filled up with zeros.
    """

    def __init__(self, cache: Tensor, requests: list[PackedRequest], width: int | None = None) -> None:
        longest = max(len(request.slots) for request in requests)
        self._cache, self._dim = cache.flatten(0, 1), cache.shape[-1]
        self._tokens = cache.new_zeros(longest, *cache.shape[2:-1], width or self._dim)
        self.nbytes = self._tokens.nbytes

    def __call__(self, request: PackedRequest) -> Tensor:
        """The request's tokens, valid until the next call."""
        tokens = self._tokens[: len(request.slots)]
        if tokens.shape[-1] == self._dim:
            return torch.index_select(self._cache, 0, request.slots, out=tokens)
        tokens[..., : self._dim] = self._cache.index_select(0, request.slots)
        return tokens


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


class CausalAttention:
    """scaled_dot_product_attention of a packed request's queries over its tokens.

    A request without a prefix is one call, which knows what is causal; any other is walked in blocks of queries, each
    with a mask, so that no mask and no scores are larger than a block's.
    """

    def __init__(self, requests: list[PackedRequest], device: torch.device) -> None:
        with_prefix = [request for request in requests if request.stop - request.start < len(request.slots)]
        longest = max((len(request.slots) for request in with_prefix), default=0)
        rows = min(QUERIES_AT_ONCE, longest)
        self._seen = torch.ones(rows, longest, dtype=torch.bool, device=device).tril(longest - rows)

    def __call__(
        self, q: Tensor, request: PackedRequest, keys: Tensor, values: Tensor, scale: float, out: Tensor
    ) -> None:
        """Attend with the request's rows of `q [total_q, num_q_heads, qk_dim]` over its keys and values
        `[kv_len, num_kv_heads, dim]`, and write as many columns as `out [total_q, num_q_heads, v_dim]` has.
        """
        k, v = (_for_every_head(each, q.shape[1]) for each in (keys, values))  # [1, H, L, D]
        whole = request.stop - request.start == len(request.slots)
        for rows, seen in request.blocks(len(request.slots) if whole else QUERIES_AT_ONCE):
            queries = q[rows].transpose(0, 1)[None]  # [1, H, Q, D]
            mask = None if whole else self._seen[-queries.shape[2] :, -seen:]
            result = functional.scaled_dot_product_attention(
                queries, k[:, :, :seen], v[:, :, :seen], mask, is_causal=whole, scale=scale
            )
            out[rows].copy_(result[0, ..., : out.shape[2]].transpose(0, 1))


def _for_every_head(tokens: Tensor, num_q_heads: int) -> Tensor:
    """`[1, num_q_heads, kv_len, dim]` from `[kv_len, num_kv_heads, dim]`, each head as often as its group has queries.

    On a GPU these are copies: not every fused kernel there takes heads that lie in one place.
    """
    kv_len, num_kv_heads, dim = tokens.shape
    group = num_q_heads // num_kv_heads
    heads = tokens[:, :, None].expand(kv_len, num_kv_heads, group, dim).flatten(1, 2)
    return (heads.contiguous() if tokens.is_cuda else heads).transpose(0, 1)[None]
