"""Each record's raw samples in the order taken, as a line of few characters that the page draws."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from mlabench.records.record import Record

if TYPE_CHECKING:
    import pandas

MOST_POINTS = 24

LEVELS = "0123456789abcdefghijklmnopqrstuv"
"""The heights of a line, the lowest first."""

LEAST_SPAN = 0.02
"""Of the median, that the whole height stands for at least, lest noise fill it."""

SHAPE, LEAST, GREATEST = "samples_shape", "samples_us_least", "samples_us_greatest"
"""Columns that `with_samples` adds; None where a record has no time."""


def with_samples(table: "pandas.DataFrame", records: Sequence[Record]) -> "pandas.DataFrame":
    """The table of these records, in their order, with the line and the least and greatest of each one's samples."""
    import pandas

    every = [record.timing.samples_us if record.timing else () for record in records]
    columns: dict[str, list[Any]] = {
        SHAPE: [shape(samples) if samples else None for samples in every],
        LEAST: [min(samples, default=None) for samples in every],
        GREATEST: [max(samples, default=None) for samples in every],
    }
    return table.assign(**{name: pandas.Series(values, table.index, object) for name, values in columns.items()})


def shape(samples: Sequence[float]) -> str:
    """At most `MOST_POINTS` positive samples as characters of `LEVELS`; of many, each stretch's farthest one off."""
    middle = median(samples)
    points = [max(part, key=lambda sample: abs(sample - middle)) for part in _stretches(samples)]
    low, high = min(points), max(points)
    spare = max(0.0, LEAST_SPAN * middle - (high - low))
    step = (high - low + spare) / (len(LEVELS) - 1)
    return "".join(LEVELS[round((point - low + spare / 2) / step)] for point in points)


def _stretches(samples: Sequence[float]) -> list[Sequence[float]]:
    count = min(len(samples), MOST_POINTS)
    ends = [len(samples) * place // count for place in range(count + 1)]
    return [samples[begin:end] for begin, end in pairwise(ends)]
