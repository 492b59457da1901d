"""MLA decode in the absorbed form, Gluon on sm_90: warp-specialised, fed by TMA; made for 64 rows and more.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1.2, with the weights absorbed as in mla_decode_triton. Rows are
q_len x num_q_heads, flattened; a program owns 64 of them and a run of the batch's KV blocks (see split_kv). Three warp
groups work on blocks of 64 tokens:

- one computes scores and weights. 496 of the query's 576 columns stay in its registers, which leaves shared memory to
  three blocks of the cache; a block's weights are written where its rope columns were;
- two own 256 columns of the output each. They load those columns of the cache, and refill a stage as soon as they have
  used it. They begin a block only when the scores of the next are done, so that the product of the one runs while
  the other is weighed.

A request's query takes a stage like a block, and loads run ahead over the ends of requests. The running maximum moves
only when the scores exceed it by a factor of 2^8, in whole powers of two: outputs are seldom rescaled, and exactly.
notes-mla-decode-gluon.md has what each of this was worth.
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

from mla_kernels.gluon_sm90 import LAZY, barrier, blank_unused
from mla_kernels.launch import Launch
from mla_kernels.mla_gluon_bind import bind_kernel
from mla_kernels.packed_gluon import blocks_seen, row_block
from mla_kernels.paged_gluon import BLOCK, block_rows, load_block
from mla_kernels.split_kv_gluon import part_bounds, program, request_run, seek

ROWS = 64
"""Query rows of a program: the M of one warp-group product."""

STAGES = 3

GROUP_REGISTERS = 160
"""Of a thread that accumulates: 128 hold the output. The scoring group has what is left, 184."""

_N = gl.constexpr(BLOCK)
_STAGES = gl.constexpr(STAGES)
_GROUP_REGISTERS = gl.constexpr(GROUP_REGISTERS)

# how 64 x 256 outputs are stored: four columns a thread and 32 bytes of a row by four, a whole sector; one exchange
# between neighbouring threads away from the layout of a warp-group product
_WIDE = gl.constexpr(
    gl.DistributedLinearLayout(
        reg_bases=[[0, 1], [0, 2], [8, 0], [0, 16], [0, 32], [0, 64], [0, 128]],
        lane_bases=[[0, 8], [0, 4], [1, 0], [2, 0], [4, 0]],
        warp_bases=[[16, 0], [32, 0]],
        block_bases=[],
        shape=[64, 256],
    )
)

# the barriers: the first of a kind, one a stage except where there is one alone
_USED = gl.constexpr(0)
_TAKEN = gl.constexpr(STAGES)
_FULL_LEFT = gl.constexpr(STAGES + 1)
_FULL_RIGHT = gl.constexpr(2 * STAGES + 1)
_FULL_ROPE = gl.constexpr(3 * STAGES + 1)
_SCORED = gl.constexpr(4 * STAGES + 1)
_WEIGHED = gl.constexpr(5 * STAGES + 1)
_NORMED = gl.constexpr(6 * STAGES + 1)
_BARS = gl.constexpr(6 * STAGES + 2)


@gluon.jit
def _place(packed_row0, HEADS: gl.constexpr, Q_LEN: gl.constexpr):
    """First row and part of this program; packed queries have no parts."""
    if packed_row0 is None:
        return program(HEADS * Q_LEN, 64)
    else:  # noqa: RET505
        return packed_row0, 0


@gluon.jit
def _rows_of(q_starts, b, HEADS: gl.constexpr, Q_LEN: gl.constexpr):
    """Where the rows of a request begin, how many there are, and of how many queries."""
    if q_starts is None:
        return b * (HEADS * Q_LEN), HEADS * Q_LEN, Q_LEN
    else:  # noqa: RET505
        start = gl.load(q_starts + b)
        q_len = gl.load(q_starts + b + 1) - start
        return start * HEADS, q_len * HEADS, q_len


@gluon.jit
def _load_query(q_tiles, q_rope_tiles, row, COL: gl.constexpr, half, slots, stage, bars, FULL: gl.constexpr):
    """Start loading 256 columns of the query into a stage, as if it were a block."""
    mbarrier.expect(bars.index(FULL + stage), 64 * 256 * 2)
    tma.async_copy_global_to_shared(q_tiles, [row, COL], bars.index(FULL + stage), half.index(stage))
    if COL == 0:
        mbarrier.expect(bars.index(_FULL_ROPE + stage), 64 * 64 * 2)
        tma.async_copy_global_to_shared(q_rope_tiles, [row, 512], bars.index(_FULL_ROPE + stage), slots.index(stage))


@gluon.jit
def _after(stage, phase):
    """The next stage and its phase."""
    last = stage == _STAGES - 1
    return gl.where(last, 0, stage + 1), gl.where(last, phase ^ 1, phase)


@gluon.jit
def _scores(q0, q1, q2, q3, q4, s_q_last, s_q_rope, left, right, slots, bars, stage, phase):
    """The product of the query and one block; the operands wait for their loads."""
    S: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, _N, 16])
    zero = gl.zeros([64, _N], gl.float32, S)
    mbarrier.wait(bars.index(_FULL_LEFT + stage), phase)
    s = warpgroup_mma(q0, left.index(stage).permute((1, 0)), zero, use_acc=False, is_async=True)
    mbarrier.wait(bars.index(_FULL_RIGHT + stage), phase)
    k = right.index(stage)
    s = warpgroup_mma(q1, k.slice(0, 128, 1).permute((1, 0)), s, is_async=True)
    s = warpgroup_mma(q2, k.slice(128, 64, 1).permute((1, 0)), s, is_async=True)
    s = warpgroup_mma(q3, k.slice(192, 32, 1).permute((1, 0)), s, is_async=True)
    s = warpgroup_mma(q4, k.slice(224, 16, 1).permute((1, 0)), s, is_async=True)
    s = warpgroup_mma(s_q_last, k.slice(240, 16, 1).permute((1, 0)), s, is_async=True)
    mbarrier.wait(bars.index(_FULL_ROPE + stage), phase)
    s = warpgroup_mma(s_q_rope, slots.index(stage).permute((1, 0)), s, is_async=True)
    return warpgroup_mma_wait(0, deps=[s])


@gluon.jit
def _weigh(s, m, row_sum, scale_log2, token, kv_len, row0, HEADS: gl.constexpr, q_len, slots, s_fade, bars, slot):
    """Turn one block's scores into weights for the accumulating groups; returns the new maximum and sum."""
    S: gl.constexpr = s.type.layout
    if token + _N > kv_len - q_len + 1:
        row = row0 + gl.arange(0, 64, gl.SliceLayout(1, S))
        n = token + gl.arange(0, _N, gl.SliceLayout(0, S))
        visible = kv_len - q_len + 1 + row // HEADS
        s = gl.where(n[None, :] < visible[:, None], s, -float("inf"))
    top = gl.maximum(m, gl.max(s, 1) * scale_log2)
    # from the first block's maximum in whole steps, so that a fade is a power of two, exact in 16 bits
    top = gl.where(top > m + LAZY, gl.where(m > -1e29, m + gl.ceil(top - m), top), m)
    fade = gl.exp2(m - top)
    p = gl.exp2(s * scale_log2 - top[:, None])
    # all warps have read the rope columns that the weights replace
    barrier()
    slots.index(slot).store(p.to(slots.dtype))
    s_fade.index(slot).store(fade.to(gl.bfloat16))
    fence_async_shared()
    mbarrier.arrive(bars.index(_WEIGHED + slot), count=1)
    return top, row_sum * fade + gl.sum(p, 1)


