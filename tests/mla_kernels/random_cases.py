"""Seeded random cases of MLA decode: shapes that are compiled, and batches to run each with."""

import random
from dataclasses import dataclass

import torch

from tests.mla_kernels import cases

SHAPES = 60
BATCHES = 5
"""Of each shape."""

MOST_ROWS = 40_000
"""Output rows of a batch: batch x q_len x num_q_heads."""

MOST_TOKENS = 150_000
"""Cached tokens of a batch."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a kernel is compiled for; kernels tell batches apart by the power of two that they lie under."""

    num_q_heads: int
    q_len: int
    page_size: int
    dtype: torch.dtype
    kv_lora_rank: int
    rope_dim: int
    largest_batch: int
    batch_invariant: bool
    seed: int

    def __str__(self) -> str:
        form = " invariant" if self.batch_invariant else ""
        return (
            f"{self.num_q_heads} heads, {self.q_len} queries, page {self.page_size}, {str(self.dtype)[6:]}, "
            f"{self.kv_lora_rank}+{self.rope_dim}, batch {self.largest_batch}{form}"
        )


def shapes() -> list[Shape]:
    """The same SHAPES shapes in every process."""
    return [_shape(random.Random(seed), seed) for seed in range(SHAPES)]


def _shape(draw: random.Random, seed: int) -> Shape:
    num_q_heads = draw.choice((draw.randint(1, 128), draw.choice((16, 20, 40, 64, 96, 128))))
    q_len = draw.choice((1, 1, 2, draw.randint(2, 8)))
    ranks, pages = ((512, 64), (512, 32), (256, 64), (256, 32)), (1, 16, 32, 64, 128)
    sizes = [batch for batch in (1, 2, 4, 8, 16, 32, 64, 128, 200) if batch * num_q_heads * q_len <= MOST_ROWS]
    # half of the shapes are for the two Gluon kernels, the rest as it comes
    if seed % 4 == 1:
        num_q_heads = draw.choice((draw.randint(1, 16), 16))
        q_len = draw.randint(1, min(8, 16 // num_q_heads))
        ranks, pages = ((512, 64),), (16, 32, 64, 128)
    elif seed % 4 == 3:
        num_q_heads = draw.choice((draw.randint(17, 128), draw.choice((20, 40, 64, 96, 128))))
        ranks, pages = ((512, 64),), (16, 32, 64, 128)
        sizes = draw.choice((sizes, sizes[:2]))
    kv_lora_rank, rope_dim = draw.choice(ranks)
    return Shape(
        num_q_heads,
        q_len,
        page_size=draw.choice(pages),
        dtype=draw.choice((torch.bfloat16, torch.float16)),
        kv_lora_rank=kv_lora_rank,
        rope_dim=rope_dim,
        largest_batch=draw.choice(sizes),
        batch_invariant=draw.random() < 0.3,
        seed=seed,
    )


def batches(shape: Shape, device: str) -> list[dict[str, torch.Tensor]]:
    """Tensors of BATCHES batches of a shape, without outputs."""
    return [_batch(random.Random(f"{shape.seed} {number}"), shape, device) for number in range(BATCHES)]


def lengths(shape: Shape) -> list[list[int]]:
    """The cached tokens of each request of each batch; heavy-tailed, some zero."""
    return [_lengths(random.Random(f"{shape.seed} {number}"), shape) for number in range(BATCHES)]


def _batch(draw: random.Random, shape: Shape, device: str) -> dict[str, torch.Tensor]:
    inputs = cases.mla(
        _lengths(draw, shape), shape.q_len, shape.num_q_heads, shape.kv_lora_rank, shape.rope_dim, shape.page_size,
        shape.dtype, draw.getrandbits(30), device,
    )  # fmt: skip
    # from nearly the mean of all tokens to nearly one of them
    inputs["q"] *= draw.choice((0.1, 1.0, 1.0, 4.0))
    return inputs


def _lengths(draw: random.Random, shape: Shape) -> list[int]:
    below = 1 << (shape.largest_batch - 1).bit_length() >> 1
    batch = draw.randint(min(below + 1, shape.largest_batch), shape.largest_batch)
    scale = 10 + 1000 // batch
    lens = [min(60_000, int(scale * draw.paretovariate(0.4))) * (draw.random() > 0.1) for _ in range(batch)]
    return [kv_len * MOST_TOKENS // max(MOST_TOKENS, sum(lens)) for kv_len in lens]
