"""The configurations that every kernel is compiled in: one row each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlabench.cases.axes import Value
from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases

BATCH, KV_LEN = 128, 8192
"""Of a configuration that names no other: full batches, and tables whose width is a multiple of 16."""

PREFILL: Mapping[str, Value] = {"phase": "prefill", "batch": 4, "q_len": 2048, "kv_len": 2048}
"""Whole prompts."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A case by the axes that differ from the defaults, and the tunables to bind it with; the kernel's own without."""

    name: str
    axes: Mapping[str, Value]
    tunables: Mapping[str, int] = field(default_factory=dict)

    @property
    def case(self) -> Case:
        """The case whose tensors the kernel is bound to."""
        axes = {"batch": BATCH, "kv_len": KV_LEN, **self.axes}
        return make_cases({name: (value,) for name, value in axes.items()})[0]


def _mla_rows() -> Iterator[Configuration]:
    for heads in (16, 32, 64, 128):
        axes: dict[str, Value] = {"num_q_heads": heads}
        yield Configuration(f"MLA {heads} heads, bf16", axes)
        yield Configuration(f"MLA {heads} heads, bf16, uncut", axes, {"num_splits": 1})
        yield Configuration(f"MLA {heads} heads, fp16", {**axes, "dtype": "float16"})


def _prefill_rows() -> Iterator[Configuration]:
    gqa: dict[str, Value] = {**PREFILL, "variant": "gqa"}
    expanded: dict[str, Value] = {**PREFILL, "form": "expanded"}
    absorbed: dict[str, Value] = {**PREFILL, "form": "absorbed"}
    for name, axes in (
        ("MHA", {**PREFILL, "variant": "mha"}),
        ("MHA, 64 queries", {**PREFILL, "variant": "mha", "q_len": 64}),
        ("GQA-8", gqa),
        ("GQA-8, one query", {**gqa, "q_len": 1}),
        ("GQA-8, page 16", {**gqa, "page_size": 16}),
        ("GQA-8, page 128", {**gqa, "page_size": 128}),
        ("GQA-8, head dim 64", {**gqa, "head_dim": 64}),
        ("GQA-8, head dim 256", {**gqa, "head_dim": 256}),
        ("MQA", {**PREFILL, "variant": "mqa"}),
        ("MLA expanded", expanded),
        ("MLA expanded, page 16", {**expanded, "page_size": 16}),
        ("MLA absorbed", absorbed),
        ("MLA absorbed, 16 heads", {**absorbed, "num_q_heads": 16}),
        ("MLA absorbed, 16 heads, one query", {**absorbed, "num_q_heads": 16, "q_len": 1}),
        ("MLA absorbed, 32 heads, one query", {**absorbed, "num_q_heads": 32, "q_len": 1}),
        ("MLA absorbed, page 16", {**absorbed, "page_size": 16}),
        ("MLA absorbed, page 32", {**absorbed, "page_size": 32}),
        ("MLA absorbed, rank 256", {**absorbed, "kv_lora_rank": 256}),
    ):
        yield Configuration(f"prefill, {name}, bf16", axes)
    yield Configuration("prefill, MHA, fp16", {**PREFILL, "variant": "mha", "dtype": "float16"})
    yield Configuration("prefill, MLA expanded, fp16", {**expanded, "dtype": "float16"})
    yield Configuration("prefill, MLA absorbed, fp16", {**absorbed, "dtype": "float16"})


CONFIGURATIONS: tuple[Configuration, ...] = (
    *_mla_rows(),
    Configuration("MLA 20 heads, bf16", {"num_q_heads": 20}),
    Configuration("MLA 96 heads, bf16", {"num_q_heads": 96}),
    Configuration("MLA 16 heads, bf16, batch 1", {"batch": 1, "num_q_heads": 16}),
    Configuration("MLA 128 heads, bf16, batch 1", {"batch": 1}),
    Configuration("MLA 16 heads, bf16, 2 queries", {"q_len": 2, "num_q_heads": 16}),
    Configuration("MLA 128 heads, bf16, 2 queries", {"q_len": 2}),
    Configuration("MLA 128 heads, bf16, page 16", {"page_size": 16}),
    Configuration("MLA 128 heads, bf16, page 32", {"page_size": 32}),
    Configuration("MHA, bf16", {"variant": "mha"}),
    Configuration("MHA, bf16, batch 1", {"variant": "mha", "batch": 1}),
    Configuration("GQA-8, bf16", {"variant": "gqa"}),
    Configuration("GQA-8, fp16", {"variant": "gqa", "dtype": "float16"}),
    Configuration("GQA-8, bf16, batch 1", {"variant": "gqa", "batch": 1}),
    Configuration("GQA-8, bf16, 2 queries", {"variant": "gqa", "q_len": 2}),
    Configuration("GQA-8, bf16, page 16", {"variant": "gqa", "page_size": 16}),
    Configuration("MQA, bf16", {"variant": "mqa"}),
    Configuration("MQA, fp16", {"variant": "mqa", "dtype": "float16"}),
    Configuration("MQA, 71 heads, head dim 64, bf16", {"variant": "mqa", "num_q_heads": 71, "head_dim": 64}),
    Configuration("MLA expanded, bf16", {"form": "expanded"}),
    Configuration("MLA expanded, fp16", {"form": "expanded", "dtype": "float16"}),
    Configuration("MLA expanded, bf16, batch 1", {"form": "expanded", "batch": 1}),
    *_prefill_rows(),
)
"""Without tunables a kernel's own defaults are compiled, split over the cache or not as the case has it."""
