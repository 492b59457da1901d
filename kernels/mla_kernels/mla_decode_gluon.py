"""MLA decode in the absorbed form for 64 rows and more, Gluon on sm_90: warp-specialised, fed by TMA.

Rows are q_len x num_q_heads, flattened; a program owns 64 of them and a run of the batch's KV blocks (see split_kv).
Three warp groups of four warps work on blocks of 32 tokens:

- one computes scores and weights. 448 of the query's 576 columns stay in its registers, which leaves shared memory to
  the cache; the scores of the next block are under way while it weighs this one's;
- two own 256 columns of the output each. They load those columns of the cache, into six stages, and refill the stage
  that they have just used. A block's weights lie where its rope columns were.

The running maximum follows the scores only when they exceed it by a factor of 2^8, so that the outputs are seldom
rescaled (FlashAttention-4 does likewise; in float32 the weights have room for it).
"""

import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from mla_kernels.launch import Launch, check_dtype, check_shape
from mla_kernels.online_softmax import LOG2_E
from mla_kernels.split_kv import allocate_partials, combine_config, combine_grid, combine_kernel, num_sms

ROWS = 64
"""Query rows of a program: the M of one warp-group product."""

TOKENS = 32
"""Tokens of a block."""

PAIR = gl.constexpr(64)
"""Tokens of two blocks: the unit of the split, so that every run has an even number of blocks."""

STAGES = 6
SLOTS = 4

_N = gl.constexpr(TOKENS)
_STAGES = gl.constexpr(STAGES)
_SLOTS = gl.constexpr(SLOTS)
_LAZY = gl.constexpr(8.0)

_barrier = getattr(gl, "thread_barrier", None) or gl.barrier


@gluon.jit
def _add(a, b):
    return a + b


