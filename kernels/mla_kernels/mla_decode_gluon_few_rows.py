"""MLA decode in the absorbed form, Gluon on sm_90: swapped operands, fed by TMA; made for few rows and short batches.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1.2, with the weights absorbed as in mla_decode_triton. Rows are
q_len x num_q_heads, flattened; a program owns 16 of them and a run of the batch's KV blocks (see split_kv).

A warp-group product has 64 rows at least. Here they are the tokens, S^T = K Q^T and O^T += V^T P^T, so that few queries
waste nothing. One warp loads queries and blocks of 64 tokens, two of each ahead and over the ends of requests; a warp
group does all the rest. The running maximum moves as in mla_decode_gluon.
"""

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from mla_kernels.gluon_sm90 import LAZY, barrier
from mla_kernels.launch import Launch
from mla_kernels.mla_gluon_bind import bind_kernel
from mla_kernels.paged_gluon import BLOCK, block_rows, load_block
from mla_kernels.split_kv_gluon import part_bounds, program, request_run

ROWS = 16
"""Query rows of a program. 32 were slower with short batches and, with long ones, no faster than 64."""

STAGES = 2

PRODUCER_REGISTERS = 40

_N = gl.constexpr(BLOCK)
_STAGES = gl.constexpr(STAGES)
_PRODUCER_REGISTERS = gl.constexpr(PRODUCER_REGISTERS)

# the barriers: the first of a kind, one a stage
_FULL = gl.constexpr(0)
_EMPTY = gl.constexpr(STAGES)
_Q_FULL = gl.constexpr(2 * STAGES)
_Q_EMPTY = gl.constexpr(3 * STAGES)
_BARS = gl.constexpr(4 * STAGES)


@gluon.jit
def _load_requests(
    q_tiles, q_rope_tiles, kv_tiles, rope_tiles, block_table, max_pages, kv_lens, s_q, s_q_rope, s_k, s_rope, bars,
    first, last, start, stop, gap, row0, ROWS: gl.constexpr, PAGE_SIZE: gl.constexpr, R: gl.constexpr,
):  # fmt: skip
    """The loading warp: queries and blocks, each into the next of two buffers as soon as it is empty."""
    it = 0
    req = 0
    for b in range(first, last):
        kv_len, lo, hi, blocks = request_run(kv_lens, b, start, stop, _N)
        start -= blocks + gap
        stop -= blocks + gap
        if lo < hi:
            at0, at1, at2, at3 = block_rows(block_table, max_pages, b, last, lo, kv_len, PAGE_SIZE)
            buffer = req & 1
            mbarrier.wait(bars.index(_Q_EMPTY + buffer), ((req >> 1) & 1) ^ 1)
            mbarrier.expect(bars.index(_Q_FULL + buffer), R * 576 * 2)
            row = b * ROWS + row0
            tma.async_copy_global_to_shared(q_tiles, [row, 0], bars.index(_Q_FULL + buffer), s_q.index(buffer))
            tma.async_copy_global_to_shared(
                q_rope_tiles, [row, 512], bars.index(_Q_FULL + buffer), s_q_rope.index(buffer)
            )
            req += 1
            for i in range(lo, hi):
                next0, next1, next2, next3 = block_rows(block_table, max_pages, b, last, i + 1, kv_len, PAGE_SIZE)
                stage = it & 1
                mbarrier.wait(bars.index(_EMPTY + stage), ((it >> 1) & 1) ^ 1)
                bar = bars.index(_FULL + stage)
                mbarrier.expect(bar, _N * 576 * 2)
                load_block(kv_tiles, at0, at1, at2, at3, s_k, stage, bar, _STAGES, 0, 512, PAGE_SIZE)
                load_block(rope_tiles, at0, at1, at2, at3, s_rope, stage, bar, _STAGES, 512, 64, PAGE_SIZE)
                at0 = next0
                at1 = next1
                at2 = next2
                at3 = next3
                it += 1


