"""What the articles say of the algebra, tried on small random matrices in float64."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TOKENS, RANK, WIDTH = 64, 8, 32
"""Sizes of the trial: a latent of `RANK`, keys of `WIDTH` expanded from it."""


def fold_error() -> float:
    """Relative error of q.(W_UK c) as (W_UK^T q).c, and of W_O (W_UV c) as (W_O W_UV) c, whichever is larger."""
    query, expand, latents, project = _draw((WIDTH,), (WIDTH, RANK), (TOKENS, RANK), (WIDTH, WIDTH))
    keys = latents @ expand.T
    scores = keys @ query
    return max(_error(latents @ (expand.T @ query), scores), _error(latents @ (project @ expand).T, keys @ project.T))


def fold_error_behind_rope() -> float:
    """Relative error of scores whose up-projection was folded into the query although RoPE turns the keys after it."""
    query, expand, latents = _draw((WIDTH,), (WIDTH, RANK), (TOKENS, RANK))
    turned = _rope(latents @ expand.T)
    at_last = _rope(query[None].repeat(TOKENS, axis=0))[-1]
    return _error(latents @ (expand.T @ at_last), turned @ at_last)


def rank_behind_rope() -> float:
    """Rank of the expanded keys after RoPE over their rank before it."""
    expand, latents = _draw((WIDTH, RANK), (TOKENS, RANK))
    return _rank(_rope(latents @ expand.T)) / _rank(latents @ expand.T)


def rank_of_keys_and_values() -> float:
    """Rank of keys and values of all heads side by side, expanded from one latent, over the latent's rank."""
    keys, values, latents = _draw((WIDTH, RANK), (WIDTH, RANK), (TOKENS, RANK))
    import numpy as np

    return _rank(np.hstack([latents @ keys.T, latents @ values.T])) / RANK


def rank_of_update() -> float:
    """Rank of a LoRA update, the product of two thin factors, over the factors' rank."""
    up, down = _draw((WIDTH, RANK), (RANK, WIDTH))
    return _rank(up @ down) / RANK


def rank_beside_frozen_weight() -> float:
    """Rank of a frozen weight with a LoRA update added over the factors' rank."""
    up, down, frozen = _draw((WIDTH, RANK), (RANK, WIDTH), (WIDTH, WIDTH))
    return _rank(frozen + up @ down) / RANK


def low_rank_share(rows: int, columns: int, rank: int) -> float:
    """Elements of two factors over those of their product."""
    return rank * (rows + columns) / (rows * columns)


def _draw(*shapes: tuple[int, ...]) -> "list[np.ndarray]":
    import numpy as np

    random = np.random.default_rng(0)
    return [random.standard_normal(shape) for shape in shapes]


def _rank(matrix: "np.ndarray") -> int:
    import numpy as np

    return int(np.linalg.matrix_rank(matrix))


def _error(value: "np.ndarray", right: "np.ndarray") -> float:
    import numpy as np

    return float(np.linalg.norm(value - right) / np.linalg.norm(right))


def _rope(rows: "np.ndarray") -> "np.ndarray":
    """Each row turned by its position, pairs of columns by falling frequencies."""
    import numpy as np

    half = rows.shape[1] // 2
    angles = np.arange(rows.shape[0])[:, None] * 10_000.0 ** (-np.arange(half) / half)
    first, second = rows[:, :half], rows[:, half:]
    return np.hstack(
        [first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles)]
    )