@gluon.jit
def _part_bounds(kv_lens, batch, part, num_splits, BATCH_P2: gl.constexpr):
    """`split_kv.part_bounds` in Gluon: requests [first, last), units [start, stop), and where request `first` starts."""
    if BATCH_P2 == 1:
        total = gl.cdiv(gl.load(kv_lens), PAIR)
        payload = gl.maximum(gl.cdiv(total, num_splits), 1)
        start = part * payload
        stop = gl.minimum(start + payload, total)
        first = 0
        last = gl.where(start < stop, 1, 0)
        base = 0
    else:
        L: gl.constexpr = gl.BlockedLayout([max(1, BATCH_P2 // 128)], [32], [4], [0])
        request = gl.arange(0, BATCH_P2, L)
        blocks = gl.cdiv(gl.load(kv_lens + request, mask=request < batch, other=0), PAIR)
        total = gl.sum(blocks, 0)
        payload = gl.maximum(gl.cdiv(total, num_splits), 1)
        together = gl.cdiv(batch, num_splits)
        if together * gl.max(blocks, 0) * 16 <= payload * 17:
            first = gl.minimum(part * together, batch)
            last = gl.minimum(first + together, batch)
            start = 0
            stop = 1073741824
            base = 0
        else:
            ends = gl.associative_scan(blocks, 0, _add)
            start = part * payload
            stop = gl.minimum(start + payload, total)
            first = gl.sum((ends <= start).to(gl.int32), 0)
            last = gl.where(start < stop, gl.sum((ends < stop).to(gl.int32), 0) + 1, first)
            base = gl.sum(gl.where(request < first, blocks, 0), 0)
    return first, last, start, stop, base


@gluon.jit
def _request_run(kv_lens, b, start, stop, base):
    """Length of a request, the units [lo, hi) of it that this part takes, and how many it has."""
    kv_len = gl.load(kv_lens + b)
    units = gl.cdiv(kv_len, PAIR)
    lo = gl.maximum(start - base, 0)
    hi = gl.minimum(stop - base, units)
    return kv_len, lo, hi, units


@gluon.jit
def _page_of(pages, token, kv_len, PAGE_SIZE: gl.constexpr):
    """Page of the block that starts at `token`; of the request's last block if it starts past the end."""
    return gl.load(pages + gl.minimum(token, (kv_len - 1) // _N * _N) // PAGE_SIZE)


@gluon.jit
def _slot_of(page, token, kv_len, PAGE_SIZE: gl.constexpr):
    """Row of the cache at which that block starts."""
    return page * PAGE_SIZE + gl.minimum(token, (kv_len - 1) // _N * _N) % PAGE_SIZE


@gluon.jit
def _scores(q0, q1, q2, s_q3, s_q_rope, left, right, rope, full_left, full_right, full_rope, stage, phase, slot,
            slot_phase):
    """The product of the query and one block; the operands wait for their loads."""
    S: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, _N, 16])
    zero = gl.zeros([64, _N], gl.float32, S)
    k_left = left.index(stage)
    k_right = right.index(stage)
    mbarrier.wait(full_left.index(stage), phase)
    s = warpgroup_mma(q0, k_left.permute((1, 0)), zero, use_acc=False, is_async=True)
    mbarrier.wait(full_right.index(stage), phase)
    s = warpgroup_mma(q1, k_right.slice(0, 128, 1).permute((1, 0)), s, is_async=True)
    s = warpgroup_mma(q2, k_right.slice(128, 64, 1).permute((1, 0)), s, is_async=True)
    s = warpgroup_mma(s_q3, k_right.slice(192, 64, 1).permute((1, 0)), s, is_async=True)
    mbarrier.wait(full_rope.index(slot), slot_phase)
    s = warpgroup_mma(s_q_rope, rope.index(slot).permute((1, 0)), s, is_async=True)
    return warpgroup_mma_wait(0, deps=[s])


@gluon.jit
def _weigh(s, m, row_sum, scale_log2, token, row_end, first_hidden, slots, s_fade, weighed, slot,
           P: gl.constexpr):
    """Turn one block's scores into weights for the accumulating groups; returns the new maximum and sum."""
    S: gl.constexpr = s.type.layout
    ROW: gl.constexpr = gl.SliceLayout(1, S)
    if token + _N > first_hidden:
        n = gl.arange(0, _N, gl.SliceLayout(0, S))
        s = gl.where((token + n)[None, :] < row_end[:, None], s, -float("inf"))
    top = gl.maximum(m, gl.max(s, 1) * scale_log2)
    top = gl.where(top > m + _LAZY, top, m)
    fade = gl.exp2(m - top)
    p = gl.exp2(s * scale_log2 - top[:, None])
    # all warps have read the rope columns that the weights replace
    _barrier()
    slots.index(slot)._reinterpret(slots.dtype, [64, _N], P).store(p.to(slots.dtype))
    s_fade.index(slot).store(fade)
    fence_async_shared()
    mbarrier.arrive(weighed.index(slot), count=1)
    return top, row_sum * fade + gl.sum(p, 1)


@gluon.jit
def _score_requests(
    q, q_tiles, kv_lens, lse, part_lse, left, right, slots, s_q3, s_q_rope, s_fade, s_norm, full_left, full_right,
    full_rope, q_full, scored, weighed, normed, taken, first, last, start, stop, base, part, row0, rows, num_q_heads, q_len,
    scale_log2, P: gl.constexpr,
):  # fmt: skip
    """The scoring group: queries in registers, scores, weights, and at the end the sums and the log-sum-exp."""
    S: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, _N, 16])
    A: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=S, k_width=2)
    ROW: gl.constexpr = gl.SliceLayout(1, S)
    QROW: gl.constexpr = gl.SliceLayout(1, A)
    QCOL: gl.constexpr = gl.SliceLayout(0, A)
    stage = 0
    phase = 0
    it = 0
    req = 0
    for b in range(first, last):
        kv_len, lo, hi, units = _request_run(kv_lens, b, start, stop, base)
        base += units
        row = row0 + gl.arange(0, 64, ROW)
        at = (b * rows + row0).to(gl.int32)
        m = gl.full([64], -1e30, gl.float32, ROW)
        row_sum = gl.zeros([64], gl.float32, ROW)
        if lo < hi:
            mbarrier.expect(q_full, 64 * 128 * 2)
            tma.async_copy_global_to_shared(q_tiles, [at, 448], q_full, s_q3)
            tma.async_copy_global_to_shared(q_tiles, [at, 512], q_full, s_q_rope)
            q_row = row0 + gl.arange(0, 64, QROW)
            q_at = q + (gl.cast(b, gl.int64) * rows + q_row)[:, None] * 576
            q_ok = (q_row < rows)[:, None]
            q0 = gl.load(q_at + gl.arange(0, 256, QCOL)[None, :], mask=q_ok, other=0.0)
            q1 = gl.load(q_at + 256 + gl.arange(0, 128, QCOL)[None, :], mask=q_ok, other=0.0)
            q2 = gl.load(q_at + 384 + gl.arange(0, 64, QCOL)[None, :], mask=q_ok, other=0.0)
            mbarrier.wait(q_full, req & 1)
            req += 1
            row_end = kv_len - q_len + 1 + row // num_q_heads
            first_hidden = kv_len - q_len + 1
            for i in range((hi - lo) * 2):
                token = lo * PAIR + i * _N
                slot = it & 3
                s = _scores(q0, q1, q2, s_q3, s_q_rope, left, right, slots, full_left, full_right, full_rope, stage,
                            phase, slot, (it >> 2) & 1)
                mbarrier.arrive(scored.index(slot), count=1)
                m, row_sum = _weigh(s, m, row_sum, scale_log2, token, row_end, first_hidden, slots, s_fade, weighed,
                                    slot, P)
                it += 1
                stage += 1
                if stage == _STAGES:
                    stage = 0
                    phase ^= 1
        seen = row_sum > 0.0
        divisor = gl.where(seen, row_sum, 1.0)
        lse2 = gl.where(seen, m + gl.log2(divisor), -float("inf"))
        mbarrier.wait(taken, (b - first - 1) & 1, pred=b > first)
        s_norm.store(1.0 / divisor)
        mbarrier.arrive(normed, count=1)
        if (lo == 0) & (hi == units):
            gl.store(lse + gl.cast(b, gl.int64) * rows + row, lse2 * 0.6931471805599453, mask=row < rows)
        else:
            gl.store(part_lse + gl.cast(part + b, gl.int64) * rows + row, lse2, mask=row < rows)


@gluon.jit
def _blank_unused(half, unused_from):
    """Set the rows of a block from `unused_from` on to zero: their weight is 0, and 0 x NaN would not be."""
    L: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
    row = gl.arange(0, _N, gl.SliceLayout(1, L))
    for c in gl.static_range(4):
        piece = half.slice(c * 64, 64, 1)
        piece.store(gl.where((row < unused_from)[:, None], piece.load(L), 0.0))
    fence_async_shared()
    _barrier()


@gluon.jit
def _accumulate_requests(
    half_tiles, rope_tiles, block_table, max_pages, kv_lens, out, part_out, half, slots, s_fade, s_norm, full, full_rope,
    scored, weighed, used, normed, taken, first, last, start, stop, base, part, row0, rows,
    COL: gl.constexpr, PAGE_SIZE: gl.constexpr, P: gl.constexpr, GATE: gl.constexpr,
):  # fmt: skip
    """An accumulating group: loads its half of the value columns, adds up weights times values, stores the output."""
    O: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, 256, 16])
    ROW: gl.constexpr = gl.SliceLayout(1, O)
    WARP: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])
    stage = 0
    it = 0
    for b in range(first, last):
        kv_len, lo, hi, units = _request_run(kv_lens, b, start, stop, base)
        base += units
        pages = block_table + gl.cast(b, gl.int64) * max_pages
        first_token = lo * PAIR
        n = (hi - lo) * 2
        acc = gl.zeros([64, 256], gl.float32, O)
        if lo < hi:
            ahead = stage
            for j in gl.static_range(_STAGES):
                if j < n:
                    token = first_token + j * _N
                    at = _slot_of(_page_of(pages, token, kv_len, PAGE_SIZE), token, kv_len, PAGE_SIZE)
                    mbarrier.expect(full.index(ahead), _N * 256 * 2)
                    tma.async_copy_global_to_shared(half_tiles, [at, COL], full.index(ahead), half.index(ahead))
                    if COL == 0:
                        if j < _SLOTS:
                            mbarrier.expect(full_rope.index((it + j) & 3), _N * 64 * 2)
                            tma.async_copy_global_to_shared(
                                rope_tiles, [at, 512], full_rope.index((it + j) & 3), slots.index((it + j) & 3)
                            )
                    ahead += 1
                    if ahead == _STAGES:
                        ahead = 0
            for i in range(n):
                slot = (it + i) & 3
                slot_phase = ((it + i) >> 2) & 1
                # read well before they are needed
                next_token = first_token + (i + _STAGES) * _N
                next_page = _page_of(pages, next_token, kv_len, PAGE_SIZE)
                rope_token = first_token + (i + _SLOTS) * _N
                rope_page = next_page
                if COL == 0:
                    rope_page = _page_of(pages, rope_token, kv_len, PAGE_SIZE)
                mbarrier.wait(weighed.index(slot), slot_phase)
                if gl.min(s_fade.index(slot).load(WARP), 0) < 1.0:
                    acc = acc * s_fade.index(slot).load(ROW)[:, None]
                if first_token + (i + 1) * _N > kv_len:
                    _blank_unused(half.index(stage), kv_len - first_token - i * _N)
                weights = slots.index(slot)._reinterpret(slots.dtype, [64, _N], P)
                if GATE:
                    # the product of the next scores goes first, so that this one runs while they are weighed
                    mbarrier.wait(scored.index((it + i + 1) & 3), ((it + i + 1) >> 2) & 1, pred=i + 1 < n)
                acc = warpgroup_mma(weights, half.index(stage), acc, is_async=True)
                acc = warpgroup_mma_wait(0, deps=[acc])
                mbarrier.arrive(used.index(slot), count=1)
                more = i + _STAGES < n
                mbarrier.expect(full.index(stage), _N * 256 * 2, pred=more)
                tma.async_copy_global_to_shared(
                    half_tiles, [_slot_of(next_page, next_token, kv_len, PAGE_SIZE), COL], full.index(stage),
                    half.index(stage), pred=more,
                )  # fmt: skip
                if COL == 0:
                    more = i + _SLOTS < n
                    mbarrier.wait(used.index(slot), slot_phase)
                    mbarrier.expect(full_rope.index(slot), _N * 64 * 2, pred=more)
                    tma.async_copy_global_to_shared(
                        rope_tiles, [_slot_of(rope_page, rope_token, kv_len, PAGE_SIZE), 512], full_rope.index(slot),
                        slots.index(slot), pred=more,
                    )  # fmt: skip
                stage += 1
                if stage == _STAGES:
                    stage = 0
            it += n
        mbarrier.wait(normed, (b - first) & 1)
        acc = acc * s_norm.load(ROW)[:, None]
        mbarrier.arrive(taken, count=1)
        row = row0 + gl.arange(0, 64, ROW)
        col = COL + gl.arange(0, 256, gl.SliceLayout(0, O))
        ok = (row < rows)[:, None] & (col < 512)[None, :]
        if (lo == 0) & (hi == units):
            cell = gl.cast(b, gl.int64) * rows + row
            gl.store(out + cell[:, None] * 512 + col[None, :], acc.to(out.dtype.element_ty), mask=ok)
        else:
            cell = gl.cast(part + b, gl.int64) * rows + row
            gl.store(part_out + cell[:, None] * 512 + col[None, :], acc, mask=ok)


