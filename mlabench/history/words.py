"""A step in words: when it came, and what may explain it."""

from pathlib import Path

from mlabench.history.steps import Step, Trend, changed_terms
from mlabench.units import NOT_MEASURED

_SHORT = {"commit": 7, "card": 12}
"""Characters by which hashes and cards are known."""


def tell_when(trend: Trend, step: Step) -> str:
    """The first run after the step, and when it began."""
    after = trend.series.readings[step.index]
    return f"{Path(after.run).name}, {after.at:%Y-%m-%d %H:%M}"


def tell_changes(trend: Trend, step: Step) -> str:
    """What differs between the runs beside the step, sources before versions."""
    changed = changed_terms(trend, step)
    if "commit" in changed:
        # The digest of the sources says the same of them once more.
        changed.pop("source_digest", None)
    told = [f"{name} {_short(name, before)} to {_short(name, after)}" for name, (before, after) in changed.items()]
    return ", ".join(told) or "nothing known"


def tell_doubts(trend: Trend, step: Step) -> tuple[str, ...]:
    """Why the step may be none of the code: readings that were disturbed, or a level that one run alone has."""
    readings = trend.series.readings
    disturbed = sum(1 for reading in readings if reading.disturbances)
    ends = [0, *(each.index for each in trend.steps), len(readings)]
    at = ends.index(step.index)
    alone = min(step.index - ends[at - 1], ends[at + 1] - step.index) == 1 and len(readings) > 2
    return (
        *([f"{disturbed} of {len(readings)} runs disturbed"] if disturbed else []),
        *(["one side of it is a single run"] if alone else []),
    )


def _short(term: str, value: object) -> str:
    return NOT_MEASURED if value is None else str(value)[: _SHORT.get(term)]
