"""`mlabench list`: what a sweep can be asked for."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

import typer

from mlabench.cli.show import print_table
from mlabench.units import format_bandwidth, format_bytes, format_flop_rate, format_number

Listing = tuple[tuple[str, ...], Iterable[tuple[str, ...]]]


def list_things(
    what: Annotated[
        Literal["axes", "kernels", "models", "gpus", "metrics"],
        typer.Argument(help="Which names to list.", show_default=False),
    ],
) -> None:
    """List the axes, kernels, models, GPUs or metrics by name.

    Example: mlabench list models
    """
    headers, rows = LISTINGS[what]()
    print_table(headers, rows)


def _axes() -> Listing:
    from mlabench.cases.axes import INTEGER_AXES
    from mlabench.cases.case import ALLOWED
    from mlabench.cases.grid import DEFAULT_SHAPE

    words = [(name, "|".join(values), str(DEFAULT_SHAPE[name])) for name, values in ALLOWED.items()]
    of_layers = {name: "the model's, for scope=layer" for name in INTEGER_AXES if name not in DEFAULT_SHAPE}
    defaults = {**DEFAULT_SHAPE, **of_layers, "q_len": f"{DEFAULT_SHAPE['q_len']}, in prefill kv_len"}
    numbers = [(name, "whole number", str(defaults[name])) for name in INTEGER_AXES]
    return ("axis", "values", "default"), words + numbers


def _kernels() -> Listing:
    from mlabench.measure.kernels import all_kernels

    rows = [
        (
            kernel.name,
            kernel.backend,
            kernel.contract,
            ", ".join(kernel.devices),
            "finite" if kernel.reads_unused_slots else "NaN",
            kernel.missing() or "yes",
        )
        for kernel in all_kernels()
    ]
    return ("kernel", "backend", "takes", "devices", "unused slots", "available"), rows


def _models() -> Listing:
    from mlabench.cases.grid import make_cases
    from mlabench.cases.models import load_presets, num_attention_layers

    rows = []
    for name, preset in load_presets().items():
        bytes_per_token = make_cases({}, [name])[0].kv_cache_bytes_per_token
        layers = num_attention_layers(name)
        rows.append(
            (
                name,
                preset["variant"],
                str(preset["num_q_heads"]),
                str(layers),
                f"{bytes_per_token} B",
                format_bytes(bytes_per_token * layers, digits=4),
            )
        )
    return ("model", "variant", "query heads", "layers", "cache/token/layer", "cache/token, full attention"), rows


def _gpus() -> Listing:
    from mlabench.machine.datasheet import load_gpus

    rows = [
        (
            name,
            format_bandwidth(gpu["memory_bytes_per_s"]),
            format_flop_rate(gpu["bfloat16_flops_per_s"]),
            f"{format_number(gpu['bfloat16_flops_per_s'] / gpu['memory_bytes_per_s'])} FLOP/B",
            format_bytes(gpu["memory_bytes"]),
            gpu["source"],
        )
        for name, gpu in load_gpus().items()
    ]
    return ("gpu", "memory traffic", "dense bfloat16", "ridge", "memory", "source"), rows


def _metrics() -> Listing:
    from mlabench.records.metrics import METRICS

    return ("metric", "meaning"), [(metric.name, metric.meaning) for metric in METRICS]


LISTINGS: Mapping[str, Callable[[], Listing]] = {
    "axes": _axes,
    "kernels": _kernels,
    "models": _models,
    "gpus": _gpus,
    "metrics": _metrics,
}
