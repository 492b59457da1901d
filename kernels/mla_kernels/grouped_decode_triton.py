"""Grouped decode, Triton: split-KV attention over paged K and V caches, for MHA, GQA, MQA and MLA's expanded form.

Source: grouped-query attention (Ainslie et al., 2023, arXiv 2305.13245), section 2.2; the split over the cached tokens
is Flash-Decoding's (Dao et al., 2023). All query heads that share a KV head are rows of one tile, so a block of the
cache is read once for all of them.

A program owns BLOCK_M rows (query tokens x heads of one KV head, flattened) and a run of KV blocks (see split_kv).
Complete blocks take a loop fed by TMA where a block lies within a page; the partial one at the end of a request takes
a short loop that never reads unused slots. Head dims that are not powers of two are cut in two tiles (192 = 128 + 64),
the second one masked where that is not enough.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from mla_kernels.launch import Launch, check_grouped
from mla_kernels.online_softmax import (
    LOG2_E,
    MAX_SHARED_BYTES,
    accumulate,
    has_tma,
    max_shared_bytes,
    scores,
    weigh_scores,
)
from mla_kernels.split_kv import (
    bind_partials,
    num_sms,
    part_bounds,
)


@triton.jit
def _attend(
    q, q2, k, k2, v, v2, seen, m, row_sum, acc, acc2, scale_log2, always,
    TWO_K: tl.constexpr, TWO_V: tl.constexpr, SWAP: tl.constexpr, UNCHAIN: tl.constexpr, MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Fold one block of the cache into the running maximum, sum and output."""
    TOKENS: tl.constexpr = 0 if SWAP else 1
    s = scores(q, k, SWAP, PRECISION) * scale_log2
    if TWO_K:
        # scaled apart: as one accumulator, Triton would lay the two products out differently and convert between them
        s += scores(q2, k2, SWAP, PRECISION) * scale_log2
    if MASKED:
        s = tl.where(seen, s, -float("inf"))
    m, fade, p, row_sum = weigh_scores(s, m, row_sum, v, always, TOKENS, UNCHAIN)
    fade = tl.expand_dims(fade, TOKENS)
    acc = accumulate(p, v, acc * fade, SWAP, PRECISION)
    if TWO_V:
        acc2 = accumulate(p, v2, acc2 * fade, SWAP, PRECISION)
    return m, row_sum, acc, acc2


@triton.jit
def _load_tile(base, token, stride, col, first_col, width):
    """Rows `token` of a cache, columns first_col + col, zero from `width` on."""
    at = base + token[:, None] * stride + first_col + col[None, :]
    return tl.load(at, mask=(first_col + col < width)[None, :] & (token >= 0)[:, None], other=0.0)


@triton.jit
def _store_rows(out, acc, cell, ok, col, first_col, width, TOKENS: tl.constexpr):
    """Columns first_col + col of the rows at `cell`, in the orientation of `acc`."""
    c = tl.expand_dims(first_col + col, 1 - TOKENS)
    at = tl.expand_dims(cell, TOKENS) * width + c
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=tl.expand_dims(ok, TOKENS) & (c < width))