@gluon.jit
def mla_decode_many_rows_kernel(
    q, q_tiles, half_tiles, rope_tiles, block_table, kv_lens, out, lse, part_out, part_lse,
    scale_log2, batch, q_len, num_q_heads, max_pages, num_splits,
    PAGE_SIZE: gl.constexpr, BATCH_P2: gl.constexpr, SPLIT: gl.constexpr, GATE: gl.constexpr, GROUP_REGS: gl.constexpr,
):  # fmt: skip
    """Attention of 64 rows over one part of the cache; writes `out` and `lse`, or the part's partial."""
    rows = q_len * num_q_heads
    row_blocks = gl.cdiv(rows, 64)
    # row blocks innermost: the programs that read the same part run together and share it in L2
    row0 = gl.program_id(0) % row_blocks * 64
    part = gl.program_id(0) // row_blocks
    if SPLIT:
        first, last, start, stop, base = _part_bounds(kv_lens, batch, part, num_splits, BATCH_P2)
    else:
        first, last, start, stop, base = part, part + 1, 0, 1073741824, 0

    dtype: gl.constexpr = half_tiles.dtype
    left = gl.allocate_shared_memory(dtype, [_STAGES, _N, 256], half_tiles.layout)
    right = gl.allocate_shared_memory(dtype, [_STAGES, _N, 256], half_tiles.layout)
    slots = gl.allocate_shared_memory(dtype, [_SLOTS, _N, 64], rope_tiles.layout)
    s_q3 = gl.allocate_shared_memory(dtype, [64, 64], q_tiles.layout)
    s_q_rope = gl.allocate_shared_memory(dtype, [64, 64], q_tiles.layout)
    plain: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    s_fade = gl.allocate_shared_memory(gl.float32, [_SLOTS, 64], plain)
    s_norm = gl.allocate_shared_memory(gl.float32, [64], plain)
    P: gl.constexpr = gl.NVMMASharedLayout.get_default_for([64, _N], dtype)
    full_left = gl.allocate_shared_memory(gl.int64, [_STAGES, 1], mbarrier.MBarrierLayout())
    full_right = gl.allocate_shared_memory(gl.int64, [_STAGES, 1], mbarrier.MBarrierLayout())
    full_rope = gl.allocate_shared_memory(gl.int64, [_SLOTS, 1], mbarrier.MBarrierLayout())
    scored = gl.allocate_shared_memory(gl.int64, [_SLOTS, 1], mbarrier.MBarrierLayout())
    weighed = gl.allocate_shared_memory(gl.int64, [_SLOTS, 1], mbarrier.MBarrierLayout())
    used = gl.allocate_shared_memory(gl.int64, [_SLOTS, 1], mbarrier.MBarrierLayout())
    q_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    normed = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    taken = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    for i in gl.static_range(_STAGES):
        mbarrier.init(full_left.index(i), count=1)
        mbarrier.init(full_right.index(i), count=1)
    for i in gl.static_range(_SLOTS):
        mbarrier.init(full_rope.index(i), count=1)
        mbarrier.init(scored.index(i), count=1)
        mbarrier.init(weighed.index(i), count=1)
        mbarrier.init(used.index(i), count=2)
    mbarrier.init(q_full, count=1)
    mbarrier.init(normed, count=1)
    mbarrier.init(taken, count=2)
    fence_async_shared()

    gl.warp_specialize(
        [
            (
                _score_requests,
                (
                    q, q_tiles, kv_lens, lse, part_lse, left, right, slots, s_q3, s_q_rope, s_fade, s_norm,
                    full_left, full_right, full_rope, q_full, scored, weighed, normed, taken, first, last, start, stop, base,
                    part, row0, rows, num_q_heads, q_len, scale_log2, P,
                ),
            ),
            (
                _accumulate_requests,
                (
                    half_tiles, rope_tiles, block_table, max_pages, kv_lens, out, part_out, left, slots, s_fade,
                    s_norm, full_left, full_rope, scored, weighed, used, normed, taken, first, last, start, stop, base, part,
                    row0, rows, 0, PAGE_SIZE, P, GATE,
                ),
            ),
            (
                _accumulate_requests,
                (
                    half_tiles, rope_tiles, block_table, max_pages, kv_lens, out, part_out, right, slots, s_fade,
                    s_norm, full_right, full_rope, scored, weighed, used, normed, taken, first, last, start, stop, base, part,
                    row0, rows, 256, PAGE_SIZE, P, GATE,
                ),
            ),
        ],
        [4, 4],
        [GROUP_REGS, GROUP_REGS],
    )  # fmt: skip