@gluon.jit
def _hide(s, values, token, kv_len, row0, HEADS: gl.constexpr, Q_LEN: gl.constexpr, R: gl.constexpr):
    """Take out what rows must not see of the block at `token`; its unused slots are set to zero, for 0 x NaN."""
    S: gl.constexpr = s.type.layout
    n = token + gl.arange(0, _N, gl.SliceLayout(1, S))
    visible = kv_len - Q_LEN + 1 + (row0 + gl.arange(0, R, gl.SliceLayout(0, S))) // HEADS
    if token + _N > kv_len:
        L: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
        row = gl.arange(0, _N, gl.SliceLayout(1, L))
        for c in gl.static_range(8):
            piece = values.slice(c * 64, 64, 1)
            piece.store(gl.where((token + row < kv_len)[:, None], piece.load(L), 0.0))
    return gl.where(n[:, None] < visible[None, :], s, -float("inf"))


@gluon.jit
def _attend_requests(
    kv_lens, out, lse, part_out, part_lse, s_q, s_q_rope, s_k, s_rope, s_p, bars, first, last, start, stop, gap, part,
    row0, scale_log2,
    HEADS: gl.constexpr, Q_LEN: gl.constexpr, R: gl.constexpr,
):  # fmt: skip
    """The computing group: scores, weights and outputs of the program's rows."""
    S: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, R, 16])
    ROW: gl.constexpr = gl.SliceLayout(0, S)
    rows: gl.constexpr = HEADS * Q_LEN
    zero = gl.zeros([64, R], gl.float32, S)
    it = 0
    req = 0
    for b in range(first, last):
        kv_len, lo, hi, blocks = request_run(kv_lens, b, start, stop, _N)
        start -= blocks + gap
        stop -= blocks + gap
        m = gl.full([R], -1e30, gl.float32, ROW)
        sums = gl.zeros([64, R], gl.float32, S)
        acc = gl.zeros([512, R], gl.float32, S)
        if lo < hi:
            buffer = req & 1
            mbarrier.wait(bars.index(_Q_FULL + buffer), (req >> 1) & 1)
            for i in range(lo, hi):
                stage = it & 1
                mbarrier.wait(bars.index(_FULL + stage), (it >> 1) & 1)
                s = warpgroup_mma(
                    s_k.index(stage), s_q.index(buffer).permute((1, 0)), zero, use_acc=False, is_async=True
                )
                s = warpgroup_mma(s_rope.index(stage), s_q_rope.index(buffer).permute((1, 0)), s, is_async=True)
                s = warpgroup_mma_wait(0, deps=[s])
                if (i + 1) * _N > kv_len - Q_LEN + 1:
                    s = _hide(s, s_k.index(stage), i * _N, kv_len, row0, HEADS, Q_LEN, R)
                top = gl.maximum(m, gl.max(s, 0) * scale_log2)
                top = gl.where(top > m + LAZY, top, m)
                fade = gl.exp2(m - top)
                p = gl.exp2(s * scale_log2 - top[None, :])
                s_p.store(p.to(s_p.dtype))
                fence_async_shared()
                barrier()
                m = top
                sums = sums * fade[None, :] + p
                if gl.min(fade, 0) < 1.0:
                    acc = acc * fade[None, :]
                acc = warpgroup_mma(s_k.index(stage).permute((1, 0)), s_p, acc, is_async=True)
                acc = warpgroup_mma_wait(0, deps=[acc])
                mbarrier.arrive(bars.index(_EMPTY + stage), count=1)
                it += 1
            mbarrier.arrive(bars.index(_Q_EMPTY + buffer), count=1)
            req += 1
        total = gl.sum(sums, 0)
        seen = total > 0.0
        divisor = gl.where(seen, total, 1.0)
        acc = acc * (1.0 / divisor)[None, :]
        lse2 = gl.where(seen, m + gl.log2(divisor), -float("inf"))
        whole = (lo == 0) & (hi == blocks)
        first_row = gl.cast(gl.where(whole, b, part + b), gl.int64) * rows + row0
        row = gl.arange(0, R, ROW)
        lse2 = gl.where(whole, lse2 * 0.6931471805599453, lse2)
        gl.store(gl.where(whole, lse, part_lse) + first_row + row, lse2, mask=row0 + row < rows)
        # eight columns a thread, a whole half row a warp
        WIDE: gl.constexpr = gl.BlockedLayout([8, 1], [32, 1], [2, 2], [0, 1])
        row = gl.arange(0, R, gl.SliceLayout(0, WIDE))
        col = gl.arange(0, 512, gl.SliceLayout(1, WIDE))
        at = gl.where(whole, out, part_out) + (first_row + row)[None, :] * 512 + col[:, None]
        ok = (row0 + row < rows)[None, :] & (col < 512)[:, None]
        gl.store(at, gl.convert_layout(acc.to(out.dtype.element_ty), WIDE), mask=ok)


