"""The check that stands before every latency: outputs against a float64 reference."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from mlabench.cases.case import Case

if TYPE_CHECKING:
    from torch import Tensor

REFERENCES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "grouped": ("grouped_decode", ()),
    "mla_absorbed": ("mla_absorbed_decode", ("kv_lora_rank",)),
    "mla_recompute": ("mla_recompute_decode", ("v_head_dim",)),
    "grouped_prefill": ("grouped_prefill", ()),
    "mla_absorbed_prefill": ("mla_absorbed_prefill", ("kv_lora_rank",)),
    "mla_recompute_prefill": ("mla_recompute_prefill", ("v_head_dim",)),
}
"""For each contract the function of `mla_kernels.reference`, and the sizes it takes beside the tensors."""

RELATIVE_ERROR_LIMITS = {"bfloat16": 4e-3, "float16": 1e-3, "float32": 1e-5}
"""Largest norm of the error over the norm of the reference, by dtype of inputs and output."""

LAYER_LIMIT_FACTOR = 2.5
"""How much larger the limit of a layer's output is: rounded some ten times on its way where a core's is twice, and the
errors of roundings add up in squares."""

ROW_LIMIT_FACTOR = 8
"""One output row (request, query, head) may be this much worse than the whole."""

LSE_ERROR_LIMIT = 2e-5
"""Largest absolute error of the log-sum-exp: rounding in float32, and less than a dropped token makes. Where keys are
expanded from latents they are rounded to the inputs' dtype, and scores of order one with them: there it is the limit of
the relative error."""

NAN_OUT = "not all of the output was written, or an unused cache slot was read"
NAN_LSE = "not all of `lse` was written; a kernel that does not write it says so by writes_lse=False"


@dataclass(frozen=True, slots=True)
class Expected:
    """The float64 reference's output and log-sum-exp; of a layer no log-sum-exp, but the caches' new rows by name."""

    out: "Tensor"
    lse: "Tensor | None"
    rows: "Mapping[str, Tensor]" = field(default_factory=dict)

    def negated(self) -> "Expected":
        """What comes of negated inputs: see `inputs.negate`."""
        return Expected(-self.out, self.lse, {name: -row for name, row in self.rows.items()})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Errors of a kernel's outputs, and in `failure` what is wrong with them; empty where nothing is."""

    relative_error: float
    lse_error: float | None
    failure: str


def reference(case: Case, inputs: Mapping[str, "Tensor"]) -> Expected:
    """What the case's outputs must be, computed in float64 on the inputs' device."""
    name, size_names = REFERENCES[case.contract]
    function = getattr(import_module("mla_kernels.reference"), name)
    sizes = {size: case.variant.sizes()[size] for size in size_names}
    out, lse = function(**inputs, softmax_scale=case.variant.softmax_scale, **sizes)
    return Expected(out, lse)


def point_bytes(case: Case) -> int:
    """Bytes that a point needs at most: the call's tensors and the check's; a kernel's workspace comes on top.

    The check holds at once the reference's float64 outputs with either its temporaries, or these outputs negated and
    the error.
    """
    outputs = 8 * sum(math.prod(spec.shape) for spec in case.specs if spec.role == "output")
    temporaries = _temporary_bytes(case.core) + (_layer_temporary_bytes(case) if case.scope == "layer" else 0)
    return case.memory_bytes + outputs + max(2 * outputs, temporaries)


def _layer_temporary_bytes(case: Case) -> int:
    """Bytes of the float64 copies of a layer's weights and of what its parts hand on, read and written by a product."""
    copies = {"weight": 1, "query": 2, "intermediate": 2, "output": 1}
    return sum(8 * copies.get(spec.role, 0) * math.prod(spec.shape) for spec in case.specs)


def _temporary_bytes(case: Case) -> int:
    """Bytes of the reference's temporaries, which it has for one request at a time."""
    bound = import_module("mla_kernels.reference_memory").temporary_bytes
    shapes = {spec.name: spec.shape for spec in case.specs}
    heads = case.variant.num_q_heads
    expansion = shapes.get("kv_b_proj")
    numbers_per_token = shapes["q"][-1] + (expansion[1] if expansion else shapes["out"][-1])
    kv_heads = heads if expansion else shapes["k_cache"][2] if "k_cache" in shapes else 1
    lengths = set(zip(case.q_lens, case.kv_lens, strict=True))
    return max(int(bound(q_len, kv_len, heads, kv_heads, numbers_per_token)) for q_len, kv_len in lengths)


def check(case: Case, outputs: Mapping[str, "Tensor"], expected: Expected, *, with_lse: bool = True) -> CheckResult:
    """Compare a kernel's outputs with the reference. NaN never passes.

    Of a layer the new rows of the caches are compared too; the error that is told is that of `out`.
    """
    limit = RELATIVE_ERROR_LIMITS[case.dtype] * (LAYER_LIMIT_FACTOR if case.scope == "layer" else 1)
    relative_error, row_error = _errors(outputs["out"], expected.out)
    lse_error = None
    if with_lse and expected.lse is not None:
        lse_error = _lse_error(outputs["lse"].double(), expected.lse)
    lse_limit = max(LSE_ERROR_LIMIT, limit) if case.variant.form == "recompute" else LSE_ERROR_LIMIT
    failure = _failure(case.dtype, limit, relative_error, row_error, lse_error, lse_limit)
    for name, row in expected.rows.items():
        if not failure and (wrong := _failure(case.dtype, limit, *_errors(outputs[name], row))):
            failure = f"new rows of {name}: {wrong}"
    return CheckResult(relative_error, lse_error, failure)


def _errors(output: "Tensor", expected: "Tensor") -> tuple[float, float]:
    """The relative error of the whole, and of the worst row."""
    error = output - expected  # in float64, as the reference is
    relative_error = float(error.norm() / expected.norm().clamp_min(1e-30))
    return relative_error, float((error.norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-30)).max())


def _lse_error(lse: "Tensor", expected: "Tensor") -> float:
    same_infinity = (lse == expected) & expected.isinf()
    return float((lse - expected).abs().masked_fill(same_infinity, 0).max())


def _failure(
    dtype: str,
    limit: float,
    relative_error: float,
    row_error: float,
    lse_error: float | None = None,
    lse_limit: float = LSE_ERROR_LIMIT,
) -> str:
    for name, value, most, why_nan in (
        ("relative error", relative_error, limit, NAN_OUT),
        ("relative error of the worst row", row_error, ROW_LIMIT_FACTOR * limit, NAN_OUT),
        ("log-sum-exp error", 0.0 if lse_error is None else lse_error, lse_limit, NAN_LSE),
    ):
        if math.isnan(value):
            return f"{name} is NaN: {why_nan}"
        if not value <= most:
            return f"{name} {value:.2g} is over {most:.2g} for {dtype}"
    return ""
