"""What the Triton kernels of absorbed MLA, decode and prefill, share: a tile of rows over the cached tokens it sees.

Rows are query tokens x heads, all of which share one head of keys, whose first `kv_lora_rank` columns are the values
too: a block of the cache is loaded once and used twice. Blocks that every row sees whole take a loop that is fed by TMA
where a block lies within a page; the tokens behind take a masked loop of shorter blocks, in which the last token stands
in for slots that may hold anything.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from mla_kernels.online_softmax import accumulate, scores, weigh_scores


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
def attend_tokens(
    q_row, row_ok, kv_cache, nope_tiles, rope_tiles, pages, lo, mid, hi, kv_len, visible, scale_log2, n, t,
    KV_LORA_RANK: tl.constexpr, ROPE_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr,
    TMA: tl.constexpr, SWAP: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Normalised output and base-2 log-sum-exp of the rows at `q_row` over blocks [lo, hi) of a request's tokens.

    Blocks before `mid` are full of tokens and, unless CAUSAL, every row sees them whole; of the others, and with CAUSAL
    of all, row i sees tokens before `visible[i]`. Those others are walked in shorter steps; `n` and `t` are the ranges
    of a block and of a step. Nothing from token `kv_len` on is read. With SWAP tokens are the M of the products, and
    the output is transposed.
    """
    KV_DIM: tl.constexpr = KV_LORA_RANK + ROPE_DIM
    TOKENS: tl.constexpr = 0 if SWAP else 1
    TAIL_N: tl.constexpr = t.shape[0]
    UNCHAIN: tl.constexpr = (BLOCK_N if SWAP else BLOCK_M) < WARPS * 16 and (SWAP or BLOCK_M >= 64)
    c = tl.arange(0, KV_LORA_RANK)
    r = tl.arange(0, ROPE_DIM)
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
    return acc, lse2


def shared_bytes(config: dict[str, int], kv_dim: int, itemsize: int, has_wgmma: bool = True) -> int:
    """Shared memory of a program: the query tile, the KV buffers that the pipeliner keeps, and the weights.

    It keeps one more where 64 rows take warp-group instructions (or, with them, tcgen05), which read it as they run.
    """
    wgmma = has_wgmma and itemsize == 2 and config["block_n" if config.get("swap") else "block_m"] >= 64
    buffers = config["num_stages"] if wgmma else max(1, config["num_stages"] - 1)
    weights = config["block_m"] * config["block_n"]
    return ((config["block_m"] + buffers * config["block_n"]) * kv_dim + weights) * itemsize


def check_supported(q, kv_lora_rank) -> None:
    """NotImplementedError for dtypes, ranks and rope dims that the tiles cannot take."""
    if q.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise NotImplementedError(f"q is {q.dtype}; float16, bfloat16 and float32 are supported")
    for name, size in (("kv_lora_rank", kv_lora_rank), ("qk_rope_head_dim", q.shape[-1] - kv_lora_rank)):
        if size < 16 or size & (size - 1):
            raise NotImplementedError(f"{name} is {size}; powers of two from 16 are supported")


def check_config(config: dict[str, int], page_size: int, needed_bytes: int, shared_limit: int) -> None:
    """NotImplementedError for tiles beyond an SM's shared memory, or TMA where a block may lie across two pages."""
    if needed_bytes > shared_limit:
        raise NotImplementedError(f"tiles need {needed_bytes} bytes of shared memory, an SM has {shared_limit}")
    if config["use_tma"] and page_size % config["block_n"]:
        raise NotImplementedError(
            f"use_tma needs page_size {page_size} to be a multiple of block_n {config['block_n']}"
        )


def cache_tiles(kv_cache: torch.Tensor, kv_lora_rank: int, config: dict[str, int]):
    """The cache as the kernels load it by TMA, `kv_lora_rank` columns and the rope columns; itself without TMA."""
    tokens = kv_cache.view(-1, kv_cache.shape[-1])
    if not config["use_tma"]:
        return tokens, tokens
    widths = (kv_lora_rank, tokens.shape[1] - kv_lora_rank)
    return tuple(TensorDescriptor.from_tensor(tokens, [config["block_n"], width]) for width in widths)