@gluon.jit
def mla_decode_few_rows_kernel(
    q_tiles, q_rope_tiles, kv_tiles, rope_tiles, block_table, kv_lens, out, lse, part_out, part_lse,
    scale_log2, batch, max_pages, num_splits,
    HEADS: gl.constexpr, Q_LEN: gl.constexpr, R: gl.constexpr, PAGE_SIZE: gl.constexpr, BATCH_P2: gl.constexpr,
    SPLIT: gl.constexpr,
):  # fmt: skip
    """Attention of R rows over one part of the cache; writes `out` and `lse`, or the part's partial."""
    row0, part = program(HEADS * Q_LEN, R)
    if SPLIT:
        first, last, start, stop, gap = part_bounds(kv_lens, batch, part, num_splits, _N, BATCH_P2)
    else:
        first, last, start, stop, gap = part, part + 1, 0, 1073741824, 0

    dtype: gl.constexpr = kv_tiles.dtype
    BLOCK_TILE: gl.constexpr = gl.NVMMASharedLayout.get_default_for([_N, 512], dtype)
    ROPE_TILE: gl.constexpr = gl.NVMMASharedLayout.get_default_for([_N, 64], dtype)
    s_k = gl.allocate_shared_memory(dtype, [_STAGES, _N, 512], BLOCK_TILE)
    s_rope = gl.allocate_shared_memory(dtype, [_STAGES, _N, 64], ROPE_TILE)
    s_q = gl.allocate_shared_memory(dtype, [_STAGES, R, 512], q_tiles.layout)
    s_q_rope = gl.allocate_shared_memory(dtype, [_STAGES, R, 64], q_rope_tiles.layout)
    s_p = gl.allocate_shared_memory(dtype, [_N, R], gl.NVMMASharedLayout.get_default_for([_N, R], dtype))
    bars = gl.allocate_shared_memory(gl.int64, [_BARS, 1], mbarrier.MBarrierLayout())
    for i in range(_BARS):
        mbarrier.init(bars.index(i), count=1)
    fence_async_shared()

    gl.warp_specialize(
        [
            (
                _attend_requests,
                (
                    kv_lens, out, lse, part_out, part_lse, s_q, s_q_rope, s_k, s_rope, s_p, bars, first, last, start,
                    stop, gap, part, row0, scale_log2, HEADS, Q_LEN, R,
                ),
            ),
            (
                _load_requests,
                (
                    q_tiles, q_rope_tiles, kv_tiles, rope_tiles, block_table, max_pages, kv_lens, s_q, s_q_rope, s_k,
                    s_rope, bars, first, last, start, stop, gap, row0, HEADS * Q_LEN, PAGE_SIZE, R,
                ),
            ),
        ],
        [1],
        [_PRODUCER_REGISTERS],
    )  # fmt: skip


def bind(
    *,
    q: torch.Tensor,
    kv_cache: torch.Tensor,
    block_table: torch.Tensor,
    kv_lens: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    softmax_scale: float,
    num_splits: int | None = None,
) -> Launch:
    """Bind absorbed MLA decode to its tensors, as `mla_decode_gluon.bind` describes it.

    Raises ValueError for tensors that contradict each other, NotImplementedError for what `mla_gluon_bind.unsupported`
    names.
    """
    return bind_kernel(
        mla_decode_few_rows_kernel, q=q, kv_cache=kv_cache, block_table=block_table, kv_lens=kv_lens, out=out, lse=lse,
        softmax_scale=softmax_scale, num_splits=num_splits, block_m=ROWS, cols=512, num_stages=STAGES, R=ROWS,
    )  # fmt: skip
