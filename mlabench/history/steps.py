"""Steps of a series: where its level changed by more than counts, and by more than unchanged code moves.

What is assumed: between steps the level stays; what runs of unchanged code differ by is independent from run to run
and normal in the logarithm, with the deviation that the gate takes for the kind of device, pooled with the series' own.
A slow drift is not what this looks for: it shows as a step once it adds up to one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean, median_low

from mlabench.history.series import Reading, Series
from mlabench.stats import benjamini_hochberg
from mlabench.verdict.noise import CONFIDENCE, NOISE, PRIOR_RUNS, Noise
from mlabench.verdict.settle import FALSE_DISCOVERY_RATE

_NORMAL = NormalDist()

DEVIATION_OF_DIFFERENCES = 1 / (_NORMAL.inv_cdf(0.75) * math.sqrt(2))
"""Standard deviation of normal values over the median size of the differences between neighbours."""

Levels = Sequence[tuple[float, float]]
"""Logarithms of times with their variances."""


@dataclass(frozen=True, slots=True)
class Step:
    """A change of level between the readings `index - 1` and `index`. Times are in microseconds.

    `ratio` is the time after over the time before, with its 90% interval; `p` the chance of as much, somewhere in the
    stretch between the neighbouring steps, were there no change of more than `min_effect`, a fraction.
    """

    index: int
    before_us: float
    after_us: float
    low: float
    high: float
    p: float
    min_effect: float

    @property
    def ratio(self) -> float:
        """Above one is slower."""
        return self.after_us / self.before_us


def _size(step: Step) -> float:
    return abs(math.log(step.ratio))


@dataclass(frozen=True, slots=True)
class Trend:
    """A series with the steps in it, in their order."""

    series: Series
    steps: tuple[Step, ...]

    @property
    def largest_step(self) -> Step | None:
        """The one whose ratio is the farthest from 1."""
        return max(self.steps, key=_size, default=None)

    @property
    def largest(self) -> float:
        """Size of the largest step, as the logarithm of its ratio; 0 without any."""
        return max(map(_size, self.steps), default=0.0)

    @property
    def change(self) -> float:
        """The last reading's time over the first's."""
        readings = self.series.readings
        return readings[-1].latency_us / readings[0].latency_us


def find_trends(series: Sequence[Series], min_effect: float | None = None) -> tuple[Trend, ...]:
    """Each series with its steps, the one with the largest step first.

    Of the series said to have a step an expected 5% have none that counts (Benjamini and Hochberg, over all series). By
    default the least change that counts is the gate's.
    """
    noises = [_noise(one, min_effect) for one in series]
    levels = [_levels(one.readings, noise) for one, noise in zip(series, noises, strict=True)]
    p_values = [_likeliest(each, noise)[1] for each, noise in zip(levels, noises, strict=True)]
    found = benjamini_hochberg(p_values, FALSE_DISCOVERY_RATE)
    # The procedure's own threshold; the largest of the found would hide a plain step behind a plainer one.
    bar = FALSE_DISCOVERY_RATE * sum(found) / len(found) if any(found) else -1.0
    trends = [Trend(one, _steps(each, noise, bar)) for one, each, noise in zip(series, levels, noises, strict=True)]
    return tuple(sorted(trends, key=lambda trend: (-trend.largest, trend.series.kernel, trend.series.case.label)))


def _noise(series: Series, min_effect: float | None) -> Noise:
    noise = NOISE.get(series.setting.device, NOISE["cpu"])
    return noise if min_effect is None else Noise(noise.between_run_sd, min_effect, noise.min_effect_us)


def _levels(readings: Sequence[Reading], noise: Noise) -> Levels:
    logs = [math.log(reading.latency_us) for reading in readings]
    between = _between_run_variance(logs, noise)
    return [(log, between + reading.log_standard_error**2) for log, reading in zip(logs, readings, strict=True)]


def _between_run_variance(logs: Sequence[float], noise: Noise) -> float:
    """The device's constant, pooled with the series' own noise as its neighbours show it.

    Of neighbours few lie on either side of a step, so that the median of their differences hardly sees one.
    """
    seen = len(logs) - 2
    own = DEVIATION_OF_DIFFERENCES * median_low(abs(b - a) for a, b in pairwise(logs))
    return (PRIOR_RUNS * noise.between_run_sd**2 + seen * own**2) / (PRIOR_RUNS + seen)


def _steps(levels: Levels, noise: Noise, bar: float) -> tuple[Step, ...]:
    """The steps whose chance is at most `bar`, each estimated between its neighbours."""
    places = list(_places(levels, 0, noise, bar))
    while places:
        ends = [0, *places, len(levels)]
        steps = [_step_at(levels[a:c], b - a, a, noise) for a, b, c in zip(ends, ends[1:], ends[2:], strict=False)]
        worst = max(steps, key=lambda step: step.p)
        if worst.p <= bar:
            return tuple(steps)
        # What looked like a step from afar may be none between the others.
        places.remove(worst.index)
    return ()


def _places(levels: Levels, start: int, noise: Noise, bar: float) -> Iterator[int]:
    """Where the steps are in a stretch that begins at the reading `start`: the likeliest, and those beside them."""
    if len(levels) < 2:
        return
    places, p = _likeliest(levels, noise)
    if p <= bar:
        for begin, end in pairwise([0, *places, len(levels)]):
            if begin:
                yield start + begin
            yield from _places(levels[begin:end], start + begin, noise, bar)


def _likeliest(levels: Levels, noise: Noise) -> tuple[tuple[int, ...], float]:
    """Where a stretch of at least two readings most likely steps, once or there and back again, and the chance of it.

    Looking for one step alone would miss a level that soon comes back: it hardly moves the mean of all that follows.
    """
    import numpy as np

    weights = np.array([1 / variance for _, variance in levels])
    totals = np.concatenate([[0.0], np.cumsum(weights * [level for level, _ in levels])])
    known = np.concatenate([[0.0], np.cumsum(weights)])
    begins, ends = np.triu_indices(len(known), 1)
    # The first reading is always outside: a level up to a place is one from there on, seen from the other side.
    begins, ends = begins[begins > 0], ends[begins > 0]
    inside, within = known[ends] - known[begins], totals[ends] - totals[begins]
    outside = known[-1] - inside
    levels_inside, levels_outside = within / inside, (totals[-1] - within) / outside
    errors = np.sqrt(1 / inside + 1 / outside)
    at = int(np.argmax(abs(levels_inside - levels_outside) / errors))
    p = _chance(float(levels_outside[at]), float(levels_inside[at]), float(errors[at]), noise)
    places = (int(begins[at]), int(ends[at]))
    # Bonferroni's bound.
    return places[: 1 if places[1] == len(levels) else 2], min(1.0, p * len(errors))


def _chance(before: float, after: float, error: float, noise: Noise) -> float:
    """Of two levels so far apart, if they were no further apart than what counts."""
    bound, apart = math.log1p(_effect(before, noise)), abs(after - before)
    return _NORMAL.cdf((bound - apart) / error) + _NORMAL.cdf((-bound - apart) / error)


def _effect(before: float, noise: Noise) -> float:
    """The least change that counts, as a fraction of a time that is given by its logarithm."""
    return max(noise.min_effect, noise.min_effect_us / math.exp(before))


def _step_at(levels: Levels, place: int, start: int, noise: Noise) -> Step:
    """The step at this place of a stretch, whose chance allows for all the places where it could have been."""
    (before, before_variance), (after, after_variance) = _mean(levels[:place]), _mean(levels[place:])
    error = math.sqrt(before_variance + after_variance)
    difference = after - before
    p = _chance(before, after, error, noise)
    reach = _NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * error
    return Step(
        index=start + place,
        before_us=math.exp(before),
        after_us=math.exp(after),
        low=math.exp(difference - reach),
        high=math.exp(difference + reach),
        # Bonferroni's bound.
        p=min(1.0, p * (len(levels) - 1)),
        min_effect=_effect(before, noise),
    )


def _mean(levels: Levels) -> tuple[float, float]:
    """The mean, each value weighed by how well it is known, and its variance."""
    weights = [1 / variance for _, variance in levels]
    total = sum(weights)
    return fmean([level for level, _ in levels], weights), 1 / total


def changed_terms(trend: Trend, step: Step) -> dict[str, tuple[object, object]]:
    """What differs between the two runs beside a step: term, value before, value after; counts of the case last."""
    before, after = trend.series.readings[step.index - 1], trend.series.readings[step.index]
    terms = {name: (value, after.terms[name]) for name, value in before.terms.items()}
    counts = {name: (value, after.arithmetic.get(name, value)) for name, value in before.arithmetic.items()}
    return {name: pair for name, pair in {**terms, **counts}.items() if pair[0] != pair[1]}
