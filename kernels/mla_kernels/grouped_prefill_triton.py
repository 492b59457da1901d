"""Grouped prefill, Triton: causal attention of packed queries over paged K and V caches, for MHA, GQA, MQA and MLA's
expanded form, with or without a cached prefix.

Source: FlashAttention-2 (Dao, 2023, arXiv 2307.08691), section 3: a program owns rows of the output and walks the keys;
grouped-query attention (Ainslie et al., 2023, arXiv 2305.13245), section 2.2. All query heads that share a KV head are
rows of one tile, token by token, so that a block of the cache is read once for all of them.

A program finds its rows on the device, from q_starts, so that lengths may change between calls. It masks only the
blocks that the causal limit or the request's end crosses; past the end, the request's last token stands in for unused
slots. Where a block lies within a page it is loaded by TMA, save the partial one at the end. Head dims that are not
powers of two are cut in two tiles (192 = 128 + 64).
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from mla_kernels.grouped_decode_triton import head_tiles
from mla_kernels.launch import Launch, check_grouped, check_scale
from mla_kernels.online_softmax import LOG2_E, MAX_SHARED_BYTES, has_tma, max_shared_bytes
from mla_kernels.split_kv import num_sms

L2_BYTES = 50 * 2**20
"""Where there is no GPU to ask: an H100's and H200's."""


@triton.jit
def _row_block_ends(q_starts, batch, group, BATCH_P2: tl.constexpr, BLOCK_M: tl.constexpr):
    """Row blocks of each request and all before it."""
    i = tl.arange(0, BATCH_P2)
    q_lens = tl.load(q_starts + i + 1, mask=i < batch, other=0) - tl.load(q_starts + i, mask=i < batch, other=0)
    return tl.cumsum(tl.cdiv(q_lens * group, BLOCK_M), 0)


@triton.jit
def _head_and_row_block(place, row_blocks, num_kv_heads, heads):
    """KV head and row block at `place` among a request's row_blocks x num_kv_heads, of which `heads` heads fit L2.

    So many heads come at a time. Of those, the row blocks with the most keys come first, each for all these heads.
    """
    heads = tl.minimum(tl.maximum(heads, 1), num_kv_heads)
    first_head = place // (heads * row_blocks) * heads
    place -= first_head * row_blocks
    heads = tl.minimum(heads, num_kv_heads - first_head)
    return first_head + place % heads, row_blocks - 1 - place // heads


@triton.jit
def _load_tile(head, token, stride, FIRST: tl.constexpr, WIDTH: tl.constexpr, DIM: tl.constexpr):
    """Rows `token` of a cache's head, columns from FIRST on, zero from DIM on."""
    col = FIRST + tl.arange(0, WIDTH)
    at = head + token[:, None] * stride + col[None, :]
    return tl.load(at) if FIRST + WIDTH <= DIM else tl.load(at, mask=(col < DIM)[None, :], other=0.0)


