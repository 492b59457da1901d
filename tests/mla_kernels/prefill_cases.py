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
    return packed(inputs, q_lens, seed)


def mla(
    kv_lens: Sequence[int], q_lens: Sequence[int], num_q_heads=4, kv_lora_rank=32, rope_dim=16, page_size=16,
    dtype=torch.float32, seed=0, device="cpu",
) -> dict[str, Tensor]:  # fmt: skip
    """Tensors of an absorbed MLA prefill case, with poisoned outputs, since only `out` says the kv_lora_rank."""
    inputs = cases.mla(kv_lens, 1, num_q_heads, kv_lora_rank, rope_dim, page_size, dtype, seed, device)
    return cases.with_outputs(packed(inputs, q_lens, seed), kv_lora_rank)


def packed(inputs: dict[str, Tensor], q_lens: Sequence[int], seed=0) -> dict[str, Tensor]:
    """A decode case's inputs with so many queries of each request, one behind the other."""
    q = inputs["q"]
    generator = torch.Generator(q.device).manual_seed(seed + 1000)
    rows = torch.randn(sum(q_lens), *q.shape[2:], generator=generator, device=q.device).to(q.dtype)
    q_starts = torch.tensor([0, *accumulate(q_lens)], dtype=torch.int32, device=q.device)
    return inputs | {"q": rows, "q_starts": q_starts}


def with_outputs(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of a grouped case with poisoned `out` and `lse`."""
    return cases.with_outputs(inputs, inputs["v_cache"].shape[3])


def as_grouped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Absorbed MLA as the MQA that it is, the values a part of the keys; other tensors as they are."""
    if "kv_cache" not in tensors:
        return tensors
    k_cache = tensors["kv_cache"].unsqueeze(2)
    return tensors | {"k_cache": k_cache, "v_cache": k_cache[..., : tensors["out"].shape[2]]}


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
    """What is wrong with poisoned `out` and `lse` after a call, empty where nothing is.

    Rows past the last request's must be left as they were.
    """
    used = int(tensors["q_starts"][-1])
    if not all(bool(tensors[name][used:].isnan().all()) for name in ("out", "lse")):
        return "rows past the last request's were written"
    out, lse = (each[:used] for each in expected(as_grouped(tensors), softmax_scale))
    return cases.mismatch(tensors["q"].dtype, tensors["out"][:used], out, tensors["lse"][:used], lse)
