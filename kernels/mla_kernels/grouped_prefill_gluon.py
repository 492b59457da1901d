"""Grouped prefill, Gluon on sm_90: two warp groups that take turns, fed by TMA; MHA, GQA, MQA and MLA's expanded form.

Source: FlashAttention-3 (Shah et al., 2024, arXiv 2407.08608), section 3: the loading warp and the two groups that take
turns (3.1), and products in flight while a block is weighed (3.2).

A program owns 128 queries of a head at a time, 64 for each of two warp groups, and walks the blocks of 128 tokens that
they see, the last first. One warp loads queries, keys and values. A group starts two products at once, the scores of a
block and the values of the block before it, and turns the scores into weights while the values are being multiplied.
Once it has started them it is the other group's turn to start its own: so the tensor cores have the products of one
group while the other weighs.

There are as many programs as SMs. Each finds its tiles on the device, from q_starts, so that lengths may change between
calls. Only blocks that the causal limit or the request's end crosses are masked. Slots past the end may hold NaN, which
masked scores are rid of; among the values they are set to zero. Whole tiles of the output leave by TMA, except where
keys have 192 columns: there shared memory is full.
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

from mla_kernels.gluon_sm90 import barrier, blank_unused, tiles, unsupported_pages, unsupported_queries
from mla_kernels.grouped_prefill_triton import tokens_in_l2
from mla_kernels.launch import Launch, check_grouped, check_scale
from mla_kernels.online_softmax import LOG2_E
from mla_kernels.packed_gluon import row_block_ends
from mla_kernels.split_kv import num_sms

ROWS = 64
"""Query rows of a warp group: the M of one warp-group product. A program has twice as many."""

BLOCK = 128
"""Tokens of a block."""

HEAD_DIMS = ((64, 64), (128, 128), (192, 128))
"""Of keys and values."""

STAGES = 2
"""Of keys, and of values; a block's stage and phase are the two lowest bits of its number."""

GROUP_REGISTERS = 240
"""Of a thread of the second group; the first has what is left, as many."""

LOADER_REGISTERS = 24

_M = gl.constexpr(ROWS)
_N = gl.constexpr(BLOCK)
_STAGES = gl.constexpr(STAGES)
_GROUP_REGISTERS = gl.constexpr(GROUP_REGISTERS)
_LOADER_REGISTERS = gl.constexpr(LOADER_REGISTERS)

# the barriers: the first of a kind; of keys and values one a stage, of queries and turns one a group
_K_EMPTY = gl.constexpr(0)
_V_EMPTY = gl.constexpr(STAGES)
_K_FULL = gl.constexpr(2 * STAGES)
_V_FULL = gl.constexpr(3 * STAGES)
_Q_FULL = gl.constexpr(4 * STAGES)
_Q_EMPTY = gl.constexpr(4 * STAGES + 2)
_TURN = gl.constexpr(4 * STAGES + 4)
_BARS = gl.constexpr(4 * STAGES + 6)


