"""What a call costs as a linear function of what it counts: its requests, queries, tokens, pages and attended pairs.

The factors are read off a few tiny cases, so that bytes and FLOP have no second formula here, and the bytes and FLOP of
many sizes, and the sizes at which two of them are level, follow without a tensor being listed.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

from mlabench.cases.case import Case
from mlabench.cases.variant import Variant

_COUNTED = ("variant", "batch", "q_len", "kv_len", "kv_len_dist", "models")
_KIND = tuple(f.name for f in fields(Case) if f.name not in _COUNTED)
_kind_of = attrgetter(*_KIND)


@dataclass(frozen=True, slots=True)
class Counts:
    """What one call counts over its batch; `pairs` are the query-key pairs under the causal mask."""

    requests: float
    queries: float
    tokens: float
    pages: float
    pairs: float


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes that a call must move, its FLOP, and the bytes of its cache, in one layer."""

    kv_cache_bytes: int
    bytes_moved: int
    flops: int


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes and FLOP of a call for each thing that it counts, and what it costs whatever it counts."""

    kv_cache_bytes_per_token: int
    bytes_per_call: int
    bytes_per_request: int
    bytes_per_query: int
    bytes_per_page: int
    bytes_per_token: int
    flops_per_call: int
    flops_per_query: int
    flops_per_pair: int
    flops_per_token: int

    def bytes_moved(self, counts: Counts) -> float:
        """The least traffic of a call."""
        return (
            self.bytes_per_call
            + self.bytes_per_request * counts.requests
            + self.bytes_per_query * counts.queries
            + self.bytes_per_page * counts.pages
            + self.bytes_per_token * counts.tokens
        )

    def flops(self, counts: Counts) -> float:
        """FLOP of a call, two per multiply-add."""
        return (
            self.flops_per_call
            + self.flops_per_query * counts.queries
            + self.flops_per_pair * counts.pairs
            + self.flops_per_token * counts.tokens
        )

    def work(self, counts: Counts) -> Work:
        """All of it, for whole counts."""
        cache_bytes = self.kv_cache_bytes_per_token * counts.tokens
        return Work(int(cache_bytes), int(self.bytes_moved(counts)), int(self.flops(counts)))


def counts_of(case: Case) -> Counts:
    """What a call of the case counts."""
    if case.kv_len_dist != "uniform":
        return Counts(case.batch, case.new_tokens, case.cached_tokens, case.num_pages, case.attended_pairs)
    batch, q_len, kv_len = case.batch, case.q_len, case.kv_len
    pairs = q_len * kv_len - q_len * (q_len - 1) // 2
    return Counts(batch, batch * q_len, batch * kv_len, batch * -(-kv_len // case.page_size), batch * pairs)


def costs_of(case: Case, variant: Variant | None = None) -> Costs:
    """The factors of the case, or of the same case with another variant, whatever its batch and lengths."""
    return _costs((variant or case.variant, _kind_of(case)))


@lru_cache(maxsize=1 << 14)
def _costs(key: tuple[Variant, tuple[Any, ...]]) -> Costs:
    variant, kind = key

    def at(batch: int = 1, q_len: int = 1, kv_len: int = 1) -> Case:
        values = dict(zip(_KIND, kind, strict=True))
        return Case(variant=variant, batch=batch, q_len=q_len, kv_len=kv_len, **values)

    one = at()
    page, longer = one.page_size, max(one.page_size, 2)
    per_token = (at(kv_len=longer).bytes_moved - one.bytes_moved) // (longer - 1)
    per_page = at(kv_len=page + 1).bytes_moved - one.bytes_moved - page * per_token
    two_tokens, two_queries, two_requests = at(kv_len=2), at(q_len=2, kv_len=2), at(batch=2)
    per_query = two_queries.bytes_moved - two_tokens.bytes_moved
    per_request = two_requests.bytes_moved - one.bytes_moved - per_query - per_page - per_token
    flops_per_query = two_requests.flops - two_tokens.flops
    flops_per_pair = two_queries.flops - two_tokens.flops - flops_per_query
    flops_per_token = two_tokens.flops - one.flops - flops_per_pair
    return Costs(
        kv_cache_bytes_per_token=one.kv_cache_bytes_per_token,
        bytes_per_call=one.bytes_moved - per_request - per_query - per_page - per_token,
        bytes_per_request=per_request,
        bytes_per_query=per_query,
        bytes_per_page=per_page,
        bytes_per_token=per_token,
        flops_per_call=one.flops - flops_per_query - flops_per_pair - flops_per_token,
        flops_per_query=flops_per_query,
        flops_per_pair=flops_per_pair,
        flops_per_token=flops_per_token,
    )
