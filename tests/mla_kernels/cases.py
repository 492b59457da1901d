"""Inputs for the kernel tests: paged caches full of traps, and the comparison with the float64 reference.

Slots past a request's end hold NaN, block-table entries past its last page point nowhere, and outputs start as NaN.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

RELATIVE_ERROR_LIMITS = {torch.bfloat16: 4e-3, torch.float16: 1e-3, torch.float32: 1e-5, torch.float64: 1e-12}
LSE_ERROR_LIMITS = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-4, torch.float64: 1e-12}
NOWHERE = (2**30, -1)


def paged_cache(
    lens: Sequence[int], page_size: int, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, seed: int, device="cpu"
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Caches `[num_pages, page_size, *shape]` that share one block table, the table, and the lengths."""
    generator = torch.Generator(device).manual_seed(seed)
    pages_of = [-(-kv_len // page_size) for kv_len in lens]
    num_pages = sum(pages_of) + 1
    order = torch.randperm(num_pages, generator=generator, device=device).int()
    width = max(1, *pages_of) + 1
    block_table = torch.tensor(NOWHERE, dtype=torch.int32, device=device).repeat(len(lens), width)[:, :width]
    used = torch.zeros(num_pages, page_size, dtype=torch.bool, device=device)
    start = 0
    for b, (kv_len, count) in enumerate(zip(lens, pages_of, strict=True)):
        pages = order[start : start + count]
        block_table[b, :count] = pages
        used[pages.long()] = torch.arange(count * page_size, device=device).view(count, page_size) < kv_len
        start += count
    caches = []
    for shape in shapes:
        cache = torch.randn(num_pages, page_size, *shape, generator=generator, device=device, dtype=torch.float32)
        cache[~used] = torch.nan
        caches.append(cache.to(dtype))
    return caches, block_table.contiguous(), torch.tensor(lens, dtype=torch.int32, device=device)


def with_outputs(inputs: dict[str, Tensor], v_dim: int) -> dict[str, Tensor]:
    """The inputs with poisoned `out` and `lse`."""
    q = inputs["q"]
    out = torch.full((*q.shape[:-1], v_dim), torch.nan, dtype=q.dtype, device=q.device)
    return inputs | {"out": out, "lse": torch.full(q.shape[:-1], torch.nan, device=q.device)}


def grouped(
    lens, q_len=1, num_q_heads=4, num_kv_heads=2, qk_dim=32, v_dim=32, page_size=16, dtype=torch.float32, seed=0,
    device="cpu",
):  # fmt: skip
    """Tensors of a grouped case, without outputs."""
    shapes = [(num_kv_heads, qk_dim), (num_kv_heads, v_dim)]
    (k_cache, v_cache), block_table, kv_lens = paged_cache(lens, page_size, shapes, dtype, seed, device)
    q = _normal((len(lens), q_len, num_q_heads, qk_dim), dtype, seed, device)
    return {"q": q, "k_cache": k_cache, "v_cache": v_cache, "block_table": block_table, "kv_lens": kv_lens}


def mla(
    lens, q_len=1, num_q_heads=4, kv_lora_rank=32, rope_dim=16, page_size=16, dtype=torch.float32, seed=0, device="cpu"
):
    """Tensors of an absorbed MLA case, without outputs."""
    (cache,), block_table, kv_lens = paged_cache(lens, page_size, [(kv_lora_rank + rope_dim,)], dtype, seed, device)
    q = _normal((len(lens), q_len, num_q_heads, kv_lora_rank + rope_dim), dtype, seed, device)
    return {"q": q, "kv_cache": cache, "block_table": block_table, "kv_lens": kv_lens}


def recompute(
    lens, q_len=1, num_q_heads=4, kv_lora_rank=32, nope_dim=16, rope_dim=8, v_head_dim=16, page_size=16,
    dtype=torch.float32, seed=0, device="cpu",
):  # fmt: skip
    """Tensors of a recomputing MLA case, without outputs."""
    (cache,), block_table, kv_lens = paged_cache(lens, page_size, [(kv_lora_rank + rope_dim,)], dtype, seed, device)
    q = _normal((len(lens), q_len, num_q_heads, nope_dim + rope_dim), dtype, seed, device)
    kv_b_proj = _normal((num_q_heads, nope_dim + v_head_dim, kv_lora_rank), dtype, seed + 1, device)
    kv_b_proj *= kv_lora_rank**-0.5
    return {"q": q, "kv_cache": cache, "kv_b_proj": kv_b_proj, "block_table": block_table, "kv_lens": kv_lens}


def mismatch(dtype: torch.dtype, out: Tensor, expected_out: Tensor, lse: Tensor | None, expected_lse: Tensor) -> str:
    """What is wrong with a result, empty where nothing is."""
    error = float((out.double() - expected_out).norm() / expected_out.norm().clamp_min(1e-30))
    if not error <= RELATIVE_ERROR_LIMITS[dtype]:
        return f"relative error of out is {error:.1e}"
    blind = expected_lse.isinf()
    if not bool((out[blind] == 0).all()):
        return "out is not 0 where nothing is seen"
    if lse is None:
        return ""
    if not bool((lse[blind] == -torch.inf).all()):
        return "lse is not -inf where nothing is seen"
    lse_error = float((lse - expected_lse)[~blind].abs().max()) if not bool(blind.all()) else 0.0
    return "" if lse_error <= LSE_ERROR_LIMITS[dtype] else f"error of lse is {lse_error:.1e}"


def _normal(shape: tuple[int, ...], dtype: torch.dtype, seed: int, device) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed + 1000)
    return torch.randn(shape, generator=generator, device=device).to(dtype)
