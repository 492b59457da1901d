"""Float64 references of decode and prefill, for checking kernels; never timed.

They share one definition of the contract (kernels/README.md): query i of a request sits at position
kv_len - q_len + i and sees positions up to its own; one that sees nothing gets out 0 and lse -inf. Every function
returns `(out, lse)` in float64 and works on any device, one request, one slice of heads and, in prefill, one block of
queries at a time, so that temporaries stay near `reference_memory.TEMPORARY_BYTES` unless one head's keys alone take
more.

Sources: grouped-query attention, Ainslie et al. 2023 (arXiv 2305.13245); MLA and its absorption, DeepSeek-V2
(arXiv 2405.04434), section 2.1.
"""

from itertools import pairwise

import torch

from mla_kernels import reference_memory


def grouped_decode(q, k_cache, v_cache, block_table, kv_lens, softmax_scale):
    """MHA, GQA, MQA or expanded MLA.

    q `[batch, q_len, num_q_heads, qk_dim]`, k_cache `[num_pages, page_size, num_kv_heads, qk_dim]`,
    v_cache `[num_pages, page_size, num_kv_heads, v_dim]`, block_table int32 `[batch, max_pages_per_request]`,
    kv_lens int32 `[batch]`; any float dtypes. Returns out `[batch, q_len, num_q_heads, v_dim]` and
    lse `[batch, q_len, num_q_heads]`, float64, lse in natural log.
    """
    batch, q_len = q.shape[:2]
    starts = torch.arange(batch + 1) * q_len
    out, lse = grouped_prefill(q.flatten(0, 1), k_cache, v_cache, block_table, kv_lens, starts, softmax_scale)
    return out.unflatten(0, (batch, q_len)), lse.unflatten(0, (batch, q_len))


def grouped_prefill(q, k_cache, v_cache, block_table, kv_lens, q_starts, softmax_scale):
    """The same for requests with a number of queries each, packed one behind the other.

    q `[total_q, num_q_heads, qk_dim]`, q_starts int32 `[batch + 1]`: request b has the queries from q_starts[b] up to
    q_starts[b + 1]. Returns out `[total_q, num_q_heads, v_dim]` and lse `[total_q, num_q_heads]`.
    """
    _, num_q_heads, qk_dim = q.shape
    num_kv_heads, v_dim = v_cache.shape[2:]
    group = num_q_heads // num_kv_heads
    out, lse = _empty_results(q, v_dim)
    for b, ((start, stop), kv_len) in enumerate(zip(pairwise(q_starts.tolist()), kv_lens.tolist(), strict=True)):
        slots = _slots(block_table[b], kv_len, k_cache.shape[1])
        block = min(stop - start, reference_memory.queries_at_once(kv_len, group))
        step = reference_memory.heads_at_once(block * group, kv_len, qk_dim + v_dim)
        for h in range(0, num_kv_heads, step):
            heads = slice(h, min(h + step, num_kv_heads))
            k = _gather(k_cache[:, :, heads], slots).transpose(0, 1)  # [kv heads, kv_len, qk_dim]
            v = _gather(v_cache[:, :, heads], slots).transpose(0, 1)
            q_heads = slice(heads.start * group, heads.stop * group)
            for first in range(start, stop, max(block, 1)):
                queries = slice(first, min(first + block, stop))
                count, seen = queries.stop - first, max(0, kv_len - (stop - queries.stop))
                rows = q[queries, q_heads].double().unflatten(1, (-1, group)).permute(1, 2, 0, 3).flatten(1, 2)
                # rows: group x queries, query index innermost
                o, e = _attend(rows, k[:, :seen], v[:, :seen], softmax_scale, count)
                out[queries, q_heads] = o.unflatten(1, (group, count)).permute(2, 0, 1, 3).flatten(1, 2)
                lse[queries, q_heads] = e.unflatten(1, (group, count)).permute(2, 0, 1).flatten(1, 2)
    return out, lse


def mla_absorbed_decode(q, kv_cache, block_table, kv_lens, kv_lora_rank, softmax_scale):
    """MLA with W_UK absorbed into the query: one latent head serves all query heads.

    q `[batch, q_len, num_q_heads, kv_lora_rank + qk_rope_head_dim]`, kv_cache `[num_pages, page_size, the same]`;
    the values are the first kv_lora_rank columns. Returns out `[batch, q_len, num_q_heads, kv_lora_rank]` and lse.
    """
    k_cache = kv_cache.unsqueeze(2)
    return grouped_decode(q, k_cache, k_cache[..., :kv_lora_rank], block_table, kv_lens, softmax_scale)


def mla_absorbed_prefill(q, kv_cache, block_table, kv_lens, q_starts, kv_lora_rank, softmax_scale):
    """The same for packed requests: q `[total_q, num_q_heads, kv_lora_rank + qk_rope_head_dim]`, as `grouped_prefill`.

    Returns out `[total_q, num_q_heads, kv_lora_rank]` and lse `[total_q, num_q_heads]`.
    """
    k_cache = kv_cache.unsqueeze(2)
    return grouped_prefill(q, k_cache, k_cache[..., :kv_lora_rank], block_table, kv_lens, q_starts, softmax_scale)


