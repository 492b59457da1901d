"""What becomes MLA without training, in float64: GQA by selectors exactly, projections by a truncated SVD nearly.

Sources: TransMLA (arXiv 2502.07864) for the selectors; Eckart and Young (Psychometrika 1, 1936) for the truncation.
"""

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from mlabench.claims.forms import Step, absorbed
from mlabench.claims.matrices import draw, relative_error, turned

if TYPE_CHECKING:
    import numpy as np

HIDDEN_SIZE, NUM_Q_HEADS, NUM_KV_HEADS, HEAD_DIM, KV_LEN = 48, 8, 2, 12, 40
SPECTRUM = 57
"""Singular values of the projection that is truncated; few enough that no library splits the work over threads."""


def gqa_as_mla_error() -> float:
    """Relative difference of GQA's output, without RoPE, from that of absorbed MLA over the same cached elements."""
    step, keys, values = _gqa()
    return relative_error(absorbed(step), grouped(step.query @ step.hidden, keys, values, step.output))


def gqa_as_mla_error_behind_rope() -> float:
    """The same where RoPE turns GQA's query and keys, while MLA has the turned query and selectors of unturned keys."""
    step, keys, values = _gqa()
    at_last = turned(step.query.swapaxes(1, 2)[None], first=KV_LEN - 1)[0].swapaxes(1, 2)
    right = grouped(at_last @ step.hidden, turned(keys), values, step.output)
    return relative_error(absorbed(replace(step, query=at_last)), right)


def gqa_as_mla_cache() -> float:
    """Elements of the latents over those of GQA's keys and values."""
    step, keys, values = _gqa()
    return (step.latents.size + step.rope_keys.size) / (keys.size + values.size)


def grouped(query: "np.ndarray", keys: "np.ndarray", values: "np.ndarray", output: "np.ndarray") -> "np.ndarray":
    """GQA's output [d], head by head: query [h, n], keys and values [t, g, n], output [d, h, n]."""
    import numpy as np

    per_group, total = len(query) // keys.shape[1], np.zeros(len(output))
    for head, own in enumerate(query):
        group = head // per_group
        weights = np.exp(keys[:, group] @ own * own.size**-0.5)
        total += output[:, head] @ (weights @ values[:, group] / weights.sum())
    return total


def truncation_error(share: float, fall: float) -> float:
    """Relative error of keys and values whose projection was truncated to a share of its rank.

    Each singular value is `fall` times the one before; 1 is a flat spectrum, the worst there is.
    """
    return _truncated(round(share * SPECTRUM), fall)


def predicted_truncation_error(share: float, fall: float) -> float:
    """What the truncated values hold of the spectrum's energy, as a relative error."""
    return _tail(round(share * SPECTRUM), fall)


def truncation_surprise(fall: float) -> float:
    """Largest difference between the error and its prediction, over every rank."""
    return max(abs(_truncated(rank, fall) - _tail(rank, fall)) for rank in range(1, SPECTRUM + 1))


def _gqa() -> "tuple[Step, np.ndarray, np.ndarray]":
    """GQA's keys and values [t, g, n], and the MLA step that has them side by side as its latents.

    Each head's up-projections select those of its group: an identity among zeros.
    """
    import numpy as np

    groups, heads, width = NUM_KV_HEADS, NUM_Q_HEADS, HEAD_DIM
    cached = (KV_LEN, groups, width)
    hidden, query, keys, values, output = draw(
        (HIDDEN_SIZE,), (heads, width, HIDDEN_SIZE), cached, cached, (HIDDEN_SIZE, heads, width)
    )
    latents = np.concatenate([keys, values], axis=1).reshape(KV_LEN, -1)
    blocks = np.eye(latents.shape[1]).reshape(2, groups, width, -1)
    key_up, value_up = np.repeat(blocks, heads // groups, axis=1)
    no_query_rope, no_rope_keys = np.zeros((heads, 0)), np.zeros((KV_LEN, 0))
    query = query / HIDDEN_SIZE**0.5
    return Step(hidden, query, no_query_rope, latents, no_rope_keys, key_up, value_up, output), keys, values


def _truncated(rank: int, fall: float) -> float:
    """The error of orthonormal tokens' keys and values, expanded from latents of so high a rank."""
    tokens, projection, up, down = _factors(fall)
    latents = tokens @ down[:rank].T
    return relative_error(latents @ up[:, :rank].T, tokens @ projection.T)


@cache
def _factors(fall: float) -> "tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]":
    """Tokens, a projection of them with this spectrum, and the two factors into which a SVD splits it."""
    import numpy as np

    left, right, tokens = (np.linalg.qr(one).Q for one in draw(*[(SPECTRUM, SPECTRUM)] * 3))
    projection = left * _spectrum(fall) @ right.T
    up, values, down = np.linalg.svd(projection)
    return tokens, projection, up * values, down


def _tail(rank: int, fall: float) -> float:
    energy = _spectrum(fall) ** 2
    return float((energy[rank:].sum() / energy.sum()) ** 0.5)


def _spectrum(fall: float) -> "np.ndarray":
    import numpy as np

    return fall ** np.arange(SPECTRUM, dtype=np.float64)