def _check(q, kv_cache, block_table, kv_lens, out, lse) -> None:
    check_shape("q", q, None, None, None, None)
    batch, q_len, num_q_heads, kv_dim = q.shape
    check_shape("kv_cache", kv_cache, None, None, kv_dim)
    check_shape("block_table", block_table, batch, None)
    check_shape("kv_lens", kv_lens, batch)
    check_shape("out", out, batch, q_len, num_q_heads, None)
    check_shape("lse", lse, batch, q_len, num_q_heads)
    for name, tensor, dtype in (
        ("kv_cache", kv_cache, q.dtype),
        ("out", out, q.dtype),
        ("lse", lse, torch.float32),
        ("block_table", block_table, torch.int32),
        ("kv_lens", kv_lens, torch.int32),
    ):
        check_dtype(name, tensor, dtype)
    if q.dtype not in (torch.float16, torch.bfloat16):
        raise NotImplementedError(f"q is {q.dtype}; float16 and bfloat16 are supported")
    if (kv_dim, out.shape[-1]) != (576, 512):
        raise NotImplementedError(
            f"kv_lora_rank {out.shape[-1]} with qk_rope_head_dim {kv_dim - out.shape[-1]}; 512 with 64 is supported"
        )
    if kv_cache.shape[1] % TOKENS:
        raise NotImplementedError(f"page_size {kv_cache.shape[1]}; multiples of {TOKENS} are supported")


