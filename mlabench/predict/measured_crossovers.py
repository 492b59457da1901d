"""Where absorbed MLA and its rivals overtake one another in a run, beside where halves of the run predict it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.predict.calibrate import Calibration
from mlabench.predict.crossovers import variant_name
from mlabench.predict.curves import takes_whole_prompts
from mlabench.predict.zones import AGREEING_STEPS, crossings, steps_apart, zones

AXES = ("kv_len", "q_len")
"""Along which lengths a crossing is looked for, the others being one value."""

LEAST_LENGTHS = 3
"""With fewer a grid step says nothing."""

_SETTING = ("batch", "q_len", "kv_len", "kv_len_dist", "page_size", "dtype", "phase", "scope", "hidden_size")

Line = Mapping[int, Case]
"""A variant's measured cases by their length."""


@dataclass(frozen=True, slots=True)
class MeasuredCrossover:
    """The lengths at which absorbed MLA and a rival of the same size overtake one another; none where they do not.

    `leads_first` says whether MLA is the faster one at the shortest measured length, `predicted_leads_first` whether
    it is predicted to be. Each case is predicted from the half of the run that it is not in. `steps_apart` is as
    `zones.steps_apart` has it. Of `kv_len` and `q_len` the varied one, `axis`, is None, as is the `q_len` of whole
    prompts.
    """

    gpu: str
    variant: str
    form: str | None
    against: str
    phase: str
    scope: str
    dtype: str
    num_q_heads: int
    batch: int
    q_len: int | None
    kv_len: int | None
    axis: str
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    predicted_leads_first: bool
    leads_first: bool
    steps_apart: float | None

    @property
    def agrees(self) -> bool:
        """Whether the prediction is within a grid step."""
        return self.steps_apart is not None and self.steps_apart <= AGREEING_STEPS

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "agrees": self.agrees}


def find_measured_crossovers(calibration: Calibration, cases: Sequence[Case]) -> tuple[MeasuredCrossover, ...]:
    """A crossover for every pair and setting that has measured cases, of those given, at three lengths or more.

    Pairs are absorbed MLA and each other variant or form, with as many query heads.
    """
    found = []
    for axis in AXES:
        for lines in _lines(calibration, cases, axis).values():
            owns = [line for (variant, _), line in lines.items() if variant.form == "absorbed"]
            for own, rival in product(owns, lines.values()):
                lengths = sorted(own.keys() & rival.keys())
                if own is not rival and len(lengths) >= LEAST_LENGTHS:
                    found.append(_crossover(calibration, axis, own, rival, lengths))
    return tuple(found)


def _lines(calibration: Calibration, cases: Sequence[Case], axis: str) -> Mapping[Any, Mapping[Any, Line]]:
    """By setting, what each variant has measured along the axis; layers with two ranks of queries are two variants."""
    lines: dict[Any, dict[Any, dict[int, Case]]] = defaultdict(lambda: defaultdict(dict))
    for case in cases:
        whole = takes_whole_prompts(case)
        if case in calibration.measured_us and not (whole and axis == "q_len"):
            varied = AXES if whole else (axis,)
            setting = tuple(None if name in varied else getattr(case, name) for name in _SETTING)
            variant = case.variant, case.q_lora_rank
            lines[setting, case.variant.num_q_heads][variant][getattr(case, axis)] = case
    return lines


def _crossover(
    calibration: Calibration, axis: str, own: Line, rival: Line, lengths: Sequence[int]
) -> MeasuredCrossover:
    measured = [calibration.measured_us[rival[at]] / calibration.measured_us[own[at]] for at in lengths]
    within = {at: _blind_ratio(calibration, own[at], rival[at]) for at in lengths}
    before = _beyond(calibration, axis, own, rival, lengths)
    predicted = {**before, **within, **_beyond(calibration, axis, own, rival, lengths[::-1])}
    ratios, first, case = list(predicted.values()), -len(before), own[lengths[0]]
    whole = takes_whole_prompts(case)
    return MeasuredCrossover(
        gpu=calibration.gpu,
        variant=case.variant.name,
        form=case.variant.form,
        against=variant_name(rival[lengths[0]].variant),
        phase=case.phase,
        scope=case.scope,
        dtype=case.dtype,
        num_q_heads=case.variant.num_q_heads,
        batch=case.batch,
        q_len=None if axis == "q_len" or whole else case.q_len,
        kv_len=None if axis == "kv_len" else case.kv_len,
        axis=axis,
        predicted=tuple(length_at(list(predicted), at - first) for at in _told(measured, ratios, first)),
        measured=tuple(length_at(lengths, at) for at in crossings(measured)),
        predicted_leads_first=within[lengths[0]] > 1,
        leads_first=measured[0] > 1,
        steps_apart=steps_apart(measured, ratios, first),
    )


def _blind_ratio(calibration: Calibration, own: Case, rival: Case) -> float:
    """How many times longer the rival is predicted to take."""
    own_us, rival_us = calibration.blind_latency_us(own), calibration.blind_latency_us(rival)
    assert own_us is not None
    assert rival_us is not None
    return rival_us / own_us


def _beyond(calibration: Calibration, axis: str, own: Line, rival: Line, lengths: Sequence[int]) -> Mapping[int, float]:
    """The predicted ratio one grid step before the first length, nothing where no case can be there.

    A crossing measured near an end of the grid may be predicted just beyond it.
    """
    nearest, next_to_it = lengths[:2]
    at = round(nearest * nearest / next_to_it)
    try:
        pair = [at_length(line[nearest], axis, at) for line in (own, rival)]
    except UsageError:
        return {}
    return {at: _blind_ratio(calibration, *pair)} if at not in (0, nearest) else {}


def at_length(case: Case, axis: str, at: int) -> Case:
    """The case with another length along the axis. Raises `UsageError` where there can be none."""
    of_queries, whole = axis == "q_len", takes_whole_prompts(case)
    return replace(case, q_len=at if of_queries or whole else case.q_len, kv_len=case.kv_len if of_queries else at)


def _told(measured: Sequence[float], predicted: Sequence[float], first: int) -> tuple[float, ...]:
    """Positions of the predicted crossings within the measured lengths; without any, of one beyond that matches."""
    crossed, flips = crossings(predicted, first), [zone for zone in zones(measured) if zone.flips]
    within = tuple(at for at in crossed if 0 <= at <= len(measured) - 1)
    matching = (at for at in crossed if any(zone.distance(at) <= AGREEING_STEPS for zone in flips))
    return within or tuple(matching)


def length_at(lengths: Sequence[int], position: float) -> float:
    """The length at a position between two of them, on a logarithmic scale."""
    before = min(int(position), len(lengths) - 2)
    return float(lengths[before] * (lengths[before + 1] / lengths[before]) ** (position - before))
