"""One block of the cache in an attention kernel: scores, online softmax, weighted values; shared by the Triton kernels.

Source: Milakov and Gimelshein (arXiv 1805.02867) for the running maximum and sum; kernels/README.md has the formulas.
With SWAP the tokens are the M of both matrix products, and every tile is transposed.
"""

import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634

MAX_SHARED_BYTES = 232_448
"""Shared memory that one program can have on compute capability 9.0."""


def max_shared_bytes(device: torch.device) -> int:
    """Shared memory that one program can have on the device; compute capability 9.0's where there is no GPU."""
    if device.type != "cuda":
        return MAX_SHARED_BYTES
    limit: int = torch.cuda.get_device_properties(device).shared_memory_per_block_optin  # type: ignore[attr-defined]
    return limit


def has_tma(device: torch.device) -> bool:
    """Whether the device has TMA, without which Triton copies what a descriptor names in ways that spill; as compute
    capability 9.0 where there is no GPU."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] >= 9


@triton.jit
def scores(q, k, SWAP: tl.constexpr, PRECISION: tl.constexpr):
    """q k^T as [M, N], or k q^T as [N, M] when tokens are the M of the product."""
    return tl.dot(k if SWAP else q, tl.trans(q if SWAP else k), input_precision=PRECISION)


@triton.jit
def accumulate(p, v, acc, SWAP: tl.constexpr, PRECISION: tl.constexpr):
    """acc + p v as [M, V], or acc + v^T p as [V, M] when tokens are the M of the scores."""
    return tl.dot(tl.trans(v) if SWAP else p, p if SWAP else v, acc, input_precision=PRECISION)


@triton.jit
def _softmax_step(s, m, row_sum, TOKENS: tl.constexpr):
    """One online-softmax step: new maximum, the factor for what came before, the weights, and their running sum."""
    m_new = tl.maximum(m, tl.max(s, TOKENS))  # [M]
    fade = tl.exp2(m - m_new)
    p = tl.exp2(s - tl.expand_dims(m_new, TOKENS))
    # the sum stays a tile, so that only the maximum crosses threads
    return m_new, fade, p, row_sum * tl.expand_dims(fade, TOKENS) + p


@triton.jit
def weigh_scores(s, m, row_sum, values, always, TOKENS: tl.constexpr, UNCHAIN: tl.constexpr):
    """One online-softmax step whose weights come in the values' dtype; `always` is a number above 0 if any token is."""
    if UNCHAIN:
        # Triton lets each warp group compute all scores of a small tile if it sees that they lead to a second
        # product; it does not look through a branch, so one that is always taken halves that work
        fade = tl.full(m.shape, 1.0, tl.float32)
        p = s.to(values.dtype)
        if always > 0:
            m, fade, p32, row_sum = _softmax_step(s, m, row_sum, TOKENS)
            p = p32.to(values.dtype)
    else:
        m, fade, p32, row_sum = _softmax_step(s, m, row_sum, TOKENS)
        p = p32.to(values.dtype)
    return m, fade, p, row_sum