@gluon.jit
def _copy_tile(source, target, LANES: gl.constexpr):
    """Copy between two tiles of shared memory; LANES threads a row."""
    L: gl.constexpr = gl.BlockedLayout([1, 8], [32 // LANES, LANES], [4, 1], [1, 0])
    target.store(source.load(L))


@gluon.jit
def _score_requests(
    kv_lens, lse, part_lse, left, right, slots, s_q_last, s_q_rope, s_fade, s_norm, bars, first, last, start, stop,
    gap, q_starts, packed_row0, scale_log2, HEADS: gl.constexpr, Q_LEN: gl.constexpr,
):  # fmt: skip
    """The scoring group: queries in registers, scores, weights, and at the end the sums and the log-sum-exp."""
    S: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, _N, 16])
    A: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=S, k_width=2)
    ROW: gl.constexpr = gl.SliceLayout(1, S)
    row0, part = _place(packed_row0, HEADS, Q_LEN)
    stage = 0
    phase = 0
    for b in range(first, last):
        kv_len, lo, hi, blocks = request_run(kv_lens, b, start, stop, _N)
        start -= blocks + gap
        stop -= blocks + gap
        origin, rows, q_len = _rows_of(q_starts, b, HEADS, Q_LEN)
        m = gl.full([64], -1e30, gl.float32, ROW)
        row_sum = gl.zeros([64], gl.float32, ROW)
        if lo < hi:
            mbarrier.wait(bars.index(_FULL_LEFT + stage), phase)
            q0 = left.index(stage).load(A)
            mbarrier.wait(bars.index(_FULL_RIGHT + stage), phase)
            q1 = right.index(stage).slice(0, 128, 1).load(A)
            q2 = right.index(stage).slice(128, 64, 1).load(A)
            q3 = right.index(stage).slice(192, 32, 1).load(A)
            q4 = right.index(stage).slice(224, 16, 1).load(A)
            _copy_tile(right.index(stage).slice(240, 16, 1), s_q_last, 2)
            mbarrier.wait(bars.index(_FULL_ROPE + stage), phase)
            _copy_tile(slots.index(stage), s_q_rope, 8)
            fence_async_shared()
            mbarrier.arrive(bars.index(_SCORED + stage), count=1)
            mbarrier.arrive(bars.index(_WEIGHED + stage), count=1)
            stage, phase = _after(stage, phase)
            for i in range(lo, hi):
                s = _scores(q0, q1, q2, q3, q4, s_q_last, s_q_rope, left, right, slots, bars, stage, phase)
                mbarrier.arrive(bars.index(_SCORED + stage), count=1)
                m, row_sum = _weigh(
                    s, m, row_sum, scale_log2, i * _N, kv_len, row0, HEADS, q_len, slots, s_fade, bars, stage
                )
                stage, phase = _after(stage, phase)
        row = row0 + gl.arange(0, 64, ROW)
        seen = row_sum > 0.0
        divisor = gl.where(seen, row_sum, 1.0)
        lse2 = gl.where(seen, m + gl.log2(divisor), -float("inf"))
        mbarrier.wait(bars.index(_TAKEN), (b - first - 1) & 1, pred=b > first)
        s_norm.store(1.0 / divisor)
        mbarrier.arrive(bars.index(_NORMED), count=1)
        if (lo == 0) & ((hi == blocks) | (q_starts is not None)):
            gl.store(lse + gl.cast(origin, gl.int64) + row, lse2 * 0.6931471805599453, mask=row < rows)
        else:
            gl.store(part_lse + gl.cast(part + b, gl.int64) * rows + row, lse2, mask=row < rows)


