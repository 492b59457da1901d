"""From specs to tensors: seeded random values in a paged cache, with traps where nothing may be read."""

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlabench.cases.case import Case
from mlabench.cases.tensors import TensorSpec
from mlabench.measure.layers import layer_tensors

if TYPE_CHECKING:
    from torch import Generator, Tensor

UNUSED_PAGE_ID = -(1 << 30)
"""Fills the block table beyond a request's pages; no kernel may follow it."""

FINITE = 100.0
"""Fills unused cache slots for a kernel that cannot take NaN there: far above any used value, so that a leak shows."""


def make_inputs(case: Case, seed: int, device: str) -> dict[str, "Tensor"]:
    """Every tensor that the case reads, by spec name; the same for the same case, seed and device kind.

    Pages lie in random order. Cache slots beyond a request's length hold NaN; see `fill_unused_slots`.
    """
    import torch

    generator = torch.Generator(device=device).manual_seed(int(case.case_id, 16) ^ seed)
    of_layer = layer_tensors(case, seed, device) if case.scope == "layer" else {}
    random = [spec for spec in case.specs if spec.role in ("query", "kv_cache", "weight") and spec.name not in of_layer]
    inputs = {spec.name: _random(spec, generator) for spec in random} | of_layer
    page_ids = torch.randperm(case.num_pages, generator=torch.Generator().manual_seed(seed)).tolist()
    table = torch.full((case.batch, case.max_pages_per_request), UNUSED_PAGE_ID, dtype=torch.int32)
    start = 0
    for request, length in enumerate(case.kv_lens):
        count = math.ceil(length / case.page_size)
        table[request, :count] = torch.tensor(page_ids[start : start + count], dtype=torch.int32)
        start += count
    inputs["block_table"] = table.to(device)
    inputs["kv_lens"] = torch.tensor(case.kv_lens, dtype=torch.int32).to(device)
    if case.phase == "prefill":
        starts = list(itertools.accumulate(case.q_lens, initial=0))
        inputs["q_starts"] = torch.tensor(starts, dtype=torch.int32).to(device)
    fill_unused_slots(case, inputs, math.nan)
    return inputs


def fill_unused_slots(case: Case, inputs: Mapping[str, "Tensor"], value: float) -> None:
    """Set every cache slot behind the last token of its request to a value, as `make_inputs` does with NaN."""
    import torch

    lengths, table = inputs["kv_lens"].tolist(), inputs["block_table"].cpu()
    unused = [
        torch.arange(used, case.page_size) + int(table[request, length // case.page_size]) * case.page_size
        for request, length in enumerate(lengths)
        if (used := length % case.page_size)
    ]
    if unused:
        slots = torch.cat(unused).to(inputs["block_table"].device)
        for spec in case.specs:
            if spec.role == "kv_cache":
                inputs[spec.name].flatten(0, 1).index_fill_(0, slots, value)


def make_outputs(case: Case, device: str) -> dict[str, "Tensor"]:
    """The tensors that a kernel writes, and those that a layer's parts hand on, poisoned."""
    import torch

    outputs = {
        spec.name: torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device=device)
        for spec in case.specs
        if spec.role in ("output", "intermediate")
    }
    poison(outputs)
    return outputs


def poison(*many: Mapping[str, "Tensor"]) -> None:
    """Fill outputs with NaN, so that what a kernel leaves out shows. All that are given have the same names."""
    import torch

    if len(many) == 1:
        for output in many[0].values():
            output.fill_(math.nan)
        return
    # One launch a name: a launch a tensor would put the host behind the device, and its gaps into a timed call.
    for name in many[0]:
        torch._foreach_add_([outputs[name] for outputs in many], math.nan)


def is_poison(outputs: Mapping[str, "Tensor"]) -> bool:
    """Whether nothing was written since `poison`."""
    return all(bool(output.isnan().all()) for output in outputs.values())


def negate(case: Case, inputs: Mapping[str, "Tensor"]) -> None:
    """Change the sign of every query and cached value in place, which changes the sign of the output alone.

    Scores are products of a query with a key and stay; values, and with them the output, turn. It is exact in every
    dtype, and done twice it is nothing. Through a layer it holds as well: projections, norms without an offset and
    rotation are odd functions, and so are the new rows of its caches.
    """
    for spec in case.specs:
        if spec.role in ("query", "kv_cache"):
            inputs[spec.name].neg_()


def _random(spec: TensorSpec, generator: "Generator") -> "Tensor":
    import torch

    tensor = torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device=generator.device)
    # A projection's columns are scaled so that what it expands has the latent's own variance.
    deviation = 1 / math.sqrt(spec.shape[-1]) if spec.role == "weight" else 1.0
    return tensor.normal_(0.0, deviation, generator=generator)
