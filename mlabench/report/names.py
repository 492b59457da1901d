"""The names that `--figures` takes: of pictures, of charts without one, and of what moved between runs."""

from collections.abc import Sequence

from mlabench.errors import UsageError, near_names
from mlabench.report.charts import CHARTS
from mlabench.report.figures import FIGURES

MOVED = "moved"
"""The name of the figure of what moved between two runs."""

FIGURE_NAMES = tuple(dict.fromkeys([*(row.name for row in FIGURES), *(row.name for row in CHARTS), MOVED]))
"""In the report's order; one without data is left out, as it is where none is chosen."""


def chosen_names(asked: Sequence[str]) -> tuple[str, ...]:
    """The names asked for in the report's order, or all of them. Raises `UsageError` for one that is none."""
    for name in asked:
        if name not in FIGURE_NAMES:
            raise UsageError(f"there is no figure {name!r}: {near_names(name, FIGURE_NAMES)}")
    return tuple(name for name in FIGURE_NAMES if name in asked or not asked)