@gluon.jit
def _load_next(
    q_tiles, q_rope_tiles, kv_tiles, rope_tiles, kv_lens, half, slots, bars, stage, phase, at0, at1, at2, at3,
    b, ahead, kv_len, lo, hi, start, stop, gap, last, q_starts, row0, HEADS: gl.constexpr, Q_LEN: gl.constexpr,
    COL: gl.constexpr, FULL: gl.constexpr, PAGE_SIZE: gl.constexpr, REFILL: gl.constexpr,
):  # fmt: skip
    """Start loading block `ahead` of request `b`, which lies at `at0` to `at3`, or its query if that comes before its
    first block `lo`. Returns what comes next."""
    if b < last:
        is_block = ahead >= lo
        if is_block:
            mbarrier.expect(bars.index(FULL + stage), _N * 256 * 2)
            load_block(
                kv_tiles, at0, at1, at2, at3, half, stage, bars.index(FULL + stage), _STAGES, COL, 256, PAGE_SIZE
            )
        if COL == 0:
            if REFILL:
                # the other group is done with the weights, which lie where the rope columns go
                mbarrier.wait(bars.index(_USED + stage), phase)
            if is_block:
                mbarrier.expect(bars.index(_FULL_ROPE + stage), _N * 64 * 2)
                load_block(
                    rope_tiles, at0, at1, at2, at3, slots, stage, bars.index(_FULL_ROPE + stage), _STAGES, 512, 64,
                    PAGE_SIZE,
                )  # fmt: skip
        if ahead < lo:
            origin, _, _ = _rows_of(q_starts, b, HEADS, Q_LEN)
            _load_query(q_tiles, q_rope_tiles, origin + row0, COL, half, slots, stage, bars, FULL)
        ahead += 1
        if ahead == hi:
            ended = gl.cdiv(kv_len, _N) + gap
            b, kv_len, lo, hi, start, stop = seek(kv_lens, b + 1, last, start - ended, stop - ended, gap, _N)
            ahead = lo - 1
    return b, ahead, kv_len, lo, hi, start, stop


@gluon.jit
def _weigh_values(acc, weights, values, fade, unused_from, bars, next_stage, next_phase, more):
    """Add one block's weights times values to the output."""
    ROW: gl.constexpr = gl.SliceLayout(1, acc.type.layout)
    WARP: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])
    if gl.min(fade.load(WARP).to(gl.float32), 0) < 1.0:
        acc = acc * fade.load(ROW).to(gl.float32)[:, None]
    if unused_from < _N:
        blank_unused(values, unused_from)
    # the product of the next scores goes first, so that this one runs while they are weighed
    mbarrier.wait(bars.index(_SCORED + next_stage), next_phase, pred=more)
    acc = warpgroup_mma(weights, values, acc, is_async=True)
    return warpgroup_mma_wait(0, deps=[acc])


