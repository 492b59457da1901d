"""The split of `split_kv` in Gluon, for warp-specialised kernels: every group walks the same requests by itself."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from mla_kernels.split_kv import part_sizes, part_start


@gluon.jit
def add(a, b):
    """What a scan combines with."""
    return a + b


@gluon.jit
def program(ROWS: gl.constexpr, BLOCK_M: gl.constexpr):
    """First row and part of this program. Row blocks are innermost: those that read the same part share it in L2."""
    row_blocks: gl.constexpr = (ROWS + BLOCK_M - 1) // BLOCK_M
    return gl.program_id(0) % row_blocks * BLOCK_M, gl.program_id(0) // row_blocks


@gluon.jit
def part_bounds(kv_lens, batch, part, num_splits, BLOCK_N: gl.constexpr, BATCH_P2: gl.constexpr):
    """Requests [first, last) of this part, its range [start, stop) counted from the start of request `first`, and the
    gap behind each."""
    if BATCH_P2 == 1:
        total = gl.cdiv(gl.load(kv_lens), BLOCK_N)
        payload = gl.maximum(gl.cdiv(total, num_splits), 1)
        start = part * payload
        stop = gl.minimum(start + payload, total)
        first = 0
        last = gl.where(start < stop, 1, 0)
        base = 0
        gap = 0
    else:
        # every warp holds all requests, so that none waits for another
        L: gl.constexpr = gl.BlockedLayout([BATCH_P2 // 32], [32], [4], [0])
        request = gl.arange(0, BATCH_P2, L)
        lengths = gl.cdiv(gl.load(kv_lens + request, mask=request < batch, other=0), BLOCK_N)
        gap, payload, long_parts, together, uncut = part_sizes(
            gl.sum(lengths, 0), gl.max(lengths, 0), batch, num_splits
        )
        if uncut:
            first = gl.minimum(part * together, batch)
            last = gl.minimum(first + together, batch)
            start = 0
            stop = 1073741824
            base = 0
        else:
            real = request < batch
            ends = gl.associative_scan(lengths + gap, 0, add) - gap
            start = part_start(part, payload, long_parts)
            stop = part_start(part + 1, payload, long_parts)
            first = gl.sum((real & (ends <= start)).to(gl.int32), 0)
            last = gl.sum((real & (ends - lengths < stop)).to(gl.int32), 0)
            base = gl.sum(gl.where(request < first, lengths + gap, 0), 0)
    return first, last, start - base, stop - base, gap


@gluon.jit
def request_run(kv_lens, b, start, stop, BLOCK_N: gl.constexpr):
    """Length of request `b`, the blocks [lo, hi) of it that this part takes, and how many it has."""
    kv_len = gl.load(kv_lens + b)
    blocks = gl.cdiv(kv_len, BLOCK_N)
    lo = gl.maximum(start, 0)
    hi = gl.minimum(stop, blocks)
    return kv_len, lo, hi, blocks


@gluon.jit
def seek(kv_lens, b, last, start, stop, gap, BLOCK_N: gl.constexpr):
    """The first request from `b` on that this part takes blocks of, or `last`: its number, its length, its blocks
    [lo, hi), and the part's bounds counted from its start."""
    kv_len = 0 * b
    lo = 0 * b
    hi = 0 * b
    while (b < last) & (lo >= hi):
        kv_len, lo, hi, blocks = request_run(kv_lens, b, start, stop, BLOCK_N)
        if lo >= hi:
            start -= blocks + gap
            stop -= blocks + gap
            b += 1
    return b, kv_len, lo, hi, start, stop
