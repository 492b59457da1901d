"""Arithmetic on figures that a source itself gives: whether they bear out its words."""

from collections.abc import Sequence

from mlabench.cases.models import load_presets
from mlabench.claims.work import layer_weights


def value(of: float) -> float:
    """A figure as its source gives it."""
    return of


def quotient(of: float, over: float) -> float:
    """One figure over another."""
    return of / over


def total(of: Sequence[float]) -> float:
    """Several figures together."""
    return float(sum(of))


def change(of: float, over: float) -> float:
    """The relative difference of two figures."""
    return of / over - 1


def max_context(of: str) -> float:
    """The longest context that a preset's model takes."""
    return float(load_presets()[of]["max_context"])


def parameters_in_billions(
    of: str, vocabulary: int, dense_layers: int, dense_width: int, experts: int, shared: int, expert_width: int
) -> float:
    """Parameters of a mixture-of-experts model: attention, feed-forward and router of each layer, and embeddings.

    `experts` are the routed ones that count: all of them, or those that a token activates. Norms are left out.
    """
    preset = load_presets()[of]
    hidden, layers = preset["hidden_size"], preset["num_layers"]
    sparse = (layers - dense_layers) * (experts + shared) * 3 * hidden * expert_width
    dense = dense_layers * 3 * hidden * dense_width
    return float(layers * layer_weights(of) + sparse + dense + 2 * vocabulary * hidden) / 1e9
