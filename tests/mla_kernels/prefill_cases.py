"""Inputs for the tests of prefill kernels: packed queries over paged caches full of traps, and a float64 reference.

The reference walks one query and head at a time, by the contract's words alone, so that it is a second opinion on
`mla_kernels.reference` as well.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from tests.mla_kernels import cases


def grouped(
    kv_lens: Sequence[int], q_lens: Sequence[int], num_q_heads=4, num_kv_heads=2, qk_dim=32, v_dim=32, page_size=16,
    dtype=torch.float32, seed=0, device="cpu",
) -> dict[str, Tensor]:  # fmt: skip
    """Tensors of a grouped prefill case, without outputs."""
    inputs = cases.grouped(kv_lens, 1, num_q_heads, num_kv_heads, qk_dim, v_dim, page_size, dtype, seed, device)
    generator = torch.Generator(device).manual_seed(seed + 1000)
    q = torch.randn(sum(q_lens), num_q_heads, qk_dim, generator=generator, device=device).to(dtype)
    q_starts = torch.tensor([0, *accumulate(q_lens)], dtype=torch.int32, device=device)
    return inputs | {"q": q, "q_starts": q_starts}


def with_outputs(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs with poisoned `out` and `lse`."""
    q, v_dim = inputs["q"], inputs["v_cache"].shape[3]
    out = torch.full((*q.shape[:2], v_dim), torch.nan, dtype=q.dtype, device=q.device)
    return inputs | {"out": out, "lse": torch.full(q.shape[:2], torch.nan, device=q.device)}


def poison(tensors: dict[str, Tensor]) -> None:
    """Fill `out` and `lse` with NaN again."""
    tensors["out"].fill_(torch.nan)
    tensors["lse"].fill_(torch.nan)


def expected(inputs: dict[str, Tensor], softmax_scale: float) -> tuple[Tensor, Tensor]:
    """Float64 `out` and `lse` of grouped prefill, a query at a time."""
    q, k_cache, v_cache = (inputs[name].double() for name in ("q", "k_cache", "v_cache"))
    total_q, num_q_heads, _ = q.shape
    group = num_q_heads // k_cache.shape[2]
    out = q.new_zeros(total_q, num_q_heads, v_cache.shape[3])
    lse = q.new_full((total_q, num_q_heads), -torch.inf)
    starts = inputs["q_starts"].tolist()
    for b, kv_len in enumerate(inputs["kv_lens"].tolist()):
        pages = inputs["block_table"][b, : -(-kv_len // k_cache.shape[1])].long()
        k, v = (cache[pages].flatten(0, 1).repeat_interleave(group, 1) for cache in (k_cache, v_cache))
        for row in range(starts[b], starts[b + 1]):
            visible = kv_len - starts[b + 1] + row + 1
            if visible <= 0:
                continue
            scores = torch.einsum("hd,thd->ht", q[row], k[:visible]) * softmax_scale
            lse[row] = scores.logsumexp(1)
            out[row] = torch.einsum("ht,thd->hd", scores.softmax(1), v[:visible])
    return out, lse


def mismatch(tensors: dict[str, Tensor], softmax_scale: float) -> str:
    """What is wrong with `out` and `lse`, empty where nothing is."""
    out, lse = expected(tensors, softmax_scale)
    return cases.mismatch(tensors["q"].dtype, tensors["out"], out, tensors["lse"], lse)
