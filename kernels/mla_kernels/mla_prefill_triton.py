"""Absorbed MLA prefill, Triton: causal attention of packed queries over a paged cache of latents, with or without a
cached prefix.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1.2 and appendix C, for the absorbed form; FlashAttention-2 (Dao,
2023, arXiv 2307.08691), section 3: a program owns rows of the output and walks the keys. All query heads share one head
of keys, so that a request's rows are its queries x heads, heads innermost, and few blocks lie on the causal limit.

A program finds its rows on the device, from q_starts, so that lengths may change between calls. It walks the cache as
`mla_decode_triton` does (see mla_triton_tiles), as if the request ended with what the last of its rows sees: blocks
that all of them see whole come first, without masks, then the tokens behind in short masked steps. Nothing is split.
"""

import torch
import triton
import triton.language as tl

from mla_kernels.launch import Launch, check_mla
from mla_kernels.mla_triton_tiles import attend_tokens, cache_tiles, check_config, check_supported, shared_bytes
from mla_kernels.online_softmax import LOG2_E, MAX_SHARED_BYTES, max_shared_bytes

HOPPER = 9
"""The compute capability, but for its minor version, that is assumed where there is no GPU."""


@triton.jit
def _find_rows(q_starts, batch, num_q_heads, place, BLOCK_M: tl.constexpr):
    """Request and row block at `place`, and the request's first query and number of them.

    A request has a place for every multiple of BLOCK_M rows of the batch that lies in it, and one more: enough for its
    row blocks, and at most one too many, whose row block is negative, as are those behind the last request.

    The search takes scalar loads alone, from which ptxas sees that the threads of a warp agree. Of a sum over all
    requests it does not, and would keep what steers the loops in each thread's registers, which spill then.
    """
    b = 0
    after = batch
    while after - b > 1:
        middle = (b + after) // 2
        behind = tl.load(q_starts + middle) * num_q_heads // BLOCK_M + middle > place
        b = tl.where(behind, b, middle)
        after = tl.where(behind, middle, after)
    q_start = tl.load(q_starts + b)
    q_len = tl.load(q_starts + b + 1) - q_start
    # the row blocks with the most keys come first
    row_block = tl.cdiv(q_len * num_q_heads, BLOCK_M) - 1 - (place - q_start * num_q_heads // BLOCK_M - b)
    return b, row_block, q_start, q_len


@triton.jit
def mla_prefill_kernel(
    q, kv_cache, nope_tiles, rope_tiles, block_table, kv_lens, q_starts, out, lse,
    scale_log2, batch, num_q_heads, max_pages,
    KV_LORA_RANK: tl.constexpr, ROPE_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TMA: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Attention of one row block over all that its rows see; writes `out` and `lse`."""
    KV_DIM: tl.constexpr = KV_LORA_RANK + ROPE_DIM
    i = tl.arange(0, BLOCK_M)
    c = tl.arange(0, KV_LORA_RANK)
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, 16)
    b, row_block, q_start, q_len = _find_rows(q_starts, batch, num_q_heads, tl.program_id(0), BLOCK_M)
    kv_len = tl.load(kv_lens + b)
    pages = block_table + tl.cast(b, tl.int64) * max_pages
    # one turn or none: in a branch, ptxas would wait for every warp-group product before the next
    for block in range(tl.maximum(row_block, 0), row_block + 1):
        first = block * BLOCK_M
        row_ok = i < q_len * num_q_heads - first  # [M], of the request's q_len x num_q_heads
        visible = kv_len - q_len + 1 + (first + i) // num_q_heads  # [M], tokens that each row sees
        # tokens that the first of these rows sees, and the last
        least = tl.maximum(kv_len - q_len + 1 + first // num_q_heads, 0)
        most = tl.maximum(tl.minimum(kv_len - q_len + 1 + (first + BLOCK_M - 1) // num_q_heads, kv_len), 0)
        # where the row block lies among the total_q x num_q_heads rows
        start = tl.cast(q_start, tl.int64) * num_q_heads + first
        acc, lse2 = attend_tokens(
            q + start * KV_DIM + i[:, None] * KV_DIM, row_ok, kv_cache, nope_tiles, rope_tiles, pages,
            0, least // BLOCK_N, tl.cdiv(most, BLOCK_N), most, visible, scale_log2, n, t, KV_LORA_RANK, ROPE_DIM,
            PAGE_SIZE, BLOCK_M, BLOCK_N, False, TMA, False, STAGES, PRECISION, WARPS,
        )  # fmt: skip
        tl.store(lse + start + i, lse2 * 0.6931471805599453, mask=row_ok)
        at = out + start * KV_LORA_RANK + i[:, None] * KV_LORA_RANK + c[None, :]
        tl.store(at, acc.to(out.dtype.element_ty), mask=row_ok[:, None])


def default_config(
    *,
    rows: float,
    kv_dim: int,
    page_size: int,
    itemsize: int,
    major: int = HOPPER,
    shared_limit: int = MAX_SHARED_BYTES,
) -> dict[str, int]:
    """Tile sizes, warps and stages for `rows` (queries x heads) a request on the average, on a GPU of compute
    capability `major`."""
    if itemsize == 4:
        block_m, block_n, num_stages = 16, 16, 2
    elif rows <= 16:
        block_m, block_n, num_stages = 16, 64, 3
    elif rows > 32 and major == HOPPER:
        block_m, block_n, num_stages = 64, 64, 2
    else:
        block_m, block_n, num_stages = 32 if rows <= 32 else 64, 32, 3
    config = {"block_m": block_m, "block_n": block_n, "num_warps": 8, "num_stages": num_stages}
    while config["block_n"] > 16 and _shared_bytes(config, kv_dim, itemsize, major) > shared_limit:
        config["block_n"] //= 2
    if _shared_bytes(config, kv_dim, itemsize, major) > shared_limit:
        config["num_stages"] = 2
    config["use_tma"] = int(_has_wgmma(major) and itemsize == 2 and page_size % config["block_n"] == 0)
    return config


def _shared_bytes(config: dict[str, int], kv_dim: int, itemsize: int, major: int) -> int:
    return shared_bytes(config, kv_dim, itemsize, _has_wgmma(major))


def _has_wgmma(major: int) -> bool:
    """Whether products read shared memory as they run; where they do not, as on 12.0, tiles that come by TMA spill."""
    return HOPPER <= major < 12


def kernel_constants(
    config: dict[str, int], *, kv_lora_rank: int, rope_dim: int, page_size: int, dtype: torch.dtype
) -> dict[str, int | bool | str]:
    """Compile-time arguments of `mla_prefill_kernel` for a configuration and shape."""
    return {
        "KV_LORA_RANK": kv_lora_rank,
        "ROPE_DIM": rope_dim,
        "PAGE_SIZE": page_size,
        "BLOCK_M": config["block_m"],
        "BLOCK_N": config["block_n"],
        "TMA": bool(config["use_tma"]),
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
    """Bind absorbed MLA prefill to its tensors.

    q `[total_q, num_q_heads, kv_lora_rank + qk_rope_head_dim]`, already absorbed, the requests' new tokens one after
    another; float16, bfloat16 or float32
    kv_cache `[num_pages, page_size, kv_lora_rank + qk_rope_head_dim]`, q's dtype; values are the first kv_lora_rank
    block_table int32 `[batch, max_pages_per_request]`; entries past a request's length are never read
    kv_lens int32 `[batch]`, cached tokens with the new ones included
    q_starts int32 `[batch + 1]`, ascending from 0 to at most total_q: where each request's queries begin and end
    out `[total_q, num_q_heads, kv_lora_rank]`, q's dtype; lse float32 `[total_q, num_q_heads]`, natural log
    softmax_scale multiplies q k^T

    All are contiguous. Nothing is read here, so the values of q_starts, kv_lens, block_table and the cache may change
    between calls. Query i of a request sits at position kv_len - q_len + i and sees up to itself; one that sees nothing
    gets out 0 and lse -inf. Rows past the last request's queries are left as they are.

    The tunables default to `default_config`: block_m rows and block_n tokens a tile (powers of two, 16 or more),
    use_tma 1 needs page_size to be a multiple of block_n.

    Raises ValueError for tensors that contradict each other, NotImplementedError for shapes it cannot do: ranks and
    rope dims that are not powers of two of at least 16, tiles beyond the shared memory of an SM, or other dtypes.
    """
    check_mla(q, kv_cache, block_table, kv_lens, out, lse, q_starts)
    check_supported(q, out.shape[-1])
    (total_q, num_q_heads, kv_dim), kv_lora_rank = q.shape, out.shape[-1]
    batch, page_size, itemsize = len(kv_lens), kv_cache.shape[1], q.element_size()
    shared_limit = max_shared_bytes(q.device)
    major = torch.cuda.get_device_capability(q.device)[0] if q.device.type == "cuda" else HOPPER
    config = default_config(
        rows=total_q * num_q_heads / max(batch, 1), kv_dim=kv_dim, page_size=page_size, itemsize=itemsize, major=major,
        shared_limit=shared_limit,
    )  # fmt: skip
    given = {
        "block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages, "use_tma": use_tma,
    }  # fmt: skip
    config |= {key: value for key, value in given.items() if value is not None}
    check_config(config, page_size, _shared_bytes(config, kv_dim, itemsize, major), shared_limit)
    nope_tiles, rope_tiles = cache_tiles(kv_cache, kv_lora_rank, config)
    constants = kernel_constants(
        config, kv_lora_rank=kv_lora_rank, rope_dim=kv_dim - kv_lora_rank, page_size=page_size,
        dtype=q.dtype,
    )  # fmt: skip
    # a place for every full row block of the batch, and one more a request
    grid = (total_q * num_q_heads // config["block_m"] + batch if batch else 0,)

    def run() -> None:
        mla_prefill_kernel[grid](
            q, kv_cache, nope_tiles, rope_tiles, block_table, kv_lens, q_starts, out, lse,
            softmax_scale * LOG2_E, batch, num_q_heads, block_table.shape[1],
            num_warps=config["num_warps"], **constants,
        )  # fmt: skip

    return Launch(config=config, workspace_bytes=0, run=run)