@triton.jit
def grouped_decode_kernel(  # noqa: C901
    q, k_cache, v_cache, k_tiles, k_tiles2, v_tiles, v_tiles2, block_table, kv_lens, out, lse, part_out, part_lse,
    scale_log2, batch, q_len, num_q_heads, num_kv_heads, max_pages, num_splits,
    QK_DIM: tl.constexpr, V_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
    K1: tl.constexpr, K2: tl.constexpr, V1: tl.constexpr, V2: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr, SPLIT: tl.constexpr, CAUSAL: tl.constexpr,
    TMA: tl.constexpr, SWAP: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Attention of one row block of one KV head over one part of the cache; writes `out`, `lse` or a partial."""
    TOKENS: tl.constexpr = 0 if SWAP else 1
    TAIL_N: tl.constexpr = BLOCK_N if SWAP else 16
    UNCHAIN: tl.constexpr = (BLOCK_N if SWAP else BLOCK_M) < WARPS * 16 and (SWAP or BLOCK_M >= 64)
    TWO_K: tl.constexpr = QK_DIM > K1
    TWO_V: tl.constexpr = V_DIM > V1
    group = num_q_heads // num_kv_heads
    row_blocks = tl.cdiv(q_len * group, BLOCK_M)
    # row blocks innermost, then KV heads: neighbours share a block of the cache in L2, or the pages it lies in
    pid = tl.program_id(0)
    row = pid % row_blocks * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    kv_head = pid // row_blocks % num_kv_heads
    part = pid // (row_blocks * num_kv_heads)
    row_ok = row < q_len * group
    # where a row lies among the q_len x num_q_heads rows of its request
    request_row = row // group * num_q_heads + kv_head * group + row % group
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, TAIL_N)
    k1 = tl.arange(0, K1)
    k2 = tl.arange(0, K2)
    v1 = tl.arange(0, V1)
    v2 = tl.arange(0, V2)
    k_head = k_cache + kv_head * QK_DIM
    v_head = v_cache + kv_head * V_DIM
    k_stride = num_kv_heads * QK_DIM
    v_stride = num_kv_heads * V_DIM
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
        visible = kv_len - q_len + 1 + row // group  # [M], tokens that each row sees
        pages = block_table + tl.cast(b, tl.int64) * max_pages

        q_row = q + (tl.cast(b, tl.int64) * q_len * num_q_heads + request_row)[:, None] * QK_DIM
        q1 = tl.load(q_row + k1[None, :], mask=row_ok[:, None], other=0.0)  # [M, K1]
        q2 = q1
        if TWO_K:
            q2 = tl.load(q_row + K1 + k2[None, :], mask=row_ok[:, None] & (K1 + k2 < QK_DIM)[None, :], other=0.0)

        m = tl.full((BLOCK_M,), -1e30, tl.float32)
        sum_tile = tl.zeros((BLOCK_N, BLOCK_M) if SWAP else (BLOCK_M, BLOCK_N), tl.float32)
        acc = tl.zeros((V1, BLOCK_M) if SWAP else (BLOCK_M, V1), tl.float32)
        acc2 = tl.zeros((V2, BLOCK_M) if SWAP else (BLOCK_M, V2), tl.float32)

        if TMA:
            page = tl.load(pages + lo * BLOCK_N // PAGE_SIZE, mask=lo < mid, other=0)
            for i in tl.range(lo, mid, num_stages=STAGES):
                token = page * PAGE_SIZE + i * BLOCK_N % PAGE_SIZE
                # the next page id is fetched a block ahead, so that no load waits for another
                page = tl.load(pages + tl.minimum(i + 1, mid - 1) * BLOCK_N // PAGE_SIZE)
                k_a = k_tiles.load([token, kv_head * QK_DIM])  # [N, K1]
                k_b = k_a
                if TWO_K:
                    k_b = k_tiles2.load([token, kv_head * QK_DIM + K1])  # [N, K2]
                v_a = v_tiles.load([token, kv_head * V_DIM])  # [N, V1]
                v_b = v_a
                if TWO_V:
                    v_b = v_tiles2.load([token, kv_head * V_DIM + V1])  # [N, V2]
                seen = tl.expand_dims(i * BLOCK_N + n, 1 - TOKENS) < tl.expand_dims(visible, TOKENS)
                m, sum_tile, acc, acc2 = _attend(
                    q1, q2, k_a, k_b, v_a, v_b, seen, m, sum_tile, acc, acc2, scale_log2, kv_len,
                    TWO_K, TWO_V, SWAP, UNCHAIN, CAUSAL, PRECISION,
                )  # fmt: skip
        else:
            page = tl.load(pages + (lo * BLOCK_N + n) // PAGE_SIZE, mask=(lo < mid) & (n >= 0), other=0)  # [N]
            for i in tl.range(lo, mid, num_stages=STAGES):
                token = page.to(tl.int64) * PAGE_SIZE + (i * BLOCK_N + n) % PAGE_SIZE
                page = tl.load(pages + (tl.minimum(i + 1, mid - 1) * BLOCK_N + n) // PAGE_SIZE)
                k_a = tl.load(k_head + token[:, None] * k_stride + k1[None, :])
                k_b = k_a
                if TWO_K:
                    k_b = _load_tile(k_head, token, k_stride, k2, K1, QK_DIM)
                v_a = tl.load(v_head + token[:, None] * v_stride + v1[None, :])
                v_b = v_a
                if TWO_V:
                    v_b = _load_tile(v_head, token, v_stride, v2, V1, V_DIM)
                seen = tl.expand_dims(i * BLOCK_N + n, 1 - TOKENS) < tl.expand_dims(visible, TOKENS)
                m, sum_tile, acc, acc2 = _attend(
                    q1, q2, k_a, k_b, v_a, v_b, seen, m, sum_tile, acc, acc2, scale_log2, kv_len,
                    TWO_K, TWO_V, SWAP, UNCHAIN, CAUSAL, PRECISION,
                )  # fmt: skip

        row_sum = tl.sum(sum_tile, TOKENS)  # [M]
        for start_n in tl.range(tl.maximum(mid, lo) * BLOCK_N, tl.minimum(hi * BLOCK_N, kv_len), TAIL_N, num_stages=2):
            pos = start_n + t
            # past the end, the last token stands in for slots that may hold anything; its weight there is 0
            slot = tl.minimum(pos, kv_len - 1)
            token = tl.load(pages + slot // PAGE_SIZE).to(tl.int64) * PAGE_SIZE + slot % PAGE_SIZE
            k_a = tl.load(k_head + token[:, None] * k_stride + k1[None, :])  # [T, K1]
            k_b = k_a
            if TWO_K:
                k_b = _load_tile(k_head, token, k_stride, k2, K1, QK_DIM)
            v_a = tl.load(v_head + token[:, None] * v_stride + v1[None, :])  # [T, V1]
            v_b = v_a
            if TWO_V:
                v_b = _load_tile(v_head, token, v_stride, v2, V1, V_DIM)
            seen = tl.expand_dims(pos, 1 - TOKENS) < tl.expand_dims(visible, TOKENS)
            sum_tail = tl.zeros((TAIL_N, BLOCK_M) if SWAP else (BLOCK_M, TAIL_N), tl.float32)
            m_old = m
            m, sum_tail, acc, acc2 = _attend(
                q1, q2, k_a, k_b, v_a, v_b, seen, m, sum_tail, acc, acc2, scale_log2, kv_len,
                TWO_K, TWO_V, SWAP, UNCHAIN, True, PRECISION,
            )  # fmt: skip
            row_sum = row_sum * tl.exp2(m_old - m) + tl.sum(sum_tail, TOKENS)

        divisor = tl.where(row_sum > 0.0, row_sum, 1.0)
        acc = acc / tl.expand_dims(divisor, TOKENS)
        acc2 = acc2 / tl.expand_dims(divisor, TOKENS)
        lse2 = tl.where(row_sum > 0.0, m + tl.log2(divisor), -float("inf"))
        whole = (lo == 0) & (hi == blocks)
        cell = tl.cast(tl.where(whole, b, part + b), tl.int64) * q_len * num_q_heads + request_row  # [M]
        target = tl.where(whole, out, part_out)
        _store_rows(target, acc, cell, row_ok, v1, 0, V_DIM, TOKENS)
        if TWO_V:
            _store_rows(target, acc2, cell, row_ok, v2, V1, V_DIM, TOKENS)
        lse2 = tl.where(whole, lse2 * 0.6931471805599453, lse2)
        tl.store(tl.where(whole, lse, part_lse) + cell, lse2, mask=row_ok)


def head_tiles(dim: int) -> tuple[int, int]:
    """A head dim as one or two power-of-two tiles: 128 -> (128, 16 unused), 192 -> (128, 64), 80 -> (64, 16)."""
    first = 1 << (dim.bit_length() - 1)
    return first, max(16, triton.next_power_of_2(dim - first))


def _tile_width(dim: int) -> int:
    """Columns that the tiles of a head dim load, padding included."""
    first, second = head_tiles(dim)
    return first + second if dim > first else first


def default_config(
    *,
    batch: int,
    rows: int,
    num_kv_heads: int,
    qk_dim: int,
    v_dim: int,
    page_size: int,
    itemsize: int,
    num_sms: int,
    has_tma: bool = True,
    shared_limit: int = MAX_SHARED_BYTES,
) -> dict[str, int]:
    """Tile sizes, warps, stages and splits for `rows` (q_len x group) rows a KV head."""
    if itemsize == 4:
        block_m, block_n, num_stages, swap = 16, 16, 2, 0
    elif rows <= 16:
        block_m, block_n, num_stages, swap = 16, 64, 4, 1
    elif rows <= 32:
        block_m, block_n, num_stages, swap = 32, 64, 4, 1
    elif rows <= 64 or max(qk_dim, v_dim) > 64:
        block_m, block_n, num_stages, swap = 64, 64, 3, 0
    else:
        # with narrow heads a block is soon done: larger ones wait less often
        block_m, block_n, num_stages, swap = 64, 128, 3, 0
    programs = batch * num_kv_heads * -(-rows // block_m)
    if programs >= 3 * num_sms:
        # two programs an SM, each with fewer buffers, hide each other's start and end
        num_stages, num_splits = min(num_stages, 3), 1
    elif programs >= 1.5 * num_sms or (block_m == 64 and max(qk_dim, v_dim) <= 128):
        # two of these fit an SM too
        num_splits = max(1, 2 * num_sms * batch // programs)
    else:
        num_splits = max(1, num_sms * batch // programs)
    config = {
        "block_m": block_m, "block_n": block_n, "num_warps": 4,
        "num_stages": num_stages, "swap": swap, "num_splits": num_splits,
    }  # fmt: skip
    while config["num_stages"] > 2 and shared_bytes(config, qk_dim, v_dim, itemsize) > shared_limit:
        config["num_stages"] -= 1
    while config["block_n"] > 16 and shared_bytes(config, qk_dim, v_dim, itemsize) > shared_limit:
        config["block_n"] //= 2
    exact = _tile_width(qk_dim) == qk_dim and _tile_width(v_dim) == v_dim
    config["use_tma"] = int(has_tma and itemsize == 2 and exact and page_size % config["block_n"] == 0)
    return config


def kernel_constants(
    config: dict[str, int], *, batch: int, q_len: int, qk_dim: int, v_dim: int, page_size: int, dtype: torch.dtype
) -> dict[str, int | bool | str]:
    """Compile-time arguments of `grouped_decode_kernel` for a configuration and shape."""
    (k1, k2), (v1, v2) = head_tiles(qk_dim), head_tiles(v_dim)
    return {
        "QK_DIM": qk_dim,
        "V_DIM": v_dim,
        "PAGE_SIZE": page_size,
        "K1": k1,
        "K2": k2,
        "V1": v1,
        "V2": v2,
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


def shared_bytes(config: dict[str, int], qk_dim: int, v_dim: int, itemsize: int) -> int:
    """Shared memory of a program: the query tile, the KV buffers that the pipeliner keeps, and the weights."""
    wgmma = itemsize == 2 and config["block_n" if config["swap"] else "block_m"] >= 64
    buffers = config["num_stages"] if wgmma else max(1, config["num_stages"] - 1)
    q, weights = config["block_m"] * _tile_width(qk_dim), config["block_m"] * config["block_n"]
    return (q + weights + buffers * config["block_n"] * (_tile_width(qk_dim) + _tile_width(v_dim))) * itemsize


def bind(
    *,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
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
    """Bind grouped decode to its tensors.

    q `[batch, q_len, num_q_heads, qk_dim]`; float16, bfloat16 or float32
    k_cache `[num_pages, page_size, num_kv_heads, qk_dim]`, v_cache `[num_pages, page_size, num_kv_heads, v_dim]`,
    q's dtype; num_q_heads is a multiple of num_kv_heads, query heads h*group to (h+1)*group - 1 share KV head h
    block_table int32 `[batch, max_pages_per_request]`; entries past a request's length are never read
    kv_lens int32 `[batch]`, cached tokens with the q_len new ones included
    out `[batch, q_len, num_q_heads, v_dim]`, q's dtype; lse float32 `[batch, q_len, num_q_heads]`, natural log
    softmax_scale multiplies q k^T

    All are contiguous. The values of block_table, kv_lens and the caches may change between calls. Query i sits at
    position kv_len - q_len + i and sees up to itself; one that sees nothing gets out 0 and lse -inf.

    The tunables default to `default_config`: block_m rows and block_n tokens a tile (powers of two, 16 or more),
    swap 1 makes tokens the M of the matrix product, use_tma 1 needs page_size to be a multiple of block_n and head
    dims that two tiles cover exactly, num_splits is the number of equal runs that the batch's KV blocks are cut into
    (1: a program per request and KV head, no combine).

    Raises ValueError for tensors that contradict each other, NotImplementedError for shapes it cannot do: head dims
    under 16 or over 512, tiles beyond the shared memory of an SM, or other dtypes.
    """
    check_grouped(q, k_cache, v_cache, block_table, kv_lens, out, lse, most_dim=512)
    batch, q_len, num_q_heads, qk_dim = q.shape
    num_pages, page_size, num_kv_heads, v_dim = v_cache.shape
    rows, itemsize = q_len * (num_q_heads // num_kv_heads), q.element_size()
    sms = num_sms(q.device)
    shared_limit = max_shared_bytes(q.device)
    config = default_config(
        batch=batch, rows=rows, num_kv_heads=num_kv_heads, qk_dim=qk_dim, v_dim=v_dim, page_size=page_size,
        itemsize=itemsize, num_sms=sms, has_tma=has_tma(q.device), shared_limit=shared_limit,
    )  # fmt: skip
    given = {
        "block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages,
        "num_splits": num_splits, "swap": swap, "use_tma": use_tma,
    }  # fmt: skip
    config |= {key: value for key, value in given.items() if value is not None}
    if (needed := shared_bytes(config, qk_dim, v_dim, itemsize)) > shared_limit:
        raise NotImplementedError(f"tiles need {needed} bytes of shared memory, an SM has {shared_limit}")
    if config["use_tma"] and page_size % config["block_n"]:
        raise NotImplementedError(f"use_tma needs page_size {page_size} to be a multiple of block_n")
    constants = kernel_constants(
        config, batch=batch, q_len=q_len, qk_dim=qk_dim, v_dim=v_dim, page_size=page_size, dtype=q.dtype
    )

    k_tiles = k_tiles2 = k_cache
    v_tiles = v_tiles2 = v_cache
    if config["use_tma"]:
        k_rows, v_rows = k_cache.view(num_pages * page_size, -1), v_cache.view(num_pages * page_size, -1)
        k_tiles, k_tiles2 = (
            TensorDescriptor.from_tensor(k_rows, [config["block_n"], constants[name]]) for name in ("K1", "K2")
        )
        v_tiles, v_tiles2 = (
            TensorDescriptor.from_tensor(v_rows, [config["block_n"], constants[name]]) for name in ("V1", "V2")
        )
    splits = config["num_splits"]
    grid = (triton.cdiv(rows, config["block_m"]) * num_kv_heads * (batch if splits == 1 else splits),)
    partials = bind_partials(out, lse, kv_lens, num_splits=splits, block_n=config["block_n"])

    def run() -> None:
        grouped_decode_kernel[grid](
            q, k_cache, v_cache, k_tiles, k_tiles2, v_tiles, v_tiles2, block_table, kv_lens, out, lse,
            partials.out, partials.lse, softmax_scale * LOG2_E, batch, q_len, num_q_heads, num_kv_heads,
            block_table.shape[1], splits, num_warps=config["num_warps"], **constants,
        )  # fmt: skip
        partials.combine()

    return Launch(config=config, workspace_bytes=partials.nbytes, run=run)


def grouped_decode(q, k_cache, v_cache, block_table, kv_lens, softmax_scale, out=None, lse=None):
    """Grouped decode, returning `(out, lse)`; shapes as in `bind`."""
    out = q.new_empty(*q.shape[:-1], v_cache.shape[-1]) if out is None else out
    lse = torch.empty(q.shape[:-1], device=q.device, dtype=torch.float32) if lse is None else lse
    bind(
        q=q, k_cache=k_cache, v_cache=v_cache, block_table=block_table, kv_lens=kv_lens, out=out, lse=lse,
        softmax_scale=softmax_scale,
    )()  # fmt: skip
    return out, lse