@gluon.jit
def _accumulate_requests(
    q_tiles, q_rope_tiles, kv_tiles, rope_tiles, block_table, max_pages, kv_lens, out, part_out, half, slots, s_fade,
    s_norm, bars, first, last, start, stop, gap, q_starts, packed_row0,
    HEADS: gl.constexpr, Q_LEN: gl.constexpr, COL: gl.constexpr, FULL: gl.constexpr, PAGE_SIZE: gl.constexpr,
):  # fmt: skip
    """An accumulating group: loads its half of the value columns, adds up weights times values, stores the output.

    The stages take, for each request, its query and then its blocks; loads run ahead over the requests.
    """
    OUT: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, 256, 16])
    ROW: gl.constexpr = gl.SliceLayout(1, OUT)
    row0, part = _place(packed_row0, HEADS, Q_LEN)
    # what is loaded next: block `ahead` of request `load_b`, its query before block `load_lo`
    load_b, load_len, load_lo, load_hi, load_start, load_stop = seek(kv_lens, first, last, start, stop, gap, _N)
    ahead = load_lo - 1
    for j in range(_STAGES):
        at0, at1, at2, at3 = block_rows(block_table, max_pages, load_b, last, ahead, load_len, PAGE_SIZE)
        load_b, ahead, load_len, load_lo, load_hi, load_start, load_stop = _load_next(
            q_tiles, q_rope_tiles, kv_tiles, rope_tiles, kv_lens, half, slots, bars, j, 0, at0, at1, at2, at3,
            load_b, ahead, load_len, load_lo, load_hi, load_start, load_stop, gap, last, q_starts, row0,
            HEADS, Q_LEN, COL, FULL, PAGE_SIZE, False,
        )  # fmt: skip

    stage = 0
    phase = 0
    for b in range(first, last):
        kv_len, lo, hi, blocks = request_run(kv_lens, b, start, stop, _N)
        start -= blocks + gap
        stop -= blocks + gap
        acc = gl.zeros([64, 256], gl.float32, OUT)
        # the query's stage is given back like a block's
        for i in range(gl.where(lo < hi, lo - 1, hi), hi):
            # read well before they are needed
            at0, at1, at2, at3 = block_rows(block_table, max_pages, load_b, last, ahead, load_len, PAGE_SIZE)
            mbarrier.wait(bars.index(_WEIGHED + stage), phase)
            next_stage, next_phase = _after(stage, phase)
            if i >= lo:
                acc = _weigh_values(
                    acc,
                    slots.index(stage),
                    half.index(stage),
                    s_fade.index(stage),
                    kv_len - i * _N,
                    bars,
                    next_stage,
                    next_phase,
                    i + 1 < hi,
                )
            mbarrier.arrive(bars.index(_USED + stage), count=1)
            load_b, ahead, load_len, load_lo, load_hi, load_start, load_stop = _load_next(
                q_tiles, q_rope_tiles, kv_tiles, rope_tiles, kv_lens, half, slots, bars, stage, phase,
                at0, at1, at2, at3, load_b, ahead, load_len, load_lo, load_hi, load_start, load_stop, gap, last,
                q_starts, row0, HEADS, Q_LEN, COL, FULL, PAGE_SIZE, True,
            )  # fmt: skip
            stage = next_stage
            phase = next_phase
        mbarrier.wait(bars.index(_NORMED), (b - first) & 1)
        acc = acc * s_norm.load(ROW)[:, None]
        mbarrier.arrive(bars.index(_TAKEN), count=1)
        origin, rows, _ = _rows_of(q_starts, b, HEADS, Q_LEN)
        result = gl.convert_layout(acc.to(out.dtype.element_ty), _WIDE)
        row = row0 + gl.arange(0, 64, gl.SliceLayout(1, _WIDE))
        col = COL + gl.arange(0, 256, gl.SliceLayout(0, _WIDE))
        ok = (row < rows)[:, None] & (col < 512)[None, :]
        if q_starts is None:
            whole = (lo == 0) & (hi == blocks)
            cell = gl.cast(gl.where(whole, b, part + b), gl.int64) * rows + row
            target = gl.where(whole, out, part_out)
        else:
            cell = gl.cast(origin, gl.int64) + row
            target = out
        at = target + cell[:, None] * 512 + col[None, :]
        gl.store(at, result, mask=ok)