def mla_recompute_decode(q, kv_cache, kv_b_proj, block_table, kv_lens, v_head_dim, softmax_scale):
    """MLA that expands K and V from the cached latents.

    q `[batch, q_len, num_q_heads, qk_nope_head_dim + qk_rope_head_dim]`, kv_cache
    `[num_pages, page_size, kv_lora_rank + qk_rope_head_dim]`, kv_b_proj
    `[num_q_heads, qk_nope_head_dim + v_head_dim, kv_lora_rank]`: a head's keys are its first qk_nope_head_dim rows
    times the latent, followed by the rope columns that all heads share; its values are the other rows times the
    latent. Returns out `[batch, q_len, num_q_heads, v_head_dim]` and lse.
    """
    batch, q_len = q.shape[:2]
    starts = torch.arange(batch + 1) * q_len
    out, lse = mla_recompute_prefill(
        q.flatten(0, 1), kv_cache, kv_b_proj, block_table, kv_lens, starts, v_head_dim, softmax_scale
    )
    return out.unflatten(0, (batch, q_len)), lse.unflatten(0, (batch, q_len))


def mla_recompute_prefill(q, kv_cache, kv_b_proj, block_table, kv_lens, q_starts, v_head_dim, softmax_scale):
    """The same for packed requests: q `[total_q, num_q_heads, qk_nope_head_dim + qk_rope_head_dim]`, as
    `grouped_prefill`. Returns out `[total_q, num_q_heads, v_head_dim]` and lse `[total_q, num_q_heads]`.
    """
    _, num_q_heads, qk_head_dim = q.shape
    kv_lora_rank, nope_dim = kv_b_proj.shape[2], kv_b_proj.shape[1] - v_head_dim
    out, lse = _empty_results(q, v_head_dim)
    for b, ((start, stop), kv_len) in enumerate(zip(pairwise(q_starts.tolist()), kv_lens.tolist(), strict=True)):
        cached = _gather(kv_cache, _slots(block_table[b], kv_len, kv_cache.shape[1]))
        latent, rope = cached[:, :kv_lora_rank], cached[:, kv_lora_rank:]  # [kv_len, ...]
        block = min(stop - start, reference_memory.queries_at_once(kv_len, 1))
        step = reference_memory.heads_at_once(block, kv_len, qk_head_dim + kv_b_proj.shape[1])
        for h in range(0, num_q_heads, step):
            heads = slice(h, min(h + step, num_q_heads))
            expanded = latent @ kv_b_proj[heads].double().transpose(1, 2)  # [heads, kv_len, nope + v]
            k = torch.cat((expanded[..., :nope_dim], rope.expand(expanded.shape[0], -1, -1)), dim=2)
            for first in range(start, stop, max(block, 1)):
                queries = slice(first, min(first + block, stop))
                count, seen = queries.stop - first, max(0, kv_len - (stop - queries.stop))
                rows = q[queries, heads].double().transpose(0, 1)
                o, e = _attend(rows, k[:, :seen], expanded[:, :seen, nope_dim:], softmax_scale, count)
                out[queries, heads] = o.transpose(0, 1)
                lse[queries, heads] = e.transpose(0, 1)
    return out, lse


def _empty_results(q, v_dim):
    # A packed query that no request has sees nothing.
    out = torch.zeros(*q.shape[:-1], v_dim, dtype=torch.float64, device=q.device)
    return out, torch.full(q.shape[:-1], -torch.inf, dtype=torch.float64, device=q.device)


def _slots(pages, kv_len: int, page_size: int):
    """Flat cache slots of a request's tokens, from its row of the block table."""
    pos = torch.arange(kv_len, device=pages.device)
    return pages[pos // page_size].long() * page_size + pos % page_size


def _gather(cache, slots):
    """Float64 rows of a paged cache `[num_pages, page_size, ...]` at flat `slots`."""
    page_size = cache.shape[1]
    return cache[slots // page_size, slots % page_size].double()


def _attend(rows, k, v, softmax_scale: float, q_len: int):
    """rows `[heads, n x q_len, qk_dim]`, query index innermost, against k and v `[heads, kv_len, ...]`."""
    kv_len = k.shape[1]
    scores = rows @ k.transpose(1, 2) * softmax_scale  # [heads, rows, kv_len]
    query = torch.arange(rows.shape[1], device=rows.device) % q_len
    hidden = torch.arange(kv_len, device=rows.device) > (kv_len - q_len + query)[:, None]
    scores.masked_fill_(hidden, -torch.inf)
    lse = torch.logsumexp(scores, dim=2) if kv_len else scores.new_full(scores.shape[:2], -torch.inf)
    # a row without a visible token has lse -inf; shifting by 0 there keeps exp(-inf) = 0 instead of NaN
    shift = torch.where(lse.isinf(), torch.zeros_like(lse), lse)
    return torch.exp(scores - shift.unsqueeze(2)) @ v, lse
