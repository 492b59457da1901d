"""Seeded random cases of grouped prefill: shapes that are compiled, and batches to run each with."""

import random
from dataclasses import dataclass

import torch

from tests.mla_kernels import prefill_cases

SHAPES = 24
BATCHES = 3
"""Of each shape."""

MOST_QUERIES = 6_000
"""Of a batch; those of a request see at most MOST_TOKENS tokens."""

MOST_TOKENS = 12_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What a kernel is compiled for; kernels tell batches apart by the power of two that they lie under."""

    num_q_heads: int
    num_kv_heads: int
    dims: tuple[int, int]
    page_size: int
    dtype: torch.dtype
    largest_batch: int
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.num_q_heads} heads on {self.num_kv_heads}, {self.dims[0]} with {self.dims[1]}, page "
            f"{self.page_size}, {str(self.dtype)[6:]}, batch {self.largest_batch}"
        )


def shapes() -> list[Shape]:
    """The same SHAPES shapes in every process."""
    return [_shape(random.Random(seed), seed) for seed in range(SHAPES)]


def _shape(draw: random.Random, seed: int) -> Shape:
    num_kv_heads = draw.choice((1, 1, 2, 3, 8))
    # three in four are for the Gluon kernel, as far as they have queries enough
    plain = seed % 4 == 0
    return Shape(
        num_q_heads=num_kv_heads * draw.choice((1, 2, 4, 5)),
        num_kv_heads=num_kv_heads,
        dims=draw.choice(((128, 128), (192, 128), (64, 64), *(((96, 96), (256, 256)) if plain else ()))),
        page_size=draw.choice((1, 24) if plain else (16, 32, 64, 128, 256, 384)),
        dtype=draw.choice((torch.bfloat16, torch.float16)),
        largest_batch=draw.choice((1, 2, 5, 16, 60, 200)),
        seed=seed,
    )


def lengths(shape: Shape) -> list[tuple[list[int], list[int]]]:
    """Tokens and new tokens of each request of each batch; heavy-tailed, some zero, some with more queries than
    tokens."""
    return [_lengths(random.Random(f"{shape.seed} {number}"), shape) for number in range(BATCHES)]


def batches(shape: Shape, device: str) -> list[dict[str, torch.Tensor]]:
    """Tensors of BATCHES batches of a shape, without outputs; q has rows that are no request's."""
    return [_batch(shape, number, *lens, device) for number, lens in enumerate(lengths(shape))]


def _batch(shape: Shape, number: int, kv_lens: list[int], q_lens: list[int], device: str) -> dict[str, torch.Tensor]:
    heads = shape.num_q_heads, shape.num_kv_heads
    draw = random.Random(f"tensors {shape.seed} {number}")
    inputs = prefill_cases.grouped(
        kv_lens, q_lens, *heads, *shape.dims, shape.page_size, shape.dtype, draw.getrandbits(30), device
    )
    spare = draw.choice((0, 0, 1, 100))
    # from nearly the mean of all tokens to nearly one of them
    q = inputs["q"] * draw.choice((0.1, 1.0, 1.0, 4.0))
    return inputs | {"q": torch.cat([q, torch.full_like(q[:1], torch.nan).expand(spare, -1, -1)])}


def _lengths(draw: random.Random, shape: Shape) -> tuple[list[int], list[int]]:
    below = 1 << (shape.largest_batch - 1).bit_length() >> 1
    batch = draw.randint(min(below + 1, shape.largest_batch), shape.largest_batch)
    most = MOST_QUERIES // batch
    q_lens = [min(most, int((1 + most / 8) * draw.paretovariate(0.8))) * (draw.random() > 0.1) for _ in range(batch)]
    q_lens[0] = max(1, q_lens[0])
    prefixes = [int(draw.choice((0, 0, 1, 100)) * draw.paretovariate(0.5)) for _ in q_lens]
    kv_lens = [min(MOST_TOKENS, q_len + prefix) for q_len, prefix in zip(q_lens, prefixes, strict=True)]
    if draw.random() < 0.3:
        # its first queries see nothing
        kv_lens[-1] = q_lens[-1] // 2
    return kv_lens, q_lens
