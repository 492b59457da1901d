"""A model's weights: their bytes, what a GPU holds of them, and what a step reads and calculates with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from mlabench.cases.case import Case
from mlabench.cases.grid import DEFAULT_SHAPE
from mlabench.errors import UsageError, near_names
from mlabench.predict.presets import Model

PARAMETER_BYTES: Mapping[str, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "float8": 1.0,
    "mxfp4": 4.25 / 8,
    "int4": 0.5,
}
"""Bytes of a parameter; mxfp4 shares a byte of scale among 32 (OCP Microscaling Formats 1.0, section 5.4)."""

DEFAULT_WEIGHT_DTYPE = "bfloat16"


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of all weights and of those around attention, and how many parameters there are, as far as it is known.

    `active_share` is that of the parameters that one token uses: 1 unless the model is a mixture of experts.
    """

    num_bytes: float
    num_parameters: float | None
    active_share: float
    attention_bytes: float | None

    def bytes_per_gpu(self, tp: int, dp: int) -> float:
        """What each of `tp * dp` GPUs holds: attention's weights once a replica, all others once.

        Raises `UsageError` where attention's weights are not known and there are replicas.
        """
        if dp == 1:
            return self.num_bytes / tp
        if self.attention_bytes is None:
            raise UsageError("--dp needs the weights of attention: give the model a hidden_size and num_parameters")
        return (self.num_bytes - self.attention_bytes) / (tp * dp) + self.attention_bytes / tp

    def bytes_read_per_gpu(self, tp: int, dp: int, tokens: int) -> float:
        """What each of `tp * dp` GPUs reads in a step of so many tokens: attention's weights, and all others.

        In a mixture of experts fewer of the others: each token is taken to draw its share of them evenly, so that of
        those a step reads 1 - (1 - share) ** tokens. One that nobody draws is not read.
        """
        active_bytes = self.num_bytes * self.active_share
        attention_bytes = min(self.attention_bytes or 0.0, active_bytes)
        other_bytes = self.num_bytes - attention_bytes
        share = (active_bytes - attention_bytes) / other_bytes if other_bytes else 0.0
        return attention_bytes / tp + other_bytes / (tp * dp) * (1 - (1 - share) ** tokens)

    def flops(self, tokens: int) -> float:
        """FLOP of a step with the weights, two per multiply-add; 0 where nobody says how many parameters there are."""
        return 2 * (self.num_parameters or 0) * self.active_share * tokens


def weights_of(model: Model, weights_gb: float | None = None, weight_dtype: str | None = None) -> Weights:
    """The weights of a model; given bytes (in 10**9) or a dtype take the place of the preset's.

    Raises `UsageError` where neither the preset nor the options say how many bytes they are.
    """
    if weights_gb is None and model.num_parameters is None:
        raise UsageError(f"model {model.name} gives no num_parameters: add --weights-gb, as in --weights-gb 16")
    dtype = weight_dtype or model.weight_dtype or DEFAULT_WEIGHT_DTYPE
    if dtype not in PARAMETER_BYTES:
        raise UsageError(f"unknown weights dtype {dtype!r}: {near_names(dtype, PARAMETER_BYTES)}")
    parameters = model.num_parameters
    num_bytes = weights_gb * 1e9 if weights_gb is not None else (parameters or 0) * PARAMETER_BYTES[dtype]
    per_parameter = num_bytes / parameters if parameters else PARAMETER_BYTES[dtype]
    of_attention = _attention_parameters(model)
    attention_bytes = None if of_attention is None else min(of_attention * per_parameter, num_bytes)
    active = model.num_active_parameters
    return Weights(num_bytes, parameters, active / parameters if active and parameters else 1.0, attention_bytes)


def _attention_parameters(model: Model) -> int | None:
    """Parameters of the model's own attention layers, projections included; None without a `hidden_size`."""
    hidden_size = model.shape.get("hidden_size")
    if hidden_size is None or model.stack is None:
        return None
    variant = Case.from_fields({**DEFAULT_SHAPE, **model.shape}).variant
    shapes = variant.layer_dims(hidden_size, model.shape.get("q_lora_rank")).weight_shapes
    layers = model.stack.full_layers + model.stack.window_layers + model.stack.shared_layers
    return layers * sum(prod(shape) for shape in shapes.values())
