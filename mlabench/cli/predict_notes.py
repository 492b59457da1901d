"""What is said beside a prediction: of models that were left out, and of those that one GPU cannot hold."""

from collections.abc import Iterable, Mapping, Sequence

import typer

from mlabench.cases.axes import Value
from mlabench.predict.capacity import DEFAULT_RESERVE
from mlabench.predict.crossovers import variant_name
from mlabench.predict.presets import Model
from mlabench.predict.room import TooLarge
from mlabench.predict.rows import Point, lacks_gqa
from mlabench.units import format_bytes, format_percent

MOST_NAMED = 3
"""Of what a line is about; of more it says how many."""


def tell_left_out(models: Sequence[Model], axes: Mapping[str, Sequence[Value]]) -> None:
    """Name the models that have no GQA among the variants asked for."""
    if names := [str(model.name) for model in models if lacks_gqa(model, axes)]:
        hint = "8 KV heads do not split its heads evenly, give -a num_kv_heads"
        typer.echo(f"mlabench: warning: no gqa of {', '.join(names)}: {hint}", err=True)


def tell_not_held(points: Sequence[Point]) -> None:
    """Name what a format of the cache does not hold, a line for each format."""
    by_format: dict[str, dict[str, None]] = {}
    for point in points:
        model = f"{point.model.name} " if point.model.name else ""
        by_format.setdefault(point.held_in, {})[model + _attention(point)] = None
    for name, left_out in by_format.items():
        typer.echo(f"mlabench: warning: --cache-format {name} does not hold {_some(left_out)}: left out", err=True)


def _attention(point: Point) -> str:
    layer = " layer" if point.case.scope == "layer" else ""
    return f"{variant_name(point.case.variant)}{layer}"


def print_too_large(found: Sequence[TooLarge]) -> None:
    """Say in one line whose weights leave no room on a GPU: such a row is of a machine that cannot be."""
    of_models = {large.model: large for large in reversed(found)}
    if of_models:
        shares = _some(map(_share, reversed(of_models.values())), "; ")
        print(
            f"No room beside the weights and {format_percent(DEFAULT_RESERVE)} in reserve: {shares}. "
            "Ratios differ by --tp; mlabench plan says what fits."
        )


def _share(large: TooLarge) -> str:
    held = f"{format_bytes(large.weights_bytes_per_gpu)} of {large.gpu}'s {format_bytes(large.memory_bytes)}"
    enough = f"; enough from tp {large.least_tp} on" if large.least_tp else ""
    return f"{large.model} at tp {large.tp} ({held}{enough})"


def _some(texts: Iterable[str], between: str = ", ") -> str:
    named = list(texts)
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return between.join(named[:MOST_NAMED]) + more