@gluon.jit
def mla_decode_many_rows_kernel(
    q_tiles, q_rope_tiles, kv_tiles, rope_tiles, block_table, kv_lens, out, lse, part_out, part_lse,
    scale_log2, batch, max_pages, num_splits,
    HEADS: gl.constexpr, Q_LEN: gl.constexpr, PAGE_SIZE: gl.constexpr, BATCH_P2: gl.constexpr,
    SPLIT: gl.constexpr, q_starts=None,
):  # fmt: skip
    """Attention of 64 rows over one part of the cache; writes `out` and `lse`, or the part's partial.

    With `q_starts` the queries are packed, and a program has a row block of one request, over all that it sees.
    """
    if q_starts is None:
        packed_row0: gl.constexpr = None
        part = program(HEADS * Q_LEN, 64)[1]
        if SPLIT:
            first, last, start, stop, gap = part_bounds(kv_lens, batch, part, num_splits, _N, BATCH_P2)
        else:
            first, last, start, stop, gap = part, part + 1, 0, 1073741824, 0
    else:
        packed_row0, b = row_block(q_starts, batch, HEADS, 64, BATCH_P2)
        first, last, start, stop, gap = blocks_seen(kv_lens, q_starts, b, packed_row0, batch, HEADS, 64, _N)

    dtype: gl.constexpr = q_tiles.dtype
    HALF: gl.constexpr = gl.NVMMASharedLayout.get_default_for([_N, 256], dtype)
    left = gl.allocate_shared_memory(dtype, [_STAGES, _N, 256], HALF)
    right = gl.allocate_shared_memory(dtype, [_STAGES, _N, 256], HALF)
    slots = gl.allocate_shared_memory(dtype, [_STAGES, _N, 64], q_rope_tiles.layout)
    s_q_last = gl.allocate_shared_memory(dtype, [64, 16], gl.NVMMASharedLayout.get_default_for([64, 16], dtype))
    s_q_rope = gl.allocate_shared_memory(dtype, [64, 64], q_rope_tiles.layout)
    plain: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    s_fade = gl.allocate_shared_memory(gl.bfloat16, [_STAGES, 64], plain)
    s_norm = gl.allocate_shared_memory(gl.float32, [64], plain)
    bars = gl.allocate_shared_memory(gl.int64, [_BARS, 1], mbarrier.MBarrierLayout())
    for i in range(_TAKEN + 1):
        mbarrier.init(bars.index(i), count=2)
    for i in range(_TAKEN + 1, _BARS):
        mbarrier.init(bars.index(i), count=1)
    fence_async_shared()

    gl.warp_specialize(
        [
            (
                _score_requests,
                (
                    kv_lens, lse, part_lse, left, right, slots, s_q_last, s_q_rope, s_fade, s_norm, bars,
                    first, last, start, stop, gap, q_starts, packed_row0, scale_log2, HEADS, Q_LEN,
                ),
            ),
            (
                _accumulate_requests,
                (
                    q_tiles, q_rope_tiles, kv_tiles, rope_tiles, block_table, max_pages, kv_lens, out, part_out,
                    left, slots, s_fade, s_norm, bars, first, last, start, stop, gap, q_starts, packed_row0,
                    HEADS, Q_LEN, 0, _FULL_LEFT, PAGE_SIZE,
                ),
            ),
            (
                _accumulate_requests,
                (
                    q_tiles, q_rope_tiles, kv_tiles, rope_tiles, block_table, max_pages, kv_lens, out, part_out,
                    right, slots, s_fade, s_norm, bars, first, last, start, stop, gap, q_starts, packed_row0,
                    HEADS, Q_LEN, 256, _FULL_RIGHT, PAGE_SIZE,
                ),
            ),
        ],
        [4, 4],
        [_GROUP_REGISTERS, _GROUP_REGISTERS],
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
    """Bind absorbed MLA decode to its tensors.

    Shapes, dtypes and what may change between calls are those of `mla_decode_triton.bind`. num_splits is the number of
    runs that the batch's KV blocks are cut into, one program each for every 64 rows (1: a program per request, which
    makes a request's result independent of the rest of the batch).

    Raises ValueError for tensors that contradict each other, NotImplementedError for what it cannot do: another GPU
    than sm_90, float32, other dims than 512 + 64, page sizes other than 16, 32 and multiples of 64.
    """
    return bind_kernel(
        mla_decode_many_rows_kernel, q=q, kv_cache=kv_cache, block_table=block_table, kv_lens=kv_lens, out=out, lse=lse,
        softmax_scale=softmax_scale, num_splits=num_splits, block_m=ROWS, cols=256, num_stages=STAGES,
    )  # fmt: skip
