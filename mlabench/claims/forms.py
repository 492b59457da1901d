"""One decode step of a small MLA layer in each of its forms, in float64: what is the same, and to which digit.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1 and appendix C.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlabench.claims.matrices import draw, relative_error, turned

if TYPE_CHECKING:
    import numpy as np

HIDDEN_SIZE, NUM_Q_HEADS, KV_LORA_RANK, KV_LEN = 48, 6, 16, 40
QK_NOPE_HEAD_DIM, QK_ROPE_HEAD_DIM, V_HEAD_DIM = 12, 8, 10
FAR = 1000
"""Positions by which a request is moved, to try whether only distances count."""


@dataclass(frozen=True, slots=True)
class Step:
    """A new token's hidden state, the cache and the weights; letters are hidden, head, rank, nope, rope, value, token.

    The cached RoPE keys and `query_rope` are turned by their positions already.
    """

    hidden: "np.ndarray"  # [d]
    query: "np.ndarray"  # [h, n, d]
    query_rope: "np.ndarray"  # [h, r]
    latents: "np.ndarray"  # [t, c]
    rope_keys: "np.ndarray"  # [t, r]
    key_up: "np.ndarray"  # [h, n, c]
    value_up: "np.ndarray"  # [h, v, c]
    output: "np.ndarray"  # [d, h, v]


def make_step(first: int = 0) -> Step:
    """A step whose first cached token has position `first`; its random values are the same at every call."""
    heads, rank, rope = NUM_Q_HEADS, KV_LORA_RANK, QK_ROPE_HEAD_DIM
    shapes = {
        "hidden": (HIDDEN_SIZE,),
        "query": (heads, QK_NOPE_HEAD_DIM, HIDDEN_SIZE),
        "query_rope": (heads, rope),
        "latents": (KV_LEN, rank),
        "rope_keys": (KV_LEN, rope),
        "key_up": (heads, QK_NOPE_HEAD_DIM, rank),
        "value_up": (heads, V_HEAD_DIM, rank),
        "output": (HIDDEN_SIZE, heads, V_HEAD_DIM),
    }
    step = Step(*draw(*shapes.values()))
    return replace(
        step,
        # as a trained layer's, so that no token takes all the weight
        query=step.query / HIDDEN_SIZE**0.5,
        key_up=step.key_up / rank**0.5,
        query_rope=turned(step.query_rope[None], first + KV_LEN - 1)[0],
        rope_keys=turned(step.rope_keys, first),
    )


def expanded(step: Step) -> "np.ndarray":
    """The layer's output [d] with keys and values of every head expanded from the latents."""
    import numpy as np

    query = step.query @ step.hidden
    keys = np.einsum("tc,hnc->htn", step.latents, step.key_up)
    values = np.einsum("tc,hvc->htv", step.latents, step.value_up)
    weights = _weights_of(np.einsum("hn,htn->ht", query, keys), step)
    heads = np.einsum("ht,htv->hv", weights, values)
    return _projected(heads, step.output)


def absorbed(step: Step) -> "np.ndarray":
    """The same in latent space: W_UK is applied to the query, W_UV to what the latents were summed to."""
    import numpy as np

    query = np.einsum("hn,hnc->hc", step.query @ step.hidden, step.key_up)
    summed = _weights_of(query @ step.latents.T, step) @ step.latents
    return _projected(np.einsum("hvc,hc->hv", step.value_up, summed), step.output)


def premultiplied(step: Step) -> "np.ndarray":
    """The same with W_UQ W_UK and W_O W_UV as one matrix each."""
    import numpy as np

    query = np.einsum("hnd,hnc->hcd", step.query, step.key_up)
    output = np.einsum("dhv,hvc->dhc", step.output, step.value_up)
    summed = _weights_of((query @ step.hidden) @ step.latents.T, step) @ step.latents
    return _projected(summed, output)


def absorbed_error() -> float:
    """Relative difference of the absorbed form's output from the expanded form's."""
    step = make_step()
    return relative_error(absorbed(step), expanded(step))


def premultiplied_error() -> float:
    """Relative difference of the premultiplied form's output from the expanded form's."""
    step = make_step()
    return relative_error(premultiplied(step), expanded(step))


def shift_error() -> float:
    """Relative difference that it makes to the absorbed form where a request starts, `FAR` tokens on."""
    return relative_error(absorbed(make_step(FAR)), absorbed(make_step()))


def _projected(heads: "np.ndarray", output: "np.ndarray") -> "np.ndarray":
    """The heads' results [h, x] through an output projection [d, h, x]."""
    import numpy as np

    return np.tensordot(output, heads, axes=2)


def _weights_of(scores: "np.ndarray", step: Step) -> "np.ndarray":
    """Softmax [h, t] of the scores without RoPE and those of the RoPE key together."""
    import numpy as np

    scale = (step.query.shape[1] + step.query_rope.shape[1]) ** -0.5
    together = scale * (scores + step.query_rope @ step.rope_keys.T)
    powers = np.exp(together - together.max(axis=1, keepdims=True))
    weights: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return weights
