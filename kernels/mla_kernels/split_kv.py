"""Splitting the cached tokens of a batch into equal parts, and merging what the parts computed.

The KV blocks of all requests are laid end to end and cut into `num_splits` runs. Where lengths differ, a gap of
`REQUEST_COST` follows each request, so that a run of many short requests has fewer blocks, and the runs differ by at
most one block; where they do not, all runs are equal but the last, and every request gets as many of them if that
leaves out at most a sixteenth. A run may end one request, cover others whole and begin a third. A request that lies
within one run is finished there; every other run that touches it leaves a partial in slot `part + request`, which is
unique because the next run either continues the request or moves on to a later one. Where giving every part the same
number of whole requests makes the longest part at most a sixteenth longer, nothing is cut and nothing is left to merge.
Lengths are read on the device, so a captured graph stays right when they change.

Partials: `part_out [num_splits + batch, rows, v_dim]` in the output's dtype, already divided by the part's own sum, and
`part_lse [num_splits + batch, rows]` in float32, in base 2. Flash-Decoding (Dao et al., 2023) describes the merge;
kernels/README.md has the formula.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_wait

REQUEST_COST = tl.constexpr(3)
"""What a part loses between two requests, in blocks."""


@triton.jit
def part_sizes(total, most, batch, num_splits):
    """The gap behind each request, blocks of a long part, how many parts are long (those behind them have one block
    less), whole requests of a part, and whether those are uncut; of `total` blocks, at most `most` a request."""
    # of requests of one length every part has as many, and every request as many parts
    alike = most * batch * 16 <= total * 17
    gap = tl.where(alike, 0, REQUEST_COST)
    whole = num_splits // batch * batch
    parts = tl.where(alike & (whole * 17 >= num_splits * 16), whole, num_splits)
    span = total + gap * batch
    payload = tl.maximum(tl.cdiv(span, parts), 1)
    long_parts = tl.where(alike, parts, span - (payload - 1) * parts)
    together = tl.cdiv(batch, parts)
    return gap, payload, long_parts, together, together * most * 16 <= payload * 17


@triton.jit
def part_start(part, payload, long_parts):
    """Where a part starts."""
    return part * payload - tl.maximum(part - long_parts, 0)


@triton.jit
def plan(kv_lens, batch, num_splits, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr):
    """Blocks of each request, and `part_sizes` of them."""
    request = tl.arange(0, BATCH_P2)
    blocks = tl.cdiv(tl.load(kv_lens + request, mask=request < batch, other=0), BLOCK_N)  # [BATCH_P2]
    gap, payload, long_parts, together, uncut = part_sizes(tl.sum(blocks, 0), tl.max(blocks, 0), batch, num_splits)
    return request, blocks, gap, payload, long_parts, together, uncut


@triton.jit
def part_bounds(kv_lens, batch, part, num_splits, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr):
    """Requests [first, last) of this part, its range [start, stop), where request `first` starts, and the gap behind
    each."""
    if BATCH_P2 == 1:
        total = tl.cdiv(tl.load(kv_lens), BLOCK_N)
        payload = tl.maximum(tl.cdiv(total, num_splits), 1)
        start = part * payload
        stop = tl.minimum(start + payload, total)
        first = 0
        last = tl.where(start < stop, 1, 0)
        base = 0
        gap = 0
    else:
        request, blocks, gap, payload, long_parts, together, uncut = plan(kv_lens, batch, num_splits, BLOCK_N, BATCH_P2)
        real = request < batch
        ends = tl.cumsum(blocks + gap, 0) - gap
        start = part_start(part, payload, long_parts)
        stop = part_start(part + 1, payload, long_parts)
        first = tl.sum((real & (ends <= start)).to(tl.int32), 0)
        last = tl.sum((real & (ends - blocks < stop)).to(tl.int32), 0)
        base = tl.sum(tl.where(request < first, blocks + gap, 0), 0)
        if uncut:
            first = tl.minimum(part * together, batch)
            last = tl.minimum(first + together, batch)
            start = 0
            stop = 1073741824
            base = 0
    return first, last, start, stop, base, gap


@triton.jit
def _part_at(place, payload, long_parts):
    """The part that `place` lies in."""
    ahead = long_parts * payload
    long = place < ahead
    return tl.where(long, place, place - ahead + long_parts * (payload - 1)) // tl.where(long, payload, payload - 1)


@triton.jit
def parts_of(b, request, blocks, gap, payload, long_parts):
    """The first part that has blocks of request `b`, and how many have."""
    base = tl.sum(tl.where(request < b, blocks + gap, 0), 0)
    mine = tl.sum(tl.where(request == b, blocks, 0), 0)
    first = _part_at(base, payload, long_parts)
    return first, tl.where(mine > 0, _part_at(base + mine - 1, payload, long_parts) - first + 1, 0)


@triton.jit
def _merge(
    part_out, part_lse, slot, count, rows, row, c, inside, top, total, acc, V_DIM: tl.constexpr, BLOCK_S: tl.constexpr
):  # fmt: skip
    """Columns `c` of up to BLOCK_S of `count` partials of a row, from `slot` on, merged into what was merged before."""
    s = tl.arange(0, BLOCK_S)
    ok = s < count
    cell = (slot + s) * rows + row  # [S]
    at = part_out + cell[:, None] * V_DIM + c[None, :]
    part = tl.load(at, mask=ok[:, None] & inside[None, :], other=0.0).to(tl.float32)  # [S, V]
    e = tl.load(part_lse + cell, mask=ok, other=-float("inf"))
    new_top = tl.maximum(top, tl.max(e, 0))
    weight = tl.exp2(e - new_top)
    fade = tl.exp2(top - new_top)
    return new_top, total * fade + tl.sum(weight, 0), acc * fade + tl.sum(part * weight[:, None], 0)


@triton.jit
def combine_kernel(
    part_out, part_lse, out, lse, kv_lens, batch, rows, num_splits,
    V_DIM: tl.constexpr, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr,
    BLOCK_S: tl.constexpr, BLOCK_V: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Merge the partials: BLOCK_V columns of one row of a request at once, BLOCK_S partials at a time.

    A program is one warp, so that nothing in it waits for other warps. With EARLY it is launched before the kernel that
    it follows has ended, and waits for it.
    """
    col_blocks: tl.constexpr = (V_DIM + BLOCK_V - 1) // BLOCK_V
    request, blocks, gap, payload, long_parts, _, uncut = plan(kv_lens, batch, num_splits, BLOCK_N, BATCH_P2)
    tiles = tl.where(uncut & (BATCH_P2 > 1), 0, rows * col_blocks * batch)
    if EARLY:
        gdc_wait()
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        b = tile // (rows * col_blocks)
        row = tile // col_blocks % rows
        c = tile % col_blocks * BLOCK_V + tl.arange(0, BLOCK_V)
        inside = (c < V_DIM) | (V_DIM % BLOCK_V == 0)
        first, count = parts_of(b, request, blocks, gap, payload, long_parts)
        if count != 1:
            top = -1e30
            total = 0.0
            acc = tl.zeros((BLOCK_V,), tl.float32)
            if count == 2:
                top, total, acc = _merge(
                    part_out, part_lse, (first + b).to(tl.int64), 2, rows, row, c, inside, top, total, acc, V_DIM, 2
                )
            else:
                for s0 in range(0, count, BLOCK_S):
                    top, total, acc = _merge(
                        part_out, part_lse, (first + b + s0).to(tl.int64), count - s0, rows, row, c, inside,
                        top, total, acc, V_DIM, BLOCK_S,
                    )  # fmt: skip
            seen = total > 0.0
            divisor = tl.where(seen, total, 1.0)
            cell = b.to(tl.int64) * rows + row
            tl.store(out + cell * V_DIM + c, (acc / divisor).to(out.dtype.element_ty), mask=inside)
            value = tl.where(seen, (top + tl.log2(divisor)) * 0.6931471805599453, -float("inf"))
            tl.store(lse + cell, value, mask=tile % col_blocks == 0)