@gluon.jit
def _tile(t, ends, q_starts, kv_lens, num_q_heads, group, l2_tokens):
    """Request and query head of tile `t`, where the request's queries start, the tile's first among them, how many
    queries and tokens the request has, and the blocks of the cache that the tile's last row sees.

    A request's KV heads come as many at a time as fit L2. Of these the row blocks with the most keys come first, each
    for all these heads.
    """
    place = t // num_q_heads
    b = gl.sum((ends <= place).to(gl.int32), 0)
    before = gl.max(gl.where(ends <= place, ends, 0), 0)
    row_blocks = gl.min(gl.where(ends > place, ends, 2147483647), 0) - before
    kv_len = gl.load(kv_lens + b)
    start = gl.load(q_starts + b)
    q_len = gl.load(q_starts + b + 1) - start
    within = t - before * num_q_heads
    heads = gl.minimum(gl.maximum(l2_tokens // gl.maximum(kv_len, 1), 1) * group, num_q_heads)
    first_head = within // (heads * row_blocks) * heads
    within -= first_head * row_blocks
    heads = gl.minimum(heads, num_q_heads - first_head)
    head = first_head + within % heads
    first = (row_blocks - 1 - within // heads) * 2 * _M
    seen = gl.minimum(kv_len, kv_len - q_len + first + 2 * _M)
    return b, head, start, first, q_len, kv_len, gl.cdiv(gl.maximum(seen, 0), _N)


@gluon.jit
def _load_block(
    tiles, tiles2, boxes, boxes2, bar, pages, block, last_box, stage, col,
    C1: gl.constexpr, C2: gl.constexpr, PAGE_SIZE: gl.constexpr,
):  # fmt: skip
    """Start copying C1 + C2 columns of a block, from `col` on, into one stage, box by box of at most a page.

    A box past the request's last one is taken from where that lies, so that no page behind it is looked up.
    """
    BOX: gl.constexpr = min(_N, PAGE_SIZE)
    BOXES: gl.constexpr = _N // BOX
    STRIP: gl.constexpr = C1 if BOXES == 1 else 64
    STRIPS: gl.constexpr = C1 // STRIP
    for i in gl.static_range(BOXES):
        box = gl.minimum(block * BOXES + i, last_box)
        at = gl.load(pages + box * BOX // PAGE_SIZE) * PAGE_SIZE + box * BOX % PAGE_SIZE
        for c in gl.static_range(STRIPS):
            target = boxes.index((stage * STRIPS + c) * BOXES + i)
            tma.async_copy_global_to_shared(tiles, [at, col + c * STRIP], bar, target)
        if C2 > 0:
            tma.async_copy_global_to_shared(tiles2, [at, col + C1], bar, boxes2.index(stage * BOXES + i))


@gluon.jit
def _load_tiles(
    q_tiles, q_tiles2, k_tiles, k_tiles2, v_tiles, block_table, max_pages, q_starts, kv_lens, s_q, s_q2, k_boxes,
    k_boxes2, v_boxes, bars, batch, num_q_heads, group, l2_tokens,
    K1: gl.constexpr, K2: gl.constexpr, V: gl.constexpr, PAGE_SIZE: gl.constexpr, BATCH_P2: gl.constexpr,
):  # fmt: skip
    """The loading warp: each group's queries, and blocks of keys and values, into what is empty."""
    BOX: gl.constexpr = min(_N, PAGE_SIZE)
    loaded = 0
    tile = 0
    ends = row_block_ends(q_starts, batch, 1, 2 * _M, BATCH_P2, 1)
    for t in range(gl.program_id(0), gl.max(ends, 0) * num_q_heads, gl.num_programs(0)):
        b, head, start, first, _, kv_len, blocks = _tile(t, ends, q_starts, kv_lens, num_q_heads, group, l2_tokens)
        if blocks > 0:
            kv_head = head // group
            pages = block_table + gl.cast(b, gl.int64) * max_pages
            for w in gl.static_range(2):
                bar = bars.index(_Q_FULL + w)
                mbarrier.wait(bars.index(_Q_EMPTY + w), (tile & 1) ^ 1)
                mbarrier.expect(bar, _M * (K1 + K2) * 2)
                row = start + first + w * _M
                tma.async_copy_global_to_shared(q_tiles, [row, head * (K1 + K2)], bar, s_q.index(w))
                if K2 > 0:
                    tma.async_copy_global_to_shared(q_tiles2, [row, head * (K1 + K2) + K1], bar, s_q2.index(w))
            tile += 1
            last_box = (kv_len - 1) // BOX
            for back in range(blocks):
                block = blocks - 1 - back
                stage = loaded & 1
                phase = (loaded >> 1) & 1
                mbarrier.wait(bars.index(_K_EMPTY + stage), phase ^ 1)
                mbarrier.expect(bars.index(_K_FULL + stage), _N * (K1 + K2) * 2)
                _load_block(
                    k_tiles, k_tiles2, k_boxes, k_boxes2, bars.index(_K_FULL + stage), pages, block, last_box, stage,
                    kv_head * (K1 + K2), K1, K2, PAGE_SIZE,
                )  # fmt: skip
                mbarrier.wait(bars.index(_V_EMPTY + stage), phase ^ 1)
                mbarrier.expect(bars.index(_V_FULL + stage), _N * V * 2)
                _load_block(
                    v_tiles, v_tiles, v_boxes, v_boxes, bars.index(_V_FULL + stage), pages, block, last_box, stage,
                    kv_head * V, V, 0, PAGE_SIZE,
                )  # fmt: skip
                loaded += 1


@gluon.jit
def _scores(q, q2, k, k2, K2: gl.constexpr):
    """Start the product of a group's queries and one block's keys."""
    S: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, _N, 16])
    zero = gl.zeros([_M, _N], gl.float32, S)
    s = warpgroup_mma(q, k.permute((1, 0)), zero, use_acc=False, is_async=True)
    if K2 > 0:
        s = warpgroup_mma(q2, k2.permute((1, 0)), s, is_async=True)
    return s


@gluon.jit
def _hide(s, token, kv_len, seen_by_first):
    """Take out what rows must not see of the block at `token`; the group's first row sees so many tokens."""
    S: gl.constexpr = s.type.layout
    n = token + gl.arange(0, _N, gl.SliceLayout(0, S))
    visible = gl.minimum(seen_by_first + gl.arange(0, _M, gl.SliceLayout(1, S)), kv_len)
    return gl.where(n[None, :] < visible[:, None], s, -float("inf"))


@gluon.jit
def _store(
    acc, m, sums, scale_log2, out_tiles, s_out, out, lse, start, first, q_len, head, num_q_heads,
    w: gl.constexpr, V: gl.constexpr, BY_TMA: gl.constexpr,
):  # fmt: skip
    """Write the rows of group `w`, as far as the request has queries."""
    ROW: gl.constexpr = gl.SliceLayout(1, acc.type.layout)
    LSE_ROW: gl.constexpr = sums.type.layout
    divisor = gl.where(sums > 0.0, sums, 1.0)
    acc = acc * gl.convert_layout(1.0 / divisor, ROW)[:, None]
    whole = first + w * _M + _M <= q_len
    if BY_TMA:  # noqa: SIM102 (known when compiling, the inner one is not)
        if whole:
            # the store before this one has read its tile
            tma.store_wait(0)
            barrier()
            s_out.store(acc.to(s_out.dtype))
            fence_async_shared()
            barrier()
            tma.async_copy_shared_to_global(out_tiles, [start + first + w * _M, head * V], s_out)
    if (not BY_TMA) or (not whole):
        row = first + w * _M + gl.arange(0, _M, ROW)
        col = gl.arange(0, V, gl.SliceLayout(0, acc.type.layout))
        ok = (row < q_len)[:, None] & (col < V)[None, :]
        cell = gl.cast(start + row, gl.int64) * num_q_heads + head
        gl.store(out + cell[:, None] * V + col[None, :], acc.to(out.dtype.element_ty), mask=ok)
    lse_row = first + w * _M + gl.arange(0, _M, LSE_ROW)
    lse_cell = gl.cast(start + lse_row, gl.int64) * num_q_heads + head
    value = gl.where(sums > 0.0, m * scale_log2 + gl.log2(divisor), -float("inf")) * 0.6931471805599453
    gl.store(lse + lse_cell, value, mask=lse_row < q_len)


@gluon.jit
def _attend_tiles(
    out_tiles, s_out, out, lse, q_starts, kv_lens, s_q, s_q2, s_k, s_k2, s_v, bars, batch, num_q_heads, group,
    l2_tokens, scale_log2, w: gl.constexpr,
    K2: gl.constexpr, V: gl.constexpr, BATCH_P2: gl.constexpr, OUT_TMA: gl.constexpr,
):  # fmt: skip
    """Warp group `w` of two: scores, weights and outputs of its 64 rows of each tile."""
    S: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, _N, 16])
    OUT: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, V, 16])
    P: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=OUT, k_width=2)
    ROW: gl.constexpr = gl.SliceLayout(1, S)
    OUT_ROW: gl.constexpr = gl.SliceLayout(1, OUT)
    dtype: gl.constexpr = s_q.dtype
    done = 0
    tile = 0
    turn = 0
    ends = row_block_ends(q_starts, batch, 1, 2 * _M, BATCH_P2, 4)
    for t in range(gl.program_id(0), gl.max(ends, 0) * num_q_heads, gl.num_programs(0)):
        _, head, start, first, q_len, kv_len, blocks = _tile(t, ends, q_starts, kv_lens, num_q_heads, group, l2_tokens)
        acc = gl.zeros([_M, V], gl.float32, OUT)
        m = gl.full([_M], -1e30, gl.float32, ROW)
        sums = gl.zeros([_M], gl.float32, ROW)
        if blocks > 0:
            seen_by_first = kv_len - q_len + first + w * _M + 1
            mbarrier.wait(bars.index(_Q_FULL + w), tile & 1)
            # the last block, on the causal limit
            stage = done & 1
            phase = (done >> 1) & 1
            mbarrier.wait(bars.index(_K_FULL + stage), phase)
            s = _scores(s_q.index(w), s_q2.index(w), s_k.index(stage), s_k2.index(stage), K2)
            s = warpgroup_mma_wait(0, deps=[s])
            mbarrier.arrive(bars.index(_K_EMPTY + stage), count=1)
            s = _hide(s, (blocks - 1) * _N, kv_len, seen_by_first)
            m = gl.maximum(gl.max(s, 1), -1e30)
            p = gl.exp2(s * scale_log2 - (m * scale_log2)[:, None])
            sums = gl.sum(p, 1)
            weights = gl.convert_layout(p.to(dtype), P)
            if blocks * _N > kv_len:
                mbarrier.wait(bars.index(_V_FULL + stage), phase)
                # both groups do, and write the same
                blank_unused(s_v.index(stage), kv_len - (blocks - 1) * _N)
            for back in range(1, blocks):
                block = blocks - 1 - back
                next_stage = (done + 1) & 1
                next_phase = ((done + 1) >> 1) & 1
                mbarrier.wait(bars.index(_K_FULL + next_stage), next_phase)
                mbarrier.wait(bars.index(_TURN + w), (turn & 1) ^ (1 - w))
                turn += 1
                s = _scores(s_q.index(w), s_q2.index(w), s_k.index(next_stage), s_k2.index(next_stage), K2)
                mbarrier.wait(bars.index(_V_FULL + stage), phase)
                acc = warpgroup_mma(weights, s_v.index(stage), acc, is_async=True)
                mbarrier.arrive(bars.index(_TURN + 1 - w), count=1)
                s = warpgroup_mma_wait(1, deps=[s])
                mbarrier.arrive(bars.index(_K_EMPTY + next_stage), count=1)
                if (block + 1) * _N > gl.minimum(seen_by_first, kv_len):
                    s = _hide(s, block * _N, kv_len, seen_by_first)
                top = gl.maximum(m, gl.max(s, 1))
                fade = gl.exp2((m - top) * scale_log2)
                p = gl.exp2(s * scale_log2 - (top * scale_log2)[:, None])
                m = top
                sums = sums * fade + gl.sum(p, 1)
                acc = warpgroup_mma_wait(0, deps=[acc])
                mbarrier.arrive(bars.index(_V_EMPTY + stage), count=1)
                acc = acc * gl.convert_layout(fade, OUT_ROW)[:, None]
                weights = gl.convert_layout(p.to(dtype), P)
                done += 1
                stage = next_stage
                phase = next_phase
            mbarrier.arrive(bars.index(_Q_EMPTY + w), count=1)
            mbarrier.wait(bars.index(_V_FULL + stage), phase)
            acc = warpgroup_mma(weights, s_v.index(stage), acc, is_async=True)
            acc = warpgroup_mma_wait(0, deps=[acc])
            mbarrier.arrive(bars.index(_V_EMPTY + stage), count=1)
            done += 1
            tile += 1
        _store(
            acc, m, sums, scale_log2, out_tiles, s_out.index(w), out, lse, start, first, q_len, head, num_q_heads, w, V,
            OUT_TMA,
        )  # fmt: skip
    if OUT_TMA:
        tma.store_wait(0)


