"""Absorbed MLA prefill over a paged latent cache, Gluon on sm_90: the kernel of `mla_decode_gluon`, on packed queries.

A program has 64 rows of one request, heads innermost, and walks the blocks that the last of them sees. Nothing is
split: with hundreds of rows a request there are row blocks for every SM.
"""

import torch
import triton

from mla_kernels.launch import Launch, check_mla
from mla_kernels.mla_decode_gluon import ROWS, STAGES, mla_decode_many_rows_kernel
from mla_kernels.mla_gluon_bind import operand_tiles, unsupported
from mla_kernels.online_softmax import LOG2_E
from mla_kernels.paged_gluon import BLOCK


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
) -> Launch:
    """Bind absorbed MLA prefill to its tensors.

    q `[total_q, num_q_heads, 576]`, the requests' new tokens one after another, absorbed; float16 or bfloat16
    kv_cache `[num_pages, page_size, 576]`, q's dtype: 512 latent columns, then the rope key
    block_table int32 `[batch, max_pages_per_request]`; entries past a request's length are never read
    kv_lens int32 `[batch]`, cached tokens with the new ones included
    q_starts int32 `[batch + 1]`, ascending from 0 to at most total_q: where each request's queries begin and end
    out `[total_q, num_q_heads, 512]`, q's dtype; lse float32 `[total_q, num_q_heads]`, natural log
    softmax_scale multiplies q k^T; it is above 0

    All are contiguous. Nothing is read here, so the values of all but q's shape may change between calls. Query i of a
    request sits at position kv_len - q_len + i and sees up to itself; one that sees nothing gets out 0 and lse -inf.
    Rows past the last request's queries are left as they are.

    Raises ValueError for tensors that contradict each other, NotImplementedError for what `mla_gluon_bind.unsupported`
    names.
    """
    check_mla(q, kv_cache, block_table, kv_lens, out, lse, q_starts)
    if reason := unsupported(q, kv_cache, out.shape[-1]):
        raise NotImplementedError(reason)
    (total_q, num_q_heads, _), batch = q.shape, len(kv_lens)
    operands = operand_tiles(q, kv_cache, ROWS, 256)
    # as many row blocks as there can be: all full but one a request
    grid = (total_q * num_q_heads // ROWS + batch,)
    no_parts = torch.empty(1, device=q.device)

    def run() -> None:
        mla_decode_many_rows_kernel[grid](
            *operands, block_table, kv_lens, out, lse, no_parts, no_parts, softmax_scale * LOG2_E, batch,
            block_table.shape[1], 1, HEADS=num_q_heads, Q_LEN=0, PAGE_SIZE=kv_cache.shape[1],
            BATCH_P2=max(32, triton.next_power_of_2(batch)), SPLIT=False, q_starts=q_starts, num_warps=4, maxnreg=168,
        )  # fmt: skip

    return Launch({"block_m": ROWS, "block_n": BLOCK, "num_stages": STAGES}, 0, run)
