"""What scope `layer` adds to a case: the tensors around its core, and what its parts cost.

`mla_kernels.layer_parts` says what a layer is made of. This module is imported for layers alone, so that a core needs
nothing of the kernels' package; and once, so that a case stays the same beside kernels of another commit.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mla_kernels.layer_parts import (
    GroupedDims,
    MlaDims,
    Part,
    handed_on,
    parts_around,
    runs_after_core,
    weight_shapes,
)
from mlabench.cases.tensors import CORE_PART, DTYPE_BYTES, HIDDEN, OUTPUT, ROPE_TABLE, TensorSpec
from mlabench.cases.variant import Variant
from mlabench.errors import UsageError

if TYPE_CHECKING:
    from mlabench.cases.case import Case

__all__ = ["Dims", "GroupedDims", "MlaDims", "Part", "check_layer", "layer_costs", "layer_specs"]

Dims = MlaDims | GroupedDims


def check_layer(variant: Variant, hidden_size: int | None, q_lora_rank: int | None) -> None:
    """Raise `UsageError` where a layer around this variant lacks a dimension or cannot be turned by RoPE."""
    if hidden_size is None:
        raise UsageError("scope=layer needs the model's hidden_size: add --model deepseek-v3, or -a hidden_size=7168")
    rope_dim = variant.layer_dims(hidden_size, q_lora_rank).rope_dim
    if rope_dim % 2:
        name = "head_dim" if variant.form is None else "qk_rope_head_dim"
        raise UsageError(f"{name}={rope_dim} is odd: in a layer RoPE turns columns in pairs, so take an even one")


def layer_specs(core: "Case", dims: Dims, form: str | None) -> tuple[TensorSpec, ...]:
    """Every tensor of one call of a layer around this core.

    The core's own query and results are intermediate here, and so is what the parts hand on.
    """
    tokens, dtype, specs = core.new_tokens, core.dtype, core.specs
    inner = [_intermediate(spec.name, spec.shape, spec.dtype) for spec in specs if spec.role in ("query", "output")]
    between = [_intermediate(name, (tokens, *shape), dtype) for name, shape in handed_on(dims, form).items()]
    return (
        TensorSpec(HIDDEN, (tokens, dims.hidden_size), dtype, "query"),
        *(spec for spec in specs if spec.role in ("kv_cache", "table")),
        *(TensorSpec(name, shape, dtype, "weight") for name, shape in weight_shapes(dims, form).items()),
        TensorSpec(ROPE_TABLE, (max(core.kv_lens), dims.rope_dim // 2, 2), "float32", "table"),
        *inner,
        *between,
        TensorSpec(OUTPUT, (tokens, dims.hidden_size), dtype, "output"),
    )


def layer_costs(core: "Case", dims: Dims, form: str | None) -> tuple[Part, ...]:
    """What each part of a layer around this core costs, the core among them, in the order in which they run."""
    around = parts_around(dims, form, core.new_tokens, DTYPE_BYTES[core.dtype])
    before: Sequence[Part] = [part for part in around if not runs_after_core(part.name)]
    weight_bytes = sum(spec.nbytes for spec in core.specs if spec.role == "weight")
    own = Part(CORE_PART, weight_bytes, core.flops, core.bytes_moved)
    return (*before, own, *around[len(before) :])


def _intermediate(name: str, shape: tuple[int, ...], dtype: str) -> TensorSpec:
    return TensorSpec(name, shape, dtype, "intermediate")
