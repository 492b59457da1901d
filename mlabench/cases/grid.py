"""From axes and model presets to the tuple of cases that a sweep measures."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlabench.cases.axes import Value
from mlabench.cases.case import Case, own_fields
from mlabench.cases.models import preset_shape
from mlabench.cases.where import keep_where, leaves_out
from mlabench.errors import UsageError

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

In prefill `q_len` is `kv_len` unless an axis gives it: whole prompts, nothing of them cached. The `hidden_size` of a
layer has no default; without `q_lora_rank` its query is projected from the hidden state at once.
"""


def make_cases(axes: Mapping[str, Sequence[Value]], models: Sequence[str] = (), where: str = "") -> tuple[Case, ...]:
    """Every combination of the axes' values, for each model; each case once, in the axes' order.

    An axis overrides a model's size, and a model's size overrides the default. A case that keeps a model's shape
    carries the model's name. Of the cases those are left that the expression `where` keeps. Raises `UsageError` for an
    unknown model, or for sizes that do not fit together and that `where` does not leave out.
    """
    cases: dict[Case, tuple[str, ...]] = {}
    for model in models or (None,):
        preset = preset_shape(model) if model else {}
        for case in cases_of(preset, axes, where):
            own = (model,) if model and _keeps(case, preset) else ()
            cases[case] = tuple(dict.fromkeys((*cases.get(case, ()), *own)))
    named = tuple(Case.from_fields(case.to_fields(), models=names) for case, names in cases.items())
    return keep_where(named, where) if where else named


def cases_of(preset: Mapping[str, Any], axes: Mapping[str, Sequence[Value]], where: str = "") -> Iterator[Case]:
    """A case for every combination of the axes' values with the sizes of a preset; without what `where` lets fail.

    Two combinations may give the same case. Raises `UsageError` as `make_cases` does.
    """
    for values in itertools.product(*axes.values()):
        shape: dict[str, Any] = {**DEFAULT_SHAPE, **preset, **dict(zip(axes, values, strict=True))}
        if shape["phase"] == "prefill" and "q_len" not in axes:
            shape["q_len"] = shape["kv_len"]
        if (case := _make_case(shape, axes, where)) is not None:
            yield case


def _make_case(shape: Mapping[str, Any], axes: Mapping[str, Sequence[Value]], where: str) -> Case | None:
    """The case of these values, or None where they make none and `where` leaves them out. Raises `UsageError`."""
    try:
        return Case.from_fields(shape)
    except UsageError:
        if where and leaves_out(own_fields(shape), where):
            return None
        if shape["kv_len"] < shape["q_len"]:
            raise UsageError(_mend_lengths(shape["q_len"], shape["kv_len"], axes)) from None
        raise


def _mend_lengths(q_len: int, kv_len: int, axes: Mapping[str, Sequence[Value]]) -> str:
    q_lens, kv_lens = axes.get("q_len", (q_len,)), axes.get("kv_len", (kv_len,))
    if "kv_len" not in axes:
        return f"kv_len {kv_len}, the default, is under q_len {q_len}: add -a kv_len={max(map(int, q_lens))}"
    if min(map(int, q_lens)) <= max(map(int, kv_lens)):
        mend = "leave such pairs out with --where 'q_len <= kv_len'"
    else:
        mend = "kv_len counts the new tokens too"
    return f"kv_len {kv_len} is under q_len {q_len}: {mend}"


def _keeps(case: Case, preset: Mapping[str, Any]) -> bool:
    fields = case.to_fields()
    # A preset without a rank for its query has none.
    names = {*preset, "q_lora_rank"}
    return all(fields.get(name, preset.get(name)) == preset.get(name) for name in names)
