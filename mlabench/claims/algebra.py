"""What the articles say of the algebra, tried on small random matrices in float64: folding, RoPE and ranks."""

from mlabench.claims.matrices import draw, rank_of, relative_error, turned

TOKENS, RANK, ROPE_WIDTH, WIDTH, HEADS, HEAD_WIDTH = 64, 8, 4, 32, 2, 8
"""Sizes of the trials: a latent of `RANK`, from which keys of `WIDTH` are expanded, or those of `HEADS` heads."""


def fold_error() -> float:
    """Relative error of q.(W_UK c) as (W_UK^T q).c, and of W_O (W_UV c) as (W_O W_UV) c, whichever is larger."""
    query, expand, latents, project = draw((WIDTH,), (WIDTH, RANK), (TOKENS, RANK), (WIDTH, WIDTH))
    keys = latents @ expand.T
    scores = keys @ query
    return max(
        relative_error(latents @ (expand.T @ query), scores),
        relative_error(latents @ (project @ expand).T, keys @ project.T),
    )


def fold_error_behind_rope() -> float:
    """Relative error of scores whose up-projection was folded into the query although RoPE turns the keys after it."""
    query, expand, latents = draw((WIDTH,), (WIDTH, RANK), (TOKENS, RANK))
    at_last = turned(query[None], first=TOKENS - 1)[0]
    return relative_error(latents @ (expand.T @ at_last), turned(latents @ expand.T) @ at_last)


def rank_behind_rope() -> float:
    """Rank of the expanded keys after RoPE over their rank before it."""
    expand, latents = draw((WIDTH, RANK), (TOKENS, RANK))
    return rank_of(turned(latents @ expand.T)) / rank_of(latents @ expand.T)


def rank_of_keys_and_values(rope_key: bool = False) -> float:
    """Joint rank of all heads' keys and values, expanded from one latent, over the width of what is cached.

    With `rope_key` the shared RoPE key stands beside them, and is cached beside the latent.
    """
    import numpy as np

    expand, latents, rope_keys = draw((2 * HEADS * HEAD_WIDTH, RANK), (TOKENS, RANK), (TOKENS, ROPE_WIDTH))
    expanded = latents @ expand.T
    if not rope_key:
        return rank_of(expanded) / RANK
    return rank_of(np.hstack([expanded, turned(rope_keys)])) / (RANK + ROPE_WIDTH)


def rank_of_update() -> float:
    """Rank of a LoRA update, the product of two thin factors, over the factors' rank."""
    up, down = draw((WIDTH, RANK), (RANK, WIDTH))
    return rank_of(up @ down) / RANK


def rank_beside_frozen_weight() -> float:
    """Rank of a frozen weight with a LoRA update added over the factors' rank."""
    up, down, frozen = draw((WIDTH, RANK), (RANK, WIDTH), (WIDTH, WIDTH))
    return rank_of(frozen + up @ down) / RANK


def low_rank_share(rows: int, columns: int, rank: int) -> float:
    """Elements of two factors over those of their product."""
    return rank * (rows + columns) / (rows * columns)
