"""The warning of lengths beyond what a model was made for, of commands that take any length."""

from collections.abc import Iterable

from mlabench.cli.show import warn
from mlabench.units import format_exact, format_some

MOST_NAMED = 3
"""Models of the line, and lengths of a model; of more it says how many."""


def warn_over_context(asked: Iterable[tuple[str | None, int | None, int]]) -> None:
    """Name in one line the models with a `max_context` under a `kv_len`; each is given with both, None is not known."""
    over: dict[tuple[str | None, int], dict[int, None]] = {}
    for name, most, kv_len in asked:
        if most is not None and kv_len > most:
            over.setdefault((name, most), {})[kv_len] = None
    told = [
        f"{format_some(map(format_exact, lengths), MOST_NAMED)} of {name} ({format_exact(most)})"
        for (name, most), lengths in over.items()
    ]
    if told:
        warn(f"kv_len over the model's max_context: {format_some(told, MOST_NAMED, '; ')}")
