"""MLA decode in the absorbed form, Triton: split-KV attention over a paged cache of latents.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1.2 and appendix C, after W_UK has been absorbed into the query and
W_UV left to the output projection: one shared "head" of `kv_lora_rank + qk_rope_head_dim` columns serves all query
heads, and its first `kv_lora_rank` columns are the values too, so a block of the cache is loaded once and used twice.

A program owns BLOCK_M rows (query tokens x heads, flattened) and a run of KV blocks (see split_kv). Blocks that every
row sees whole take a loop without masks, fed by TMA where a block lies within a page; the last ones take a masked loop
in which the last token stands in for unused slots (see mla_triton_tiles).
"""

import torch
import triton
import triton.language as tl

from mla_kernels.launch import Launch, check_mla
from mla_kernels.mla_triton_tiles import attend_tokens, cache_tiles, check_config, check_supported, shared_bytes
from mla_kernels.online_softmax import LOG2_E, MAX_SHARED_BYTES, has_tma, max_shared_bytes
from mla_kernels.split_kv import (
    bind_partials,
    most_splits,
    num_sms,
    part_bounds,
)


@triton.jit
def mla_decode_kernel(
    q, kv_cache, nope_tiles, rope_tiles, block_table, kv_lens, out, lse, part_out, part_lse,
    scale_log2, batch, q_len, num_q_heads, max_pages, num_splits,
    KV_LORA_RANK: tl.constexpr, ROPE_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr, SPLIT: tl.constexpr, CAUSAL: tl.constexpr,
    TMA: tl.constexpr, SWAP: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Attention of one row block over one part of the cache; writes `out`, `lse` or the part's partial."""
    TOKENS: tl.constexpr = 0 if SWAP else 1
    TAIL_N: tl.constexpr = BLOCK_N if SWAP else 16
    rows = q_len * num_q_heads
    row_blocks = tl.cdiv(rows, BLOCK_M)
    # row blocks innermost: the programs that read the same part run together and share it in L2
    row = tl.program_id(0) % row_blocks * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    part = tl.program_id(0) // row_blocks
    row_ok = row < rows
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, TAIL_N)
    c = tl.arange(0, KV_LORA_RANK)
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

        q_row = q + (tl.cast(b, tl.int64) * rows + row)[:, None] * (KV_LORA_RANK + ROPE_DIM)
        acc, lse2 = attend_tokens(
            q_row, row_ok, kv_cache, nope_tiles, rope_tiles, pages, lo, mid, hi, kv_len, visible, scale_log2, n, t,
            KV_LORA_RANK, ROPE_DIM, PAGE_SIZE, BLOCK_M, BLOCK_N, CAUSAL, TMA, SWAP, STAGES, PRECISION, WARPS,
        )  # fmt: skip
        col = tl.expand_dims(c, 1 - TOKENS)
        ok = tl.expand_dims(row_ok, TOKENS) & (col < KV_LORA_RANK)
        whole = (lo == 0) & (hi == blocks)
        cell = tl.cast(tl.where(whole, b, part + b), tl.int64) * rows + row  # [M]
        at = tl.where(whole, out, part_out) + tl.expand_dims(cell, TOKENS) * KV_LORA_RANK + col
        tl.store(at, acc.to(out.dtype.element_ty), mask=ok)
        lse2 = tl.where(whole, lse2 * 0.6931471805599453, lse2)
        tl.store(tl.where(whole, lse, part_lse) + cell, lse2, mask=row_ok)


def default_config(
    *,
    rows: int,
    kv_dim: int,
    page_size: int,
    itemsize: int,
    num_sms: int,
    has_tma: bool = True,
    shared_limit: int = MAX_SHARED_BYTES,
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
    config["use_tma"] = int(has_tma and itemsize == 2 and page_size % config["block_n"] == 0)
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
    check_supported(q, out.shape[-1])
    batch, q_len, num_q_heads, kv_dim = q.shape
    kv_lora_rank = out.shape[3]
    rope_dim = kv_dim - kv_lora_rank
    page_size = kv_cache.shape[1]
    rows, itemsize = q_len * num_q_heads, q.element_size()
    sms = num_sms(q.device)
    shared_limit = max_shared_bytes(q.device)
    config = default_config(
        rows=rows, kv_dim=kv_dim, page_size=page_size, itemsize=itemsize, num_sms=sms, has_tma=has_tma(q.device),
        shared_limit=shared_limit,
    )  # fmt: skip
    most_blocks = triton.cdiv(block_table.shape[1] * page_size, config["block_n"])
    config["num_splits"] = most_splits(config["num_splits"], batch, most_blocks)
    given = {
        "block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages,
        "num_splits": num_splits, "swap": swap, "use_tma": use_tma,
    }  # fmt: skip
    config |= {key: value for key, value in given.items() if value is not None}
    check_config(config, page_size, shared_bytes(config, kv_dim, itemsize), shared_limit)

    splits = config["num_splits"]
    nope_tiles, rope_tiles = cache_tiles(kv_cache, kv_lora_rank, config)
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
