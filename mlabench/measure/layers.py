"""Cases of scope `layer`: their weights, the kernel bound between the parts, the reference, and each part's time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mlabench.cases.case import Case
from mlabench.cases.tensors import HIDDEN, ROPE_TABLE
from mlabench.measure.check import Expected, reference
from mlabench.measure.timing.method import Budget, Timer, nothing
from mlabench.records.record import PartTime
from mlabench.stats import median_interval

if TYPE_CHECKING:
    from torch import Tensor

    from mla_kernels.layer import Layer
    from mlabench.measure.kernels import Kernel

LAYER_MODULE = "mla_kernels.layer"
"""What binds a layer's parts around a core."""


def layer_tensors(case: Case, seed: int, device: str) -> "dict[str, Tensor]":
    """The weights, the same for a seed and dimensions in every form, and the rotary table."""
    import torch

    from mla_kernels import mla_layer_torch
    from mla_kernels.layer_parts import weight_shapes
    from mla_kernels.layer_torch import make_weights
    from mla_kernels.rope import rope_table

    dims, form = case.dims, case.variant.form
    weights = make_weights(dims.weight_shapes, getattr(torch, case.dtype), seed, device)
    if form == "premultiplied":
        weights |= mla_layer_torch.premultiply(weights, weights["q_b_proj"].shape[1] - dims.rope_dim)
    table = rope_table(max(case.kv_lens), dims.rope_dim, device=device)
    return {name: weights[name] for name in weight_shapes(dims, form)} | {ROPE_TABLE: torch.view_as_real(table)}


def bind_layer(
    kernel: "Kernel", case: Case, inputs: "Mapping[str, Tensor]", outputs: "Mapping[str, Tensor]"
) -> "Layer":
    """The parts of a layer with the kernel as its core. Raises whatever the kernel raises."""
    from mla_kernels.layer import bind

    return bind(case.variant.form, kernel.load(), {**inputs, **outputs}, case.variant.softmax_scale)


def layer_reference(case: Case, inputs: "Mapping[str, Tensor]") -> Expected:
    """What the layer's output and the caches' new rows must be, in float64.

    A core reads rows that were rounded to the cache's dtype, so that these are put into the caches for the reference of
    the core, and NaN after it.
    """
    import torch

    from mla_kernels import reference_layer

    form, heads = case.variant.form, case.variant.num_q_heads
    positions, slots = _new_tokens(case, inputs["block_table"])
    if form is None:
        q, rows = reference_layer.grouped_before_core(inputs, inputs[HIDDEN], positions, heads)
    else:
        q, rows = reference_layer.mla_before_core(form, inputs, inputs[HIDDEN], positions, heads, case.dims.rope_dim)
    shapes = {spec.name: spec.shape for spec in case.core.specs}
    for name, row in rows.items():
        inputs[name].flatten(0, 1)[slots] = row.to(inputs[name].dtype)
    names = [spec.name for spec in case.core.specs if spec.role in ("kv_cache", "weight", "table")]
    core = reference(case.core, {"q": q.reshape(shapes["q"]), **{name: inputs[name] for name in names}})
    for name in rows:
        inputs[name].flatten(0, 1)[slots] = torch.nan
    output = reference_layer.after_core(form, inputs, core.out.flatten(0, core.out.ndim - 3))
    return Expected(output, None, rows)


def time_parts(timer: Timer, layer: "Layer", case: Case, budget: Budget) -> tuple[PartTime, ...]:
    """The median time of each part as a launch of its own, in order, by the method that timed the whole.

    Together they are sampled no longer than the whole was. Each reads what the one before it left, so that after the
    last the output is what the parts alone made of the input.
    """
    each = replace(budget, max_s=budget.max_s / len(layer.parts))
    times = []
    for part in case.parts:
        timing = timer.measure(layer.parts[part.name], nothing, each)
        latency_us, _, _ = median_interval(timing.samples_us)
        times.append(PartTime(part.name, latency_us, part.weight_bytes, part.flops, part.bytes_moved))
    return tuple(times)


def _new_tokens(case: Case, block_table: "Tensor") -> "tuple[Tensor, Tensor]":
    """Positions and cache slots of the new tokens, packed, from the lengths of the requests."""
    import torch

    positions, slots = [], []
    for request, (new, length) in enumerate(zip(case.q_lens, case.kv_lens, strict=True)):
        position = torch.arange(length - new, length, device=block_table.device)
        pages = block_table[request, position // case.page_size].long()
        positions.append(position)
        slots.append(pages * case.page_size + position % case.page_size)
    return torch.cat(positions), torch.cat(slots)
