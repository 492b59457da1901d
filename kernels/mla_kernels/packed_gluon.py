"""Packed queries in Gluon: which rows of which request a program has, and what they see of the cache.

Rows are a request's new tokens times heads, heads innermost. Row blocks of the requests follow one another; of a
request the last rows, which see the most, come first.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from mla_kernels.split_kv_gluon import add


@gluon.jit
def row_block_ends(
    q_starts, batch, HEADS: gl.constexpr, BLOCK_M: gl.constexpr, BATCH_P2: gl.constexpr, WARPS: gl.constexpr
):  # fmt: skip
    """Row blocks of each request and all before it; every one of the WARPS holds them all."""
    L: gl.constexpr = gl.BlockedLayout([BATCH_P2 // 32], [32], [WARPS], [0])
    request = gl.arange(0, BATCH_P2, L)
    real = request < batch
    q_lens = gl.load(q_starts + request + 1, mask=real, other=0) - gl.load(q_starts + request, mask=real, other=0)
    return gl.associative_scan(gl.cdiv(q_lens * HEADS, BLOCK_M), 0, add)


@gluon.jit
def row_block(q_starts, batch, HEADS: gl.constexpr, BLOCK_M: gl.constexpr, BATCH_P2: gl.constexpr):
    """First row of this program, and its request; `batch` or more where there is none left for it."""
    ends = row_block_ends(q_starts, batch, HEADS, BLOCK_M, BATCH_P2, 4)
    place = gl.program_id(0)
    b = gl.sum((ends <= place).to(gl.int32), 0)
    end = gl.min(gl.where(ends > place, ends, 1073741824), 0)
    return (end - 1 - place) * BLOCK_M, b


@gluon.jit
def blocks_seen(
    kv_lens, q_starts, b, row0, batch, HEADS: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr
):  # fmt: skip
    """Bounds as `part_bounds` returns them: request `b` alone, its blocks up to the last that row `row0 + BLOCK_M - 1`
    sees."""
    real = b < batch
    kv_len = gl.load(kv_lens + b, mask=real, other=0)
    q_len = gl.load(q_starts + b + 1, mask=real, other=0) - gl.load(q_starts + b, mask=real, other=0)
    seen = gl.minimum(kv_len, kv_len - q_len + 1 + (row0 + BLOCK_M - 1) // HEADS)
    return b, gl.where(real, b + 1, b), 0, gl.cdiv(gl.maximum(seen, 0), BLOCK_N), 0
