"""What is said beside a prediction: of what was left out, of what no GPU can hold, and of what no run measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mlabench.cases.axes import Value
from mlabench.cases.case import Case
from mlabench.cli.contexts import warn_over_context
from mlabench.cli.show import warn
from mlabench.predict.capacity import DEFAULT_RESERVE
from mlabench.predict.crossovers import variant_name
from mlabench.predict.curves import solved_lengths
from mlabench.predict.presets import Model
from mlabench.predict.room import TooLarge
from mlabench.predict.rows import Point, lacks_gqa
from mlabench.units import format_bytes, format_exact, format_percent, format_some

if TYPE_CHECKING:
    from mlabench.predict.calibrate import Calibration

SPANNED: Mapping[str, Callable[[Case], int]] = {
    "num_q_heads": lambda case: case.variant.num_q_heads,
    "batch": lambda case: case.batch,
    "q_len": lambda case: case.q_len,
    "kv_len": lambda case: case.kv_len,
}
"""Sizes beyond which a fit has to reach, by how a case says them."""

MOST_NAMED = 3
"""Of what a line is about; of more it says how many."""


def tell_left_out(models: Sequence[Model], axes: Mapping[str, Sequence[Value]]) -> None:
    """Name the models that have no GQA among the variants asked for."""
    if names := [str(model.name) for model in models if lacks_gqa(model, axes)]:
        hint = "8 KV heads do not split its heads evenly, give -a num_kv_heads"
        warn(f"no gqa of {', '.join(names)}: {hint}")


def tell_not_held(points: Sequence[Point]) -> None:
    """Name what a format of the cache does not hold, a line for each format."""
    by_format: dict[str, dict[str, None]] = {}
    for point in points:
        model = f"{point.model.name} " if point.model.name else ""
        by_format.setdefault(point.held_in, {})[model + _attention(point)] = None
    for name, left_out in by_format.items():
        warn(f"--cache-format {name} does not hold {format_some(left_out, MOST_NAMED)}: left out")


def tell_over_context(points: Sequence[Point]) -> None:
    """Warn of lengths over the `max_context` of their model."""
    warn_over_context((point.model.name, point.model.max_context, point.case.kv_len) for point in points)


def _attention(point: Point) -> str:
    layer = " layer" if point.case.scope == "layer" else ""
    return f"{variant_name(point.case.variant)}{layer}"


def print_too_large(
    found: Sequence[TooLarge],
    reserve: float = DEFAULT_RESERVE,
    mend: str = "Ratios differ by --tp; mlabench plan says what fits.",
) -> None:
    """Say in one line whose weights leave no room on a GPU: such a row is of a machine that cannot be."""
    of_models = {(large.model, large.gpu): large for large in reversed(found)}
    if of_models:
        shares = format_some(map(_share, reversed(of_models.values())), MOST_NAMED, "; ")
        print(f"No room beside the weights and {format_percent(reserve)} in reserve: {shares}. {mend}")


def _share(large: TooLarge) -> str:
    held = f"{format_bytes(large.weights_bytes_per_gpu)} of {large.gpu}'s {format_bytes(large.memory_bytes)}"
    enough = f"; enough from tp {large.least_tp} on" if large.least_tp else ""
    return f"{large.model} at tp {large.tp} ({held}{enough})"


def tell_beyond(calibration: "Calibration", cases: Sequence[Case], *, solved: bool = False) -> None:
    """Warn of sizes, as a rank has them, that lie beyond those that the run measured of the same kernels.

    Where lengths are `solved` for they are none of the cases'.
    """
    from mlabench.predict.calibrate import fitted_contract

    by_contract: dict[str, list[Case]] = {}
    for measured in calibration.measured_us:
        by_contract.setdefault(fitted_contract(measured), []).append(measured)
    beyond: dict[str, dict[int, None]] = {}
    for name, size in SPANNED.items():
        ends = {contract: (min(map(size, known)), max(map(size, known))) for contract, known in by_contract.items()}
        for case in cases:
            least, most = ends.get(fitted_contract(case), (0, math.inf))
            if not (solved and name in solved_lengths(case)) and not least <= size(case) <= most:
                beyond.setdefault(f"{name} {{}} (it has {_span(least, int(most))})", {})[size(case)] = None
    if beyond:
        told = "; ".join(
            text.format(format_some(map(format_exact, sizes), MOST_NAMED)) for text, sizes in beyond.items()
        )
        warn(f"beyond what {calibration.run} measured, where its intervals may be too narrow: {told}")


def _span(least: int, most: int) -> str:
    return f"{format_exact(least)} alone" if least == most else f"{format_exact(least)} to {format_exact(most)}"
