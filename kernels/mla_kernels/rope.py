"""Rotary position embedding: pairs of columns turned by an angle that grows with the position.

Column pair `i` of `rope_dim` columns turns by `position * theta ** (-2 i / rope_dim)`. Two ways to pair are in use:
interleaved (columns `2 i` and `2 i + 1`; DeepSeek's weights) and half-split (columns `i` and `i + rope_dim / 2`;
Llama's, as published for transformers). They differ by an order of columns, which a model's weights carry.

Sources: Su et al., "RoFormer" (arXiv 2104.09864), section 3.2; decoupled RoPE: DeepSeek-V2 (arXiv 2405.04434), section
2.1.3. Scaling for long contexts (YaRN) changes the frequencies, not the work, and is not done here.
"""

import torch
from torch import Tensor

THETA = 10_000.0


def inverse_frequencies(rope_dim: int, theta: float = THETA) -> Tensor:
    """Radians that a step of one position turns each column pair by: float64 `[rope_dim / 2]`.

    Raises ValueError for an odd `rope_dim`.
    """
    if rope_dim % 2:
        raise ValueError(f"rope_dim {rope_dim} is odd: columns are turned in pairs")
    return theta ** (-torch.arange(0, rope_dim, 2, dtype=torch.float64) / rope_dim)


def rope_table(
    num_positions: int, rope_dim: int, theta: float = THETA, dtype: torch.dtype = torch.complex64, device="cpu"
) -> Tensor:
    """What `rotate` multiplies pairs by: `cos + i sin`, complex `[num_positions, rope_dim / 2]`.

    Angles are float64 whatever `dtype`, since float32 is wrong by a hundredth of a radian at position 100,000.
    """
    angles = torch.outer(torch.arange(num_positions, dtype=torch.float64), inverse_frequencies(rope_dim, theta))
    return torch.polar(torch.ones_like(angles), angles).to(device, dtype)


def rotate(x: Tensor, positions: Tensor, table: Tensor, interleaved: bool = True, out: Tensor | None = None) -> Tensor:
    """`x [tokens, heads, rope_dim]` turned by the table's rows at integer `positions [tokens]`, written to `out`.

    `x` and `out` may be views that are not contiguous, and `out` may be `x`; without `out` a new tensor is made. The
    arithmetic is the table's (float32 for complex64), rounded once to the dtype of `out`.
    """
    result: Tensor = torch.empty_like(x) if out is None else out
    pairs = _pairs(x, interleaved).to(table.dtype.to_real()).contiguous()
    turned = torch.view_as_complex(pairs) * table[positions][:, None]
    _pairs(result, interleaved).copy_(torch.view_as_real(turned))
    return result


def _pairs(x: Tensor, interleaved: bool) -> Tensor:
    """The column pairs as a view `[..., rope_dim / 2, 2]`."""
    pairs: Tensor = x.unflatten(-1, (-1, 2)) if interleaved else x.unflatten(-1, (2, -1)).transpose(-1, -2)
    return pairs
