"""MLA decode in the absorbed form, Triton: split-KV attention over a paged cache of latents.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1.2 and appendix C, after W_UK has been absorbed into the query and
W_UV left to the output projection: one shared "head" of `kv_lora_rank + qk_rope_head_dim` columns serves all query
heads, and its first `kv_lora_rank` columns are the values too, so a block of the cache is loaded once and used twice.

A program owns BLOCK_M rows (query tokens x heads, flattened) and a run of KV blocks (see split_kv). Blocks that every
row sees whole take a loop without masks, fed by TMA where a block lies within a page; the last ones take a masked loop
that zero-fills unused slots.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from mla_kernels.launch import Launch, check_mla
from mla_kernels.online_softmax import LOG2_E, MAX_SHARED_BYTES, accumulate, max_shared_bytes, scores, weigh_scores
from mla_kernels.split_kv import (
    bind_partials,
    most_splits,
    num_sms,
    part_bounds,
)


@triton.jit
def _attend(
    q_nope, q_rope, k_nope, k_rope, seen, m, row_sum, acc, scale_log2, always,
    SWAP: tl.constexpr, UNCHAIN: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Fold one block of the cache into the running maximum, sum and output."""
    TOKENS: tl.constexpr = 0 if SWAP else 1
    # scaled apart: as one accumulator, Triton would lay the two products out differently and convert between them
    s = scores(q_rope, k_rope, SWAP, PRECISION) * scale_log2
    s += scores(q_nope, k_nope, SWAP, PRECISION) * scale_log2
    if MASKED:
        s = tl.where(seen, s, -float("inf"))
    m, fade, p, row_sum = weigh_scores(s, m, row_sum, k_nope, always, TOKENS, UNCHAIN)
    acc = accumulate(p, k_nope, acc * tl.expand_dims(fade, TOKENS), SWAP, PRECISION)
    return m, row_sum, acc


