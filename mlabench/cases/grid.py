"""From axes and model presets to the tuple of cases that a sweep measures."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mlabench.cases.axes import Value
from mlabench.cases.case import Case
from mlabench.cases.models import preset_shape

DEFAULT_SHAPE: Mapping[str, Value] = {
    "variant": "mla",
    "form": "absorbed",
    "batch": 1,
    "q_len": 1,
    "kv_len": 4096,
    "kv_len_dist": "uniform",
    "page_size": 64,
    "dtype": "bfloat16",
    "phase": "decode",
    "scope": "core",
    "num_q_heads": 128,
    "num_kv_heads": 8,
    "head_dim": 128,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
"""A size that neither an axis nor a model gives: DeepSeek-V3's, and GQA-8 with heads of 128.

In prefill `q_len` is `kv_len` unless an axis gives it: whole prompts, nothing of them cached.
"""


def make_cases(axes: Mapping[str, Sequence[Value]], models: Sequence[str] = ()) -> tuple[Case, ...]:
    """Every combination of the axes' values, for each model; each case once, in the axes' order.

    An axis overrides a model's size, and a model's size overrides the default. A case that keeps a model's shape
    carries the model's name. Raises `UsageError` for an unknown model or sizes that do not fit together.
    """
    cases: dict[Case, tuple[str, ...]] = {}
    for model in models or (None,):
        preset = preset_shape(model) if model else {}
        for values in itertools.product(*axes.values()):
            shape: dict[str, Any] = {**DEFAULT_SHAPE, **preset, **dict(zip(axes, values, strict=True))}
            if shape["phase"] == "prefill" and "q_len" not in axes:
                shape["q_len"] = shape["kv_len"]
            case = Case.from_fields(shape)
            own = (model,) if model and _keeps(case, preset) else ()
            cases[case] = tuple(dict.fromkeys((*cases.get(case, ()), *own)))
    return tuple(Case.from_fields(case.to_fields(), models=names) for case, names in cases.items())


def _keeps(case: Case, preset: Mapping[str, Any]) -> bool:
    fields = case.to_fields()
    return fields["variant"] == preset["variant"] and all(fields.get(k, v) == v for k, v in preset.items())
