"""Small random matrices in float64, and what the trials of a claim's algebra ask of them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ROPE_BASE = 10_000.0


def draw(*shapes: tuple[int, ...]) -> "list[np.ndarray]":
    """Matrices of these shapes, the same ones at every call."""
    import numpy as np

    random = np.random.default_rng(0)
    return [random.standard_normal(shape) for shape in shapes]


def rank_of(matrix: "np.ndarray") -> int:
    """Numerical rank."""
    import numpy as np

    return int(np.linalg.matrix_rank(matrix))


def relative_error(value: "np.ndarray", right: "np.ndarray") -> float:
    """Norm of the difference over that of the right one."""
    import numpy as np

    return float(np.linalg.norm(value - right) / np.linalg.norm(right))


def turned(rows: "np.ndarray", first: int = 0) -> "np.ndarray":
    """The last axis turned by RoPE: position `first` at the start of the first axis, pairs by falling frequencies."""
    import numpy as np

    half = rows.shape[-1] // 2
    positions = np.arange(first, first + len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
    angles = positions * ROPE_BASE ** (-np.arange(half) / half)
    left, right = rows[..., :half], rows[..., half:]
    return np.concatenate(
        [left * np.cos(angles) - right * np.sin(angles), left * np.sin(angles) + right * np.cos(angles)], axis=-1
    )