def _tiles(tensor, rows: int, cols: int, dtype) -> TensorDescriptor:
    layout = gl.NVMMASharedLayout.get_default_for([rows, cols], dtype)
    return TensorDescriptor.from_tensor(tensor, [rows, cols], layout)


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
    gate: int = 1,
    group_regs: int = 160,
) -> Launch:
    """Bind absorbed MLA decode to its tensors."""
    _check(q, kv_cache, block_table, kv_lens, out, lse)
    batch, q_len, num_q_heads, kv_dim = q.shape
    num_pages, page_size, _ = kv_cache.shape
    rows = q_len * num_q_heads
    row_blocks = triton.cdiv(rows, ROWS)
    sms = num_sms(q.device)
    splits = num_splits or max(1, sms // row_blocks)
    part_out, part_lse = allocate_partials(splits, batch, rows, 512, q.device)
    dtype = gl.bfloat16 if q.dtype == torch.bfloat16 else gl.float16
    tokens = kv_cache.view(num_pages * page_size, kv_dim)
    q_tiles = _tiles(q.view(batch * rows, kv_dim), ROWS, 64, dtype)
    half_tiles, rope_tiles = _tiles(tokens, TOKENS, 256, dtype), _tiles(tokens, TOKENS, 64, dtype)
    batch_p2 = 1 if batch == 1 else max(128, triton.next_power_of_2(batch))
    grid = ((splits if splits > 1 else batch) * row_blocks,)
    combine = combine_config(splits, batch, rows, 512, sms)
    merge_grid = combine_grid(combine, batch, rows, 512)

    def run() -> None:
        mla_decode_many_rows_kernel[grid](
            q, q_tiles, half_tiles, rope_tiles, block_table, kv_lens, out, lse, part_out, part_lse,
            softmax_scale * LOG2_E, batch, q_len, num_q_heads, block_table.shape[1], splits,
            PAGE_SIZE=page_size, BATCH_P2=batch_p2, SPLIT=splits > 1, GATE=gate, GROUP_REGS=group_regs,
            num_warps=4, maxnreg=168,
        )  # fmt: skip
        if splits > 1:
            combine_kernel[merge_grid](
                part_out, part_lse, out, lse, kv_lens, batch, rows, splits,
                V_DIM=512, BLOCK_N=PAIR.value, BATCH_P2=batch_p2, **combine,
            )  # fmt: skip

    config = {"num_splits": splits, "gate": gate, "group_regs": group_regs}
    return Launch(config, part_out.nbytes + part_lse.nbytes, run)