@triton.jit
def _attend_blocks(
    q1, q2, m, row_sum, acc, acc2, k_head, v_head, k_tiles, k_tiles2, v_tiles, v_tiles2, pages, kv_head,
    k_stride, v_stride, lo, hi, full, kv_len, visible, scale_log2,
    QK_DIM: tl.constexpr, V_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
    K1: tl.constexpr, K2: tl.constexpr, V1: tl.constexpr, V2: tl.constexpr, BLOCK_N: tl.constexpr,
    TMA: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Fold blocks lo to hi of the cache into the running maximum, sum and output; every row sees all before `full`."""
    TWO_K: tl.constexpr = QK_DIM > K1
    TWO_V: tl.constexpr = V_DIM > V1
    n = tl.arange(0, BLOCK_N)
    if TMA:
        page = tl.load(pages + lo * BLOCK_N // PAGE_SIZE, mask=lo < hi, other=0)
    else:
        # past the end, the last token stands in for slots that may hold anything; its weight there is 0
        slot = tl.minimum(lo * BLOCK_N + n, kv_len - 1)
        page = tl.load(pages + slot // PAGE_SIZE, mask=(lo < hi) & (n >= 0), other=0)  # [N]
    for i in tl.range(lo, hi, num_stages=STAGES):
        # the next page id is fetched a block ahead, so that no load waits for another
        if TMA:
            token = page * PAGE_SIZE + i * BLOCK_N % PAGE_SIZE
            page = tl.load(pages + tl.minimum(i + 1, hi - 1) * BLOCK_N // PAGE_SIZE)
            k_a = k_tiles.load([token, kv_head * QK_DIM])  # [N, K1]
        else:
            slot = tl.minimum(i * BLOCK_N + n, kv_len - 1)
            token = page.to(tl.int64) * PAGE_SIZE + slot % PAGE_SIZE  # [N]
            page = tl.load(pages + tl.minimum(tl.minimum(i + 1, hi - 1) * BLOCK_N + n, kv_len - 1) // PAGE_SIZE)
            k_a = _load_tile(k_head, token, k_stride, 0, K1, QK_DIM)
        s = tl.dot(q1, tl.trans(k_a), input_precision=PRECISION)  # [M, N]
        if TWO_K:
            k_b = (
                k_tiles2.load([token, kv_head * QK_DIM + K1])
                if TMA
                else _load_tile(k_head, token, k_stride, K1, K2, QK_DIM)
            )  # [N, K2]
            s = tl.dot(q2, tl.trans(k_b), s, input_precision=PRECISION)
        if i >= full:
            s = tl.where((i * BLOCK_N + n)[None, :] < visible[:, None], s, -float("inf"))
        m_new = tl.maximum(m, tl.max(s, 1) * scale_log2)  # [M]
        fade = tl.exp2(m - m_new)
        p = tl.exp2(s * scale_log2 - m_new[:, None])
        row_sum = row_sum * fade + tl.sum(p, 1)
        m = m_new
        v_a = v_tiles.load([token, kv_head * V_DIM]) if TMA else _load_tile(v_head, token, v_stride, 0, V1, V_DIM)
        p = p.to(v_a.dtype)
        acc = tl.dot(p, v_a, acc * fade[:, None], input_precision=PRECISION)
        if TWO_V:
            v_b = (
                v_tiles2.load([token, kv_head * V_DIM + V1])
                if TMA
                else _load_tile(v_head, token, v_stride, V1, V2, V_DIM)
            )  # [N, V2]
            acc2 = tl.dot(p, v_b, acc2 * fade[:, None], input_precision=PRECISION)
    return m, row_sum, acc, acc2


@triton.jit
def grouped_prefill_kernel(
    q, k_cache, v_cache, k_tiles, k_tiles2, v_tiles, v_tiles2, block_table, kv_lens, q_starts, out, lse,
    scale_log2, batch, num_q_heads, num_kv_heads, max_pages, l2_tokens,
    QK_DIM: tl.constexpr, V_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
    K1: tl.constexpr, K2: tl.constexpr, V1: tl.constexpr, V2: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BATCH_P2: tl.constexpr,
    TMA: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attention of row blocks of KV heads over all that their rows see; writes `out` and `lse`."""
    TWO_K: tl.constexpr = QK_DIM > K1
    TWO_V: tl.constexpr = V_DIM > V1
    group = num_q_heads // num_kv_heads
    ends = _row_block_ends(q_starts, batch, group, BATCH_P2, BLOCK_M)  # [BATCH_P2]
    # a program has one tile, or more where requests end in partial row blocks
    for tile in range(tl.program_id(0), tl.max(ends, 0) * num_kv_heads, tl.num_programs(0)):
        place = tile // num_kv_heads
        b = tl.sum((ends <= place).to(tl.int32), 0)
        before = tl.max(tl.where(ends <= place, ends, 0), 0)
        row_blocks = tl.min(tl.where(ends > place, ends, 2147483647), 0) - before
        kv_len = tl.load(kv_lens + b)
        kv_head, row_block = _head_and_row_block(
            tile - before * num_kv_heads, row_blocks, num_kv_heads, l2_tokens // tl.maximum(kv_len, 1)
        )
        q_start = tl.load(q_starts + b)
        q_len = tl.load(q_starts + b + 1) - q_start
        row = row_block * BLOCK_M + tl.arange(0, BLOCK_M)  # [M], of the request's q_len x group for this KV head
        row_ok = row < q_len * group
        visible = kv_len - q_len + 1 + row // group  # [M], tokens that each row sees
        # where a row lies among the total_q x num_q_heads rows
        cell = (q_start + row // group).to(tl.int64) * num_q_heads + kv_head * group + row % group

        q_row = q + cell[:, None] * QK_DIM
        k1 = tl.arange(0, K1)
        q1 = tl.load(q_row + k1[None, :], mask=row_ok[:, None], other=0.0)  # [M, K1]
        q2 = q1
        if TWO_K:
            k2 = K1 + tl.arange(0, K2)
            q2 = tl.load(q_row + k2[None, :], mask=row_ok[:, None] & (k2 < QK_DIM)[None, :], other=0.0)  # [M, K2]
        m = tl.full((BLOCK_M,), -1e30, tl.float32)
        row_sum = tl.zeros((BLOCK_M,), tl.float32)
        acc = tl.zeros((BLOCK_M, V1), tl.float32)
        acc2 = tl.zeros((BLOCK_M, V2), tl.float32)

        pages = block_table + b.to(tl.int64) * max_pages
        k_head = k_cache + kv_head * QK_DIM
        v_head = v_cache + kv_head * V_DIM
        k_stride = num_kv_heads * QK_DIM
        v_stride = num_kv_heads * V_DIM
        # tokens that the first of these rows sees, and the last
        least = tl.maximum(kv_len - q_len + 1 + row_block * BLOCK_M // group, 0)
        most = tl.maximum(tl.minimum(kv_len - q_len + 1 + (row_block * BLOCK_M + BLOCK_M - 1) // group, kv_len), 0)
        full = least // BLOCK_N
        end = tl.cdiv(most, BLOCK_N)
        whole = tl.minimum(kv_len // BLOCK_N, end)
        if TMA:
            m, row_sum, acc, acc2 = _attend_blocks(
                q1, q2, m, row_sum, acc, acc2, k_head, v_head, k_tiles, k_tiles2, v_tiles, v_tiles2, pages, kv_head,
                k_stride, v_stride, 0, whole, full, kv_len, visible, scale_log2, QK_DIM, V_DIM, PAGE_SIZE,
                K1, K2, V1, V2, BLOCK_N, True, STAGES, PRECISION,
            )  # fmt: skip
        else:
            whole = 0
        m, row_sum, acc, acc2 = _attend_blocks(
            q1, q2, m, row_sum, acc, acc2, k_head, v_head, k_tiles, k_tiles2, v_tiles, v_tiles2, pages, kv_head,
            k_stride, v_stride, whole, end, full, kv_len, visible, scale_log2, QK_DIM, V_DIM, PAGE_SIZE, K1, K2, V1, V2,
            BLOCK_N, False, 2 if TMA else STAGES, PRECISION,
        )  # fmt: skip

        divisor = tl.where(row_sum > 0.0, row_sum, 1.0)
        lse2 = tl.where(row_sum > 0.0, m + tl.log2(divisor), -float("inf"))
        tl.store(lse + cell, lse2 * 0.6931471805599453, mask=row_ok)
        out_row = out + cell[:, None] * V_DIM
        v1 = tl.arange(0, V1)
        tl.store(out_row + v1[None, :], (acc / divisor[:, None]).to(out.dtype.element_ty), mask=row_ok[:, None])
        if TWO_V:
            v2 = V1 + tl.arange(0, V2)
            ok = row_ok[:, None] & (v2 < V_DIM)[None, :]
            tl.store(out_row + v2[None, :], (acc2 / divisor[:, None]).to(out.dtype.element_ty), mask=ok)


def default_config(
    *,
    batch: int,
    rows: float,
    num_kv_heads: int,
    qk_dim: int,
    v_dim: int,
    page_size: int,
    itemsize: int,
    num_sms: int,
    has_tma: bool = True,
    shared_limit: int = MAX_SHARED_BYTES,
) -> dict[str, int]:
    """Tile sizes, warps and stages for `rows` (queries x heads that share a KV head) a request on the average."""
    block_n, num_warps, num_stages = 64, 4, 3
    if itemsize == 4:
        block_m, block_n, num_stages = 32, 16, 2
    elif rows <= 32:
        block_m = 16 if rows <= 16 else 32
    elif rows <= 64 or batch * num_kv_heads * -(-rows // 128) < num_sms:
        block_m = 64
    else:
        block_m = 128
        # of small heads an SM holds two programs, and one's softmax runs beside the other's products
        num_warps = 4 if max(qk_dim, v_dim) <= 64 else 8
    if block_m >= 64 and v_dim > 128:
        block_n = 32  # the output takes half of the registers
    config = {"block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages}
    while config["num_stages"] > 2 and shared_bytes(config, qk_dim, v_dim, itemsize) > shared_limit:
        config["num_stages"] -= 1
    while config["block_n"] > 16 and shared_bytes(config, qk_dim, v_dim, itemsize) > shared_limit:
        config["block_n"] //= 2
    config["use_tma"] = int(has_tma and itemsize == 2 and _tma_fits(config, qk_dim, v_dim, page_size))
    return config


def _tma_fits(config: dict[str, int], qk_dim: int, v_dim: int, page_size: int) -> bool:
    """Whether a block lies within a page, and tiles hold no column of the next head."""
    exact = _tile_width(qk_dim) == qk_dim and _tile_width(v_dim) == v_dim
    return exact and page_size % config["block_n"] == 0


def kernel_constants(
    config: dict[str, int], *, batch: int, qk_dim: int, v_dim: int, page_size: int, dtype: torch.dtype
) -> dict[str, int | bool | str]:
    """Compile-time arguments of `grouped_prefill_kernel` for a configuration and shape."""
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
        "BATCH_P2": triton.next_power_of_2(max(batch, 2)),
        "TMA": bool(config["use_tma"]),
        "STAGES": config["num_stages"],
        "PRECISION": "ieee" if dtype == torch.float32 else "tf32",
    }


def shared_bytes(config: dict[str, int], qk_dim: int, v_dim: int, itemsize: int) -> int:
    """Shared memory of a program: the query tile, the KV buffers that the pipeliner keeps, and the weights."""
    wgmma = itemsize == 2 and config["block_m"] >= 64
    buffers = config["num_stages"] if wgmma else max(1, config["num_stages"] - 1)
    weights = 0 if wgmma else config["block_m"] * config["block_n"]
    token = _tile_width(qk_dim) + _tile_width(v_dim)
    return (config["block_m"] * _tile_width(qk_dim) + weights + buffers * config["block_n"] * token) * itemsize


def _tile_width(dim: int) -> int:
    """Columns that the tiles of a head dim load, padding included."""
    first, second = head_tiles(dim)
    return first + second if dim > first else first


def tokens_in_l2(device: torch.device, token_bytes: int) -> int:
    """Cached tokens of so many bytes that half of L2 holds, whose other half the queries and outputs pass through."""
    l2_bytes = L2_BYTES
    if device.type == "cuda":
        l2_bytes = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", L2_BYTES)
    return l2_bytes // 2 // token_bytes


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
    block_m: int | None = None,
    block_n: int | None = None,
    num_warps: int | None = None,
    num_stages: int | None = None,
    use_tma: int | None = None,
) -> Launch:
    """Bind grouped prefill to its tensors.

    q `[total_q, num_q_heads, qk_dim]`, the requests' new tokens one after another; float16, bfloat16 or float32
    k_cache `[num_pages, page_size, num_kv_heads, qk_dim]`, v_cache `[num_pages, page_size, num_kv_heads, v_dim]`,
    q's dtype; num_q_heads is a multiple of num_kv_heads, query heads h*group to (h+1)*group - 1 share KV head h
    block_table int32 `[batch, max_pages_per_request]`; entries past a request's length are never read
    kv_lens int32 `[batch]`, cached tokens with the new ones included
    q_starts int32 `[batch + 1]`, ascending from 0 to at most total_q: where each request's queries begin and end
    out `[total_q, num_q_heads, v_dim]`, q's dtype; lse float32 `[total_q, num_q_heads]`, natural log
    softmax_scale multiplies q k^T; it is above 0

    All are contiguous. Nothing is read here, so the values of q_starts, kv_lens, block_table and the caches may change
    between calls. Query i of a request sits at position kv_len - q_len + i and sees up to itself; one that sees nothing
    gets out 0 and lse -inf. Rows past the last request's queries are left as they are.

    The tunables default to `default_config`: block_m rows and block_n tokens a tile (powers of two, 16 or more),
    use_tma 1 needs page_size to be a multiple of block_n and head dims that two tiles cover exactly.

    Raises ValueError for tensors that contradict each other, NotImplementedError for shapes it cannot do: head dims
    under 16 or over 256, tiles beyond the shared memory of an SM, or other dtypes.
    """
    check_grouped(q, k_cache, v_cache, block_table, kv_lens, out, lse, most_dim=256, q_starts=q_starts)
    check_scale(softmax_scale)
    (total_q, num_q_heads, qk_dim), batch = q.shape, len(kv_lens)
    num_pages, page_size, num_kv_heads, v_dim = v_cache.shape
    group, itemsize = num_q_heads // num_kv_heads, q.element_size()
    shared_limit = max_shared_bytes(q.device)
    sms = num_sms(q.device)
    config = default_config(
        batch=batch, rows=total_q * group / max(batch, 1), num_kv_heads=num_kv_heads, qk_dim=qk_dim, v_dim=v_dim,
        page_size=page_size, itemsize=itemsize, num_sms=sms, has_tma=has_tma(q.device), shared_limit=shared_limit,
    )  # fmt: skip
    given = {
        "block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages, "use_tma": use_tma,
    }  # fmt: skip
    config |= {key: value for key, value in given.items() if value is not None}
    if (needed := shared_bytes(config, qk_dim, v_dim, itemsize)) > shared_limit:
        raise NotImplementedError(f"tiles need {needed} bytes of shared memory, an SM has {shared_limit}")
    if config["use_tma"] and not _tma_fits(config, qk_dim, v_dim, page_size):
        raise NotImplementedError(
            f"use_tma needs page_size {page_size} to be a multiple of block_n {config['block_n']}, and head dims "
            f"{qk_dim} and {v_dim} to be sums of two powers of two from 16"
        )
    constants = kernel_constants(config, batch=batch, qk_dim=qk_dim, v_dim=v_dim, page_size=page_size, dtype=q.dtype)

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
    # as many programs as row blocks if all were full; more for few of them, up to one that is not full a request
    row_blocks = triton.cdiv(total_q * group, config["block_m"])
    most_row_blocks = total_q * group // config["block_m"] + batch
    waves = triton.cdiv(4 * sms, num_kv_heads)
    grid = (min(max(row_blocks, waves), most_row_blocks) * num_kv_heads,)
    l2_tokens = tokens_in_l2(q.device, (qk_dim + v_dim) * itemsize)

    def run() -> None:
        grouped_prefill_kernel[grid](
            q, k_cache, v_cache, k_tiles, k_tiles2, v_tiles, v_tiles2, block_table, kv_lens, q_starts, out, lse,
            softmax_scale * LOG2_E, batch, num_q_heads, num_kv_heads, block_table.shape[1], l2_tokens,
            num_warps=config["num_warps"], **constants,
        )  # fmt: skip

    return Launch(config=config, workspace_bytes=0, run=run)
