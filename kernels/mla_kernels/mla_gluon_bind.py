"""What the Gluon MLA kernels are bound with: both take the same tensors in the same order, in tiles of their own."""

import torch
import triton
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from mla_kernels.gluon_sm90 import tiles, unsupported_pages, unsupported_queries
from mla_kernels.launch import Launch, check_mla
from mla_kernels.online_softmax import LOG2_E
from mla_kernels.paged_gluon import BLOCK
from mla_kernels.split_kv import bind_partials, most_splits, num_sms


def unsupported(q: torch.Tensor, kv_cache: torch.Tensor, kv_lora_rank: int) -> str:
    """Why the kernels cannot take such tensors; empty where they can."""
    rope_dim = q.shape[-1] - kv_lora_rank
    if reason := unsupported_queries(q):
        return reason
    if (kv_lora_rank, rope_dim) != (512, 64):
        return f"kv_lora_rank {kv_lora_rank} with qk_rope_head_dim {rope_dim}; 512 with 64 is supported"
    return unsupported_pages(kv_cache.shape[1], BLOCK)


def operand_tiles(q: torch.Tensor, kv_cache: torch.Tensor, block_m: int, cols: int) -> tuple[TensorDescriptor, ...]:
    """By which TMA loads block_m rows of the queries and a block of the cache, or a page of it where that is smaller:
    `cols` latent columns of the queries, their rope columns, latent columns of the cache, its rope columns."""
    flat_q, tokens = q.view(-1, q.shape[-1]), kv_cache.view(-1, kv_cache.shape[-1])
    box = min(BLOCK, kv_cache.shape[1])
    return (
        tiles(flat_q, block_m, cols),
        tiles(flat_q, block_m, 64),
        tiles(tokens, box, cols if box == BLOCK else 64),
        tiles(tokens, box, 64),
    )


def bind_kernel(
    kernel: triton.KernelInterface,
    *,
    q: torch.Tensor,
    kv_cache: torch.Tensor,
    block_table: torch.Tensor,
    kv_lens: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    softmax_scale: float,
    num_splits: int | None,
    block_m: int,
    cols: int,
    num_stages: int,
    **constants: int,
) -> Launch:
    """Bind a kernel whose programs own block_m rows, and which loads so many columns of queries and latents at once.

    Raises as `mla_decode_gluon.bind` says.
    """
    check_mla(q, kv_cache, block_table, kv_lens, out, lse)
    if reason := unsupported(q, kv_cache, out.shape[-1]):
        raise NotImplementedError(reason)
    batch, q_len, num_q_heads, _ = q.shape
    page_size = kv_cache.shape[1]
    row_blocks = triton.cdiv(q_len * num_q_heads, block_m)
    most_blocks = triton.cdiv(block_table.shape[1] * page_size, BLOCK)
    splits = num_splits or most_splits(max(1, num_sms(q.device) // row_blocks), batch, most_blocks)
    grid = ((splits if splits > 1 else batch) * row_blocks,)
    operands = operand_tiles(q, kv_cache, block_m, cols)
    batch_p2 = 1 if batch == 1 else max(32, triton.next_power_of_2(batch))
    partials = bind_partials(out, lse, kv_lens, num_splits=splits, block_n=BLOCK)

    def run() -> None:
        kernel[grid](
            *operands, block_table, kv_lens, out, lse, partials.out, partials.lse,
            softmax_scale * LOG2_E, batch, block_table.shape[1], splits,
            HEADS=num_q_heads, Q_LEN=q_len, PAGE_SIZE=page_size, BATCH_P2=batch_p2, SPLIT=splits > 1,
            num_warps=4, maxnreg=168, **constants,
        )  # fmt: skip
        partials.combine()

    config = {"block_m": block_m, "block_n": BLOCK, "num_stages": num_stages, "num_splits": splits}
    return Launch(config, partials.nbytes, run)