@gluon.jit
def grouped_prefill_gluon_kernel(
    q_tiles, q_tiles2, k_tiles, k_tiles2, v_tiles, out_tiles, block_table, kv_lens, q_starts, out, lse, scale_log2,
    batch, num_q_heads, group, max_pages, l2_tokens,
    K1: gl.constexpr, K2: gl.constexpr, V: gl.constexpr, PAGE_SIZE: gl.constexpr, BATCH_P2: gl.constexpr,
):  # fmt: skip
    """Attention of row blocks of query heads over all that their rows see; writes `out` and `lse`."""
    BOX: gl.constexpr = min(_N, PAGE_SIZE)
    BOXES: gl.constexpr = _N // BOX
    # beside keys in two tiles shared memory has no room for the output's
    OUT_TMA: gl.constexpr = K2 == 0
    dtype: gl.constexpr = q_tiles.dtype
    K_TILE: gl.constexpr = gl.NVMMASharedLayout.get_default_for([_N, K1], dtype)
    V_TILE: gl.constexpr = gl.NVMMASharedLayout.get_default_for([_N, V], dtype)
    K_STRIP: gl.constexpr = K1 if BOXES == 1 else 64
    V_STRIP: gl.constexpr = V if BOXES == 1 else 64
    s_q = gl.allocate_shared_memory(dtype, [2, _M, K1], q_tiles.layout)
    s_k = gl.allocate_shared_memory(dtype, [_STAGES, _N, K1], K_TILE)
    k_boxes = s_k._reinterpret(dtype, [_STAGES * (K1 // K_STRIP) * BOXES, BOX, K_STRIP], k_tiles.layout)
    s_q2 = s_q
    s_k2 = s_k
    k_boxes2 = k_boxes
    if K2 > 0:
        K2_TILE: gl.constexpr = gl.NVMMASharedLayout.get_default_for([_N, K2], dtype)
        s_q2 = gl.allocate_shared_memory(dtype, [2, _M, K2], q_tiles2.layout)
        k_boxes2 = gl.allocate_shared_memory(dtype, [_STAGES * BOXES, BOX, K2], k_tiles2.layout)
        s_k2 = k_boxes2._reinterpret(dtype, [_STAGES, _N, K2], K2_TILE)
    s_v = gl.allocate_shared_memory(dtype, [_STAGES, _N, V], V_TILE)
    v_boxes = s_v._reinterpret(dtype, [_STAGES * (V // V_STRIP) * BOXES, BOX, V_STRIP], v_tiles.layout)
    s_out = s_q
    if OUT_TMA:
        s_out = gl.allocate_shared_memory(dtype, [2, _M, V], out_tiles.layout)
    bars = gl.allocate_shared_memory(gl.int64, [_BARS, 1], mbarrier.MBarrierLayout())
    # both groups give a block back
    for i in range(_K_FULL):
        mbarrier.init(bars.index(i), count=2)
    for i in range(_K_FULL, _BARS):
        mbarrier.init(bars.index(i), count=1)
    fence_async_shared()

    gl.warp_specialize(
        [
            (
                _attend_tiles,
                (
                    out_tiles, s_out, out, lse, q_starts, kv_lens, s_q, s_q2, s_k, s_k2, s_v, bars, batch, num_q_heads,
                    group, l2_tokens, scale_log2, 0, K2, V, BATCH_P2, OUT_TMA,
                ),
            ),
            (
                _attend_tiles,
                (
                    out_tiles, s_out, out, lse, q_starts, kv_lens, s_q, s_q2, s_k, s_k2, s_v, bars, batch, num_q_heads,
                    group, l2_tokens, scale_log2, 1, K2, V, BATCH_P2, OUT_TMA,
                ),
            ),
            (
                _load_tiles,
                (
                    q_tiles, q_tiles2, k_tiles, k_tiles2, v_tiles, block_table, max_pages, q_starts, kv_lens, s_q, s_q2,
                    k_boxes, k_boxes2, v_boxes, bars, batch, num_q_heads, group, l2_tokens,
                    K1, K2, V, PAGE_SIZE, BATCH_P2,
                ),
            ),
        ],
        [4, 1],
        [_GROUP_REGISTERS, _LOADER_REGISTERS],
    )  # fmt: skip


def unsupported(q: torch.Tensor, v_cache: torch.Tensor) -> str:
    """Why the kernel cannot take queries `[total_q, num_q_heads, qk_dim]` and such a cache; empty where it can."""
    dims = q.shape[-1], v_cache.shape[-1]
    if reason := unsupported_queries(q) or unsupported_pages(v_cache.shape[1], BLOCK):
        return reason
    if dims not in HEAD_DIMS:
        known = ", ".join(f"{qk_dim} with {v_dim}" for qk_dim, v_dim in HEAD_DIMS)
        return f"qk_dim {dims[0]} with v_dim {dims[1]}; {known} are supported"
    return ""


def bind(
    *,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_table: torch.Tensor,
    kv_lens: torch.Tensor,
    q_starts: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    softmax_scale: float,
) -> Launch:
    """Bind grouped prefill to its tensors.

    Shapes, dtypes and what may change between calls are those of `grouped_prefill_triton.bind`.

    Raises ValueError for tensors that contradict each other, NotImplementedError for what it cannot do: another GPU
    than sm_90, float32, head dims that are not in HEAD_DIMS, page sizes other than 16, 32, 64 and multiples of 128.
    """
    check_grouped(q, k_cache, v_cache, block_table, kv_lens, out, lse, most_dim=256, q_starts=q_starts)
    check_scale(softmax_scale)
    if reason := unsupported(q, v_cache):
        raise NotImplementedError(reason)
    config = {"block_m": 2 * ROWS, "block_n": BLOCK, "num_stages": STAGES}
    (total_q, num_q_heads, qk_dim), batch = q.shape, len(kv_lens)
    if total_q == 0:
        return Launch(config, workspace_bytes=0, run=lambda: None)
    num_pages, page_size, num_kv_heads, v_dim = v_cache.shape
    # keys of 192 columns in two tiles; a box of at most a page, and of 64 columns where a block takes several
    k1 = min(qk_dim, 128)
    k2 = qk_dim - k1
    box = min(BLOCK, page_size)
    q_rows, out_rows = q.view(total_q, -1), out.view(total_q, -1)
    k_rows, v_rows = k_cache.view(num_pages * page_size, -1), v_cache.view(num_pages * page_size, -1)
    q_tiles, k_tiles = tiles(q_rows, ROWS, k1), tiles(k_rows, box, k1 if box == BLOCK else 64)
    q_tiles2, k_tiles2 = (tiles(q_rows, ROWS, k2), tiles(k_rows, box, k2)) if k2 else (q_tiles, k_tiles)
    v_tiles, out_tiles = tiles(v_rows, box, v_dim if box == BLOCK else 64), tiles(out_rows, ROWS, v_dim)
    # a request has at most one row block that is not full
    row_blocks = total_q // (2 * ROWS) + min(batch, total_q)
    grid = (min(row_blocks * num_q_heads, num_sms(q.device)),)
    l2_tokens = tokens_in_l2(q.device, (qk_dim + v_dim) * q.element_size())

    def run() -> None:
        grouped_prefill_gluon_kernel[grid](
            q_tiles, q_tiles2, k_tiles, k_tiles2, v_tiles, out_tiles, block_table, kv_lens, q_starts, out, lse,
            softmax_scale * LOG2_E, batch, num_q_heads, num_q_heads // num_kv_heads, block_table.shape[1], l2_tokens,
            K1=k1, K2=k2, V=v_dim, PAGE_SIZE=page_size, BATCH_P2=max(32, triton.next_power_of_2(batch)),
            num_warps=4, maxnreg=168,
        )  # fmt: skip

    return Launch(config, workspace_bytes=0, run=run)