@triton.jit
def mla_decode_kernel(
    q, kv_cache, nope_tiles, rope_tiles, block_table, kv_lens, out, lse, part_out, part_lse,
    scale_log2, batch, q_len, num_q_heads, max_pages, num_splits,
    KV_LORA_RANK: tl.constexpr, ROPE_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr, SPLIT: tl.constexpr, CAUSAL: tl.constexpr,
    TMA: tl.constexpr, SWAP: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Attention of one row block over one part of the cache; writes `out`, `lse` or the part's partial."""
    KV_DIM: tl.constexpr = KV_LORA_RANK + ROPE_DIM
    TOKENS: tl.constexpr = 0 if SWAP else 1
    TAIL_N: tl.constexpr = BLOCK_N if SWAP else 16
    UNCHAIN: tl.constexpr = (BLOCK_N if SWAP else BLOCK_M) < WARPS * 16 and (SWAP or BLOCK_M >= 64)
    rows = q_len * num_q_heads
    row_blocks = tl.cdiv(rows, BLOCK_M)
    # row blocks innermost: the programs that read the same part run together and share it in L2
    row = tl.program_id(0) % row_blocks * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    part = tl.program_id(0) // row_blocks
    row_ok = row < rows
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, TAIL_N)
    c = tl.arange(0, KV_LORA_RANK)
    r = tl.arange(0, ROPE_DIM)
    if SPLIT:
        first, last, start, stop, base, gap = part_bounds(kv_lens, batch, part, num_splits, BLOCK_N, BATCH_P2)
    else:
        first, last, start, stop, base, gap = part, part + 1, 0, 2147483647, 0, 0

    for b in range(first, last):
        kv_len = tl.load(kv_lens + b)
        blocks = tl.cdiv(kv_len, BLOCK_N)
        lo = tl.maximum(start - base, 0)
        hi = tl.minimum(stop - base, blocks)
        base += blocks + gap
        mid = tl.minimum(kv_len // BLOCK_N, hi)
        visible = kv_len - q_len + 1 + row // num_q_heads  # [M], tokens that each row sees
        pages = block_table + tl.cast(b, tl.int64) * max_pages

        q_row = q + (tl.cast(b, tl.int64) * rows + row)[:, None] * KV_DIM
        q_nope = tl.load(q_row + c[None, :], mask=row_ok[:, None], other=0.0)  # [M, C]
        q_rope = tl.load(q_row + KV_LORA_RANK + r[None, :], mask=row_ok[:, None], other=0.0)  # [M, R]

        m = tl.full((BLOCK_M,), -1e30, tl.float32)
        sum_tile = tl.zeros((BLOCK_N, BLOCK_M) if SWAP else (BLOCK_M, BLOCK_N), tl.float32)
        acc = tl.zeros((KV_LORA_RANK, BLOCK_M) if SWAP else (BLOCK_M, KV_LORA_RANK), tl.float32)

        if TMA:
            page = tl.load(pages + lo * BLOCK_N // PAGE_SIZE, mask=lo < mid, other=0)
            for i in tl.range(lo, mid, num_stages=STAGES):
                token = page * PAGE_SIZE + i * BLOCK_N % PAGE_SIZE
                # the next page id is fetched a block ahead, so that no load waits for another
                page = tl.load(pages + tl.minimum(i + 1, mid - 1) * BLOCK_N // PAGE_SIZE)
                k_nope = nope_tiles.load([token, 0])  # [N, C]
                k_rope = rope_tiles.load([token, KV_LORA_RANK])  # [N, R]
                seen = tl.expand_dims(i * BLOCK_N + n, 1 - TOKENS) < tl.expand_dims(visible, TOKENS)
                m, sum_tile, acc = _attend(
                    q_nope, q_rope, k_nope, k_rope, seen, m, sum_tile, acc, scale_log2, kv_len,
                    SWAP, UNCHAIN, CAUSAL, PRECISION,
                )  # fmt: skip
        else:
            page = tl.load(pages + (lo * BLOCK_N + n) // PAGE_SIZE, mask=(lo < mid) & (n >= 0), other=0)  # [N]
            for i in tl.range(lo, mid, num_stages=STAGES):
                token = page.to(tl.int64) * PAGE_SIZE + (i * BLOCK_N + n) % PAGE_SIZE
                page = tl.load(pages + (tl.minimum(i + 1, mid - 1) * BLOCK_N + n) // PAGE_SIZE)
                k_row = kv_cache + token[:, None] * KV_DIM
                k_nope = tl.load(k_row + c[None, :])  # [N, C]
                k_rope = tl.load(k_row + KV_LORA_RANK + r[None, :])  # [N, R]
                seen = tl.expand_dims(i * BLOCK_N + n, 1 - TOKENS) < tl.expand_dims(visible, TOKENS)
                m, sum_tile, acc = _attend(
                    q_nope, q_rope, k_nope, k_rope, seen, m, sum_tile, acc, scale_log2, kv_len,
                    SWAP, UNCHAIN, CAUSAL, PRECISION,
                )  # fmt: skip

        row_sum = tl.sum(sum_tile, TOKENS)  # [M]
        for start_n in tl.range(tl.maximum(mid, lo) * BLOCK_N, tl.minimum(hi * BLOCK_N, kv_len), TAIL_N, num_stages=2):
            pos = start_n + t
            # past the end, the last token stands in for slots that may hold anything; its weight there is 0
            slot = tl.minimum(pos, kv_len - 1)
            page_id = tl.load(pages + slot // PAGE_SIZE)
            token = page_id.to(tl.int64) * PAGE_SIZE + slot % PAGE_SIZE
            k_row = kv_cache + token[:, None] * KV_DIM
            k_nope = tl.load(k_row + c[None, :])  # [T, C]
            k_rope = tl.load(k_row + KV_LORA_RANK + r[None, :])  # [T, R]
            seen = tl.expand_dims(pos, 1 - TOKENS) < tl.expand_dims(visible, TOKENS)
            sum_tail = tl.zeros((TAIL_N, BLOCK_M) if SWAP else (BLOCK_M, TAIL_N), tl.float32)
            m_old = m
            m, sum_tail, acc = _attend(
                q_nope, q_rope, k_nope, k_rope, seen, m, sum_tail, acc, scale_log2, kv_len,
                SWAP, UNCHAIN, True, PRECISION,
            )  # fmt: skip
            row_sum = row_sum * tl.exp2(m_old - m) + tl.sum(sum_tail, TOKENS)

        divisor = tl.where(row_sum > 0.0, row_sum, 1.0)
        acc = acc / tl.expand_dims(divisor, TOKENS)
        lse2 = tl.where(row_sum > 0.0, m + tl.log2(divisor), -float("inf"))
        col = tl.expand_dims(c, 1 - TOKENS)
        ok = tl.expand_dims(row_ok, TOKENS) & (col < KV_LORA_RANK)
        if (lo == 0) & (hi == blocks):
            cell = tl.cast(b, tl.int64) * rows + row  # [M]
            at = tl.expand_dims(cell, TOKENS) * KV_LORA_RANK + col
            tl.store(out + at, acc.to(out.dtype.element_ty), mask=ok)
            tl.store(lse + cell, lse2 * 0.6931471805599453, mask=row_ok)
        else:
            cell = tl.cast(part + b, tl.int64) * rows + row
            at = tl.expand_dims(cell, TOKENS) * KV_LORA_RANK + col
            tl.store(part_out + at, acc, mask=ok)
            tl.store(part_lse + cell, lse2, mask=row_ok)


def default_config(
    *, rows: int, kv_dim: int, page_size: int, itemsize: int, num_sms: int, shared_limit: int = MAX_SHARED_BYTES
) -> dict[str, int]:
    """Tile sizes, warps, stages and splits for a shape; 64 rows fill the warp-group instructions, fewer need not."""
    if itemsize == 4:
        block_m, block_n, num_warps, num_stages, swap = 16, 16, 4, 2, 0
    elif rows <= 16:
        block_m, block_n, num_warps, num_stages, swap = 16, 64, 8, 3, 0
    elif rows <= 32:
        block_m, block_n, num_warps, num_stages, swap = 32, 64, 8, 3, 0
    else:
        block_m, block_n, num_warps, num_stages, swap = 64, 64, 8, 2, 0
    config = {
        "block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages, "swap": swap,
        "num_splits": max(1, num_sms // -(-rows // block_m)),
    }  # fmt: skip
    while config["block_n"] > 16 and shared_bytes(config, kv_dim, itemsize) > shared_limit:
        config["block_n"] //= 2
    config["use_tma"] = int(itemsize == 2 and page_size % config["block_n"] == 0)
    return config


def kernel_constants(
    config: dict[str, int],
    *,
    batch: int,
    q_len: int,
    kv_lora_rank: int,
    rope_dim: int,
    page_size: int,
    dtype: torch.dtype,
) -> dict[str, int | bool | str]:
    """Compile-time arguments of `mla_decode_kernel` for a configuration and shape."""
    return {
        "KV_LORA_RANK": kv_lora_rank,
        "ROPE_DIM": rope_dim,
        "PAGE_SIZE": page_size,
        "BLOCK_M": config["block_m"],
        "BLOCK_N": config["block_n"],
        "BATCH_P2": triton.next_power_of_2(batch),
        "SPLIT": config["num_splits"] > 1,
        "CAUSAL": q_len > 1,
        "TMA": bool(config["use_tma"]),
        "SWAP": bool(config["swap"]),
        "STAGES": config["num_stages"],
        "PRECISION": "ieee" if dtype == torch.float32 else "tf32",
        "WARPS": config["num_warps"],
    }


def shared_bytes(config: dict[str, int], kv_dim: int, itemsize: int) -> int:
    """Shared memory of a program: the query tile, the KV buffers that the pipeliner keeps, and the weights."""
    wgmma = itemsize == 2 and config["block_n" if config["swap"] else "block_m"] >= 64
    buffers = config["num_stages"] if wgmma else max(1, config["num_stages"] - 1)
    weights = config["block_m"] * config["block_n"]
    return ((config["block_m"] + buffers * config["block_n"]) * kv_dim + weights) * itemsize


def _check_supported(q, kv_lora_rank) -> None:
    if q.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise NotImplementedError(f"q is {q.dtype}; float16, bfloat16 and float32 are supported")
    for name, size in (("kv_lora_rank", kv_lora_rank), ("qk_rope_head_dim", q.shape[-1] - kv_lora_rank)):
        if size < 16 or size & (size - 1):
            raise NotImplementedError(f"{name} is {size}; powers of two from 16 are supported")


def bind(
    *,
    q: torch.Tensor,
    kv_cache: torch.Tensor,
    block_table: torch.Tensor,
    kv_lens: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    softmax_scale: float,
    block_m: int | None = None,
    block_n: int | None = None,
    num_warps: int | None = None,
    num_stages: int | None = None,
    num_splits: int | None = None,
    swap: int | None = None,
    use_tma: int | None = None,
) -> Launch:
    """Bind absorbed MLA decode to its tensors.

    q `[batch, q_len, num_q_heads, kv_lora_rank + qk_rope_head_dim]`, already absorbed; float16, bfloat16 or float32
    kv_cache `[num_pages, page_size, kv_lora_rank + qk_rope_head_dim]`, q's dtype; values are the first kv_lora_rank
    block_table int32 `[batch, max_pages_per_request]`; entries past a request's length are never read
    kv_lens int32 `[batch]`, cached tokens with the q_len new ones included
    out `[batch, q_len, num_q_heads, kv_lora_rank]`, q's dtype; lse float32 `[batch, q_len, num_q_heads]`, natural log
    softmax_scale multiplies q k^T

    All are contiguous. The values of block_table, kv_lens and the cache may change between calls. Query i sits at
    position kv_len - q_len + i and sees up to itself; one that sees nothing gets out 0 and lse -inf.

    The tunables default to `default_config`: block_m rows and block_n tokens a tile (powers of two, 16 or more),
    swap 1 makes tokens the M of the matrix product, use_tma 1 needs page_size to be a multiple of block_n, num_splits
    is the number of equal runs that the batch's KV blocks are cut into (1: a program per request, no combine).

    Raises ValueError for tensors that contradict each other, NotImplementedError for shapes it cannot do: ranks and
    rope dims that are not powers of two of at least 16, or tiles beyond the shared memory of an SM
    (`shared_bytes`).
    """
    check_mla(q, kv_cache, block_table, kv_lens, out, lse)
    _check_supported(q, out.shape[-1])
    batch, q_len, num_q_heads, kv_dim = q.shape
    kv_lora_rank = out.shape[3]
    rope_dim = kv_dim - kv_lora_rank
    num_pages, page_size, _ = kv_cache.shape
    rows, itemsize = q_len * num_q_heads, q.element_size()
    sms = num_sms(q.device)
    shared_limit = max_shared_bytes(q.device)
    config = default_config(
        rows=rows, kv_dim=kv_dim, page_size=page_size, itemsize=itemsize, num_sms=sms, shared_limit=shared_limit
    )
    most_blocks = triton.cdiv(block_table.shape[1] * page_size, config["block_n"])
    config["num_splits"] = most_splits(config["num_splits"], batch, most_blocks)
    given = {
        "block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages,
        "num_splits": num_splits, "swap": swap, "use_tma": use_tma,
    }  # fmt: skip
    config |= {key: value for key, value in given.items() if value is not None}
    if (needed := shared_bytes(config, kv_dim, itemsize)) > shared_limit:
        raise NotImplementedError(f"tiles need {needed} bytes of shared memory, an SM has {shared_limit}")
    if config["use_tma"] and page_size % config["block_n"]:
        raise NotImplementedError(f"use_tma needs page_size {page_size} to be a multiple of block_n")

    splits = config["num_splits"]
    tokens = kv_cache.view(num_pages * page_size, kv_dim)
    nope_tiles = rope_tiles = tokens
    if config["use_tma"]:
        nope_tiles = TensorDescriptor.from_tensor(tokens, [config["block_n"], kv_lora_rank])
        rope_tiles = TensorDescriptor.from_tensor(tokens, [config["block_n"], rope_dim])
    constants = kernel_constants(
        config, batch=batch, q_len=q_len, kv_lora_rank=kv_lora_rank, rope_dim=rope_dim, page_size=page_size,
        dtype=q.dtype,
    )  # fmt: skip
    grid = (triton.cdiv(rows, config["block_m"]) * (batch if splits == 1 else splits),)
    partials = bind_partials(out, lse, kv_lens, num_splits=splits, block_n=config["block_n"])

    def run() -> None:
        mla_decode_kernel[grid](
            q, kv_cache, nope_tiles, rope_tiles, block_table, kv_lens, out, lse, partials.out, partials.lse,
            softmax_scale * LOG2_E, batch, q_len, num_q_heads, block_table.shape[1], splits,
            num_warps=config["num_warps"], **constants,
        )  # fmt: skip
        partials.combine()

    return Launch(config=config, workspace_bytes=partials.nbytes, run=run)