def most_splits(programs: int, batch: int, most_blocks: int) -> int:
    """Parts for so many programs, where a request has at most `most_blocks` blocks: never more than there can be."""
    return max(1, min(programs, batch * most_blocks))


@dataclass(frozen=True)
class Partials:
    """What the parts of cut requests leave, `out [num_splits + batch, rows, v_dim]` and `lse`, and the call that merges
    them; a single unused element each, and nothing to do, where nothing is cut."""

    out: torch.Tensor
    lse: torch.Tensor
    combine: Callable[[], None]
    nbytes: int


def bind_partials(
    out: torch.Tensor, lse: torch.Tensor, kv_lens: torch.Tensor, *, num_splits: int, block_n: int
) -> Partials:
    """Room for the partials of `out [batch, ..., v_dim]` and `lse`, and what merges them into these."""
    if num_splits == 1:
        return Partials(out.new_empty(1), lse.new_empty(1), lambda: None, 0)
    batch, v_dim = out.shape[0], out.shape[-1]
    rows = out.numel() // (batch * v_dim)
    part_out = out.new_empty(num_splits + batch, rows, v_dim)
    part_lse = lse.new_empty(num_splits + batch, rows)
    combine = _bind_combine(part_out, part_lse, out, lse, kv_lens, num_splits, block_n)
    return Partials(part_out, part_lse, combine, part_out.nbytes + part_lse.nbytes)


PROGRAMS_AN_SM = 20
"""Of the combine: as many warps as an SM's registers hold. Each takes the next row when it is done with one."""


def combine_config(num_splits: int, batch: int, rows: int, v_dim: int, num_sms: int) -> dict[str, int]:
    """Tile of the combine: up to 512 columns of a row, fewer where there are few outputs, and 4 partials of so many."""
    block_v = min(512, triton.next_power_of_2(v_dim))
    while block_v > 32 and batch * rows * triton.cdiv(v_dim, block_v) < 4 * num_sms:
        block_v //= 2
    return {"BLOCK_S": max(2, min(triton.next_power_of_2(num_splits), 2048 // block_v)), "BLOCK_V": block_v}


def _bind_combine(
    part_out: torch.Tensor, part_lse: torch.Tensor, out: torch.Tensor, lse: torch.Tensor, kv_lens: torch.Tensor,
    num_splits: int, block_n: int,
) -> Callable[[], None]:  # fmt: skip
    (_, rows, v_dim), batch, sms = part_out.shape, out.shape[0], num_sms(out.device)
    config = combine_config(num_splits, batch, rows, v_dim, sms)
    grid = (min(batch * rows * triton.cdiv(v_dim, config["BLOCK_V"]), PROGRAMS_AN_SM * sms),)
    # programmatic dependent launch came with sm_90
    early = out.device.type == "cuda" and torch.cuda.get_device_capability(out.device)[0] >= 9
    options = {"launch_pdl": True} if early else {}

    def run() -> None:
        combine_kernel[grid](
            part_out, part_lse, out, lse, kv_lens, batch, rows, num_splits, V_DIM=v_dim, BLOCK_N=block_n,
            BATCH_P2=triton.next_power_of_2(batch), EARLY=early, num_warps=1, **config, **options,
        )  # fmt: skip

    return run


def num_sms(device: torch.device) -> int:
    """Streaming multiprocessors of the device; 4 where there is no GPU (the interpreter)."""
    if device.type != "cuda":
        return 4
    return torch.cuda.get_device_properties(device).multi_processor_count
