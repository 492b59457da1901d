"""Splitting the cached tokens of a batch into equal parts, and merging what the parts computed.

The KV blocks of all requests are laid end to end and cut into `num_splits` runs of equal length. Where lengths differ,
a gap of `REQUEST_COST` follows each request, so that a run of many short requests has fewer blocks; where they do not,
and at most a sixteenth of the runs is left out by it, every request gets as many. A run may end one request, cover
others whole and begin a third. A request that lies within one run is finished there; every other run
that touches it leaves a partial in slot `part + request`, which is unique because the next run either continues the
request or moves on to a later one. Where giving every part the same number of whole requests makes the longest part at
most a sixteenth longer, nothing is cut and nothing is left to merge. Lengths are read on the device, so a captured
graph stays right when they change.

Partials (float32): `part_out [num_splits + batch, rows, v_dim]`, already divided by the part's own sum, and
`part_lse [num_splits + batch, rows]`, in base 2. Flash-Decoding (Dao et al., 2023) describes the merge;
kernels/README.md has the formula.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_wait

REQUEST_COST = tl.constexpr(4)
"""What a part loses between two requests, in blocks."""


@triton.jit
def _plan(kv_lens, batch, num_splits, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr):
    """Blocks of each request, the gap behind it, length and whole requests of a part, and whether those are uncut."""
    request = tl.arange(0, BATCH_P2)
    blocks = tl.cdiv(tl.load(kv_lens + request, mask=request < batch, other=0), BLOCK_N)  # [BATCH_P2]
    total = tl.sum(blocks, 0)
    most = tl.max(blocks, 0)
    # of requests of one length every part has as many, and every request as many parts
    alike = most * batch * 16 <= total * 17
    gap = tl.where(alike, 0, REQUEST_COST)
    whole = num_splits // batch * batch
    parts = tl.where(alike & (whole * 17 >= num_splits * 16), whole, num_splits)
    payload = tl.maximum(tl.cdiv(total + gap * batch, parts), 1)
    together = tl.cdiv(batch, parts)
    uncut = together * most * 16 <= payload * 17
    return request, blocks, gap, payload, together, uncut


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
        request, blocks, gap, payload, together, uncut = _plan(kv_lens, batch, num_splits, BLOCK_N, BATCH_P2)
        real = request < batch
        ends = tl.cumsum(blocks + gap, 0) - gap
        start = part * payload
        stop = start + payload
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
def combine_kernel(
    part_out, part_lse, out, lse, kv_lens, batch, rows, num_splits,
    V_DIM: tl.constexpr, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr,
    BLOCK_S: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_V: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Merge the partials: BLOCK_R rows by BLOCK_V columns of a request at once, BLOCK_S partials at a time.

    With EARLY it is launched before the kernel that it follows has ended, and waits for it.
    """
    col_blocks: tl.constexpr = (V_DIM + BLOCK_V - 1) // BLOCK_V
    row_blocks = tl.cdiv(rows, BLOCK_R)
    request, blocks, gap, payload, _, uncut = _plan(kv_lens, batch, num_splits, BLOCK_N, BATCH_P2)
    tiles = tl.where(uncut & (BATCH_P2 > 1), 0, row_blocks * col_blocks * batch)
    if EARLY:
        gdc_wait()
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        b = tile // (row_blocks * col_blocks)
        r0 = tile // col_blocks % row_blocks * BLOCK_R
        c0 = tile % col_blocks * BLOCK_V
        base = tl.sum(tl.where(request < b, blocks + gap, 0), 0)
        mine = tl.sum(tl.where(request == b, blocks, 0), 0)
        first = base // payload
        count = tl.where(mine > 0, (base + mine - 1) // payload - first + 1, 0)
        if count != 1:
            r = r0 + tl.arange(0, BLOCK_R)
            c = c0 + tl.arange(0, BLOCK_V)
            s = tl.arange(0, BLOCK_S)
            ok_out = (r < rows)[:, None] & (c < V_DIM)[None, :]
            slot = (first + b).to(tl.int64)
            top = tl.full((BLOCK_R,), -1e30, tl.float32)
            total = tl.zeros((BLOCK_R,), tl.float32)
            acc = tl.zeros((BLOCK_R, BLOCK_V), tl.float32)
            for s0 in range(0, count, BLOCK_S):
                row = (slot + s0 + s)[:, None] * rows + r[None, :]  # [S, R]
                ok = (s0 + s < count)[:, None] & (r < rows)[None, :]
                part = tl.load(
                    part_out + row[:, :, None] * V_DIM + c[None, None, :],
                    mask=ok[:, :, None] & (c < V_DIM)[None, None, :], other=0.0,
                )  # [S, R, V]  # fmt: skip
                e = tl.load(part_lse + row, mask=ok, other=-float("inf"))
                new_top = tl.maximum(top, tl.max(e, 0))
                weight = tl.exp2(e - new_top[None, :])
                fade = tl.exp2(top - new_top)
                total = total * fade + tl.sum(weight, 0)
                acc = acc * fade[:, None] + tl.sum(part * weight[:, :, None], 0)
                top = new_top
            seen = total > 0.0
            divisor = tl.where(seen, total, 1.0)
            row_out = b.to(tl.int64) * rows + r
            at = out + row_out[:, None] * V_DIM + c[None, :]
            tl.store(at, (acc / divisor[:, None]).to(out.dtype.element_ty), mask=ok_out)
            if c0 == 0:
                value = tl.where(seen, (top + tl.log2(divisor)) * 0.6931471805599453, -float("inf"))
                tl.store(lse + row_out, value, mask=r < rows)


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
        return Partials(torch.empty(1, device=out.device), torch.empty(1, device=out.device), lambda: None, 0)
    batch, v_dim = out.shape[0], out.shape[-1]
    rows = out.numel() // (batch * v_dim)
    part_out = torch.empty(num_splits + batch, rows, v_dim, device=out.device)
    part_lse = torch.empty(num_splits + batch, rows, device=out.device)
    combine = _bind_combine(part_out, part_lse, out, lse, kv_lens, num_splits, block_n)
    return Partials(part_out, part_lse, combine, part_out.nbytes + part_lse.nbytes)


def combine_config(num_splits: int, batch: int, rows: int, v_dim: int, num_sms: int) -> dict[str, int]:
    """Tile of the combine: outputs enough for four programs an SM, and as many partials at a time as still fit."""
    v_p2 = triton.next_power_of_2(v_dim)
    outputs = triton.next_power_of_2(max(32, batch * rows * v_p2 // (4 * num_sms)))
    block_v = min(v_p2, outputs)
    block_r = max(1, min(4, outputs // v_p2))
    partials = triton.next_power_of_2(-(-num_splits // batch) + 1)
    return {"BLOCK_S": max(2, min(partials, 4096 // (block_r * block_v))), "BLOCK_R": block_r, "BLOCK_V": block_v}


def _bind_combine(
    part_out: torch.Tensor, part_lse: torch.Tensor, out: torch.Tensor, lse: torch.Tensor, kv_lens: torch.Tensor,
    num_splits: int, block_n: int,
) -> Callable[[], None]:  # fmt: skip
    (_, rows, v_dim), batch, sms = part_out.shape, out.shape[0], num_sms(out.device)
    config = combine_config(num_splits, batch, rows, v_dim, sms)
    tiles = triton.cdiv(rows, config["BLOCK_R"]) * triton.cdiv(v_dim, config["BLOCK_V"]) * batch
    grid = (min(tiles, 4 * sms),)
    # programmatic dependent launch came with sm_90
    early = out.device.type == "cuda" and torch.cuda.get_device_capability(out.device)[0] >= 9
    options = {"launch_pdl": True} if early else {}

    def run() -> None:
        combine_kernel[grid](
            part_out, part_lse, out, lse, kv_lens, batch, rows, num_splits,
            V_DIM=v_dim, BLOCK_N=block_n, BATCH_P2=triton.next_power_of_2(batch), EARLY=early, **config, **options,
        )  # fmt: skip

    return run


def num_sms(device: torch.device) -> int:
    """Streaming multiprocessors of the device; 4 where there is no GPU (the interpreter)."""
    if device.type != "cuda":
        return 4
    return torch.cuda.get_device_properties(device).multi_processor_count
