"""From which context on a model's attention is predicted to take less time than another, and where that is sure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from mlabench.cases.case import Case
from mlabench.cases.variant import Variant
from mlabench.errors import UsageError
from mlabench.predict.alternatives import alternatives
from mlabench.predict.calibrate import Calibration, fitted_contract
from mlabench.predict.crossovers import variant_name
from mlabench.predict.curves import solved_lengths, takes_whole_prompts
from mlabench.predict.hardware import Gpu
from mlabench.predict.latency import UNKNOWN, Latency, speedup
from mlabench.predict.measured_crossovers import at_length, length_at
from mlabench.predict.ranks import on_one_rank
from mlabench.predict.rows import Point
from mlabench.predict.zones import crossings

STEPS_PER_OCTAVE = 8
"""How finely lengths are tried; between two of them a crossing is interpolated."""

Ratios = Mapping[int, float]
"""How many times longer a rival takes, by length in rising order."""


@dataclass(frozen=True, slots=True)
class LatencyCrossover:
    """The lengths at which a model's own variant and another of its size overtake one another, on one rank.

    They are looked for between the shortest and the longest that the run has of both kinds, `shortest` and `longest`.
    `leads_first` says whether the model's own is predicted to be the faster one at the shortest. From `unsure_from` to
    `unsure_to` lie all lengths at which the 90% interval of the ratio holds 1, None without any. `measured` are the
    crossings of the run's own times, and None, as is `measured_leads_first`, where it holds no two lengths of both.
    `q_len` is None in prefill of whole prompts.
    """

    model: str | None
    gpu: str
    variant: str
    form: str | None
    against: str
    phase: str
    scope: str
    dtype: str
    num_q_heads: int
    num_kv_heads: int | None
    tp: int
    batch: int
    q_len: int | None
    shortest: int
    longest: int
    leads_first: bool
    predicted: tuple[float, ...]
    unsure_from: int | None
    unsure_to: int | None
    measured_leads_first: bool | None
    measured: tuple[float, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def find_latency_crossovers(
    points: Sequence[Point], calibration: Calibration, gpu: Gpu
) -> tuple[LatencyCrossover, ...]:
    """For each point, whatever its `kv_len`, and each other variant that the run tells a time of, a crossover.

    Raises `UsageError` for heads that do not split.
    """
    one_each = {_but_for_length(point): point for point in points}.values()
    found = (_crossover(point, rival, calibration, gpu) for point in one_each for rival in _rivals(point))
    return tuple(crossover for crossover in found if crossover)


def _but_for_length(point: Point) -> tuple[Any, ...]:
    """What tells points apart whose crossovers differ."""
    case = point.case
    varied = solved_lengths(case)
    return point.model.name, point.tp, *(getattr(case, each.name) for each in fields(case) if each.name not in varied)


def _rivals(point: Point) -> Iterator[Variant]:
    """The other variants at the point's size, but for what is the same on a rank: with one KV head GQA is MQA."""
    for other in alternatives(point.case.variant, point.case.phase).values():
        with suppress(UsageError):
            if on_one_rank(other, point.tp) != point.rank_variant:
                yield other


def _crossover(point: Point, other: Variant, calibration: Calibration, gpu: Gpu) -> LatencyCrossover | None:
    own, rival = point.rank_case, _with(point.rank_case, on_one_rank(other, point.tp))
    lengths = _lengths(own, rival, calibration) if rival else []
    if rival is None or len(lengths) < 2:
        return None
    triples = {at: _ratio(own, rival, at, calibration, gpu) for at in lengths}
    ratios = {at: middle for at, (middle, _, _) in triples.items() if middle is not None}
    if len(ratios) < 2:
        return None
    unsure = [at for at, (_, low, high) in triples.items() if low is not None and high is not None and low <= 1 <= high]
    measured = _measured(own, rival, calibration)
    case, variant = point.case, point.case.variant
    return LatencyCrossover(
        model=point.model.name,
        gpu=gpu.name,
        variant=variant.name,
        form=variant.form,
        against=variant_name(other),
        phase=case.phase,
        scope=case.scope,
        dtype=case.dtype,
        num_q_heads=variant.num_q_heads,
        num_kv_heads=getattr(variant, "num_kv_heads", None),
        tp=point.tp,
        batch=case.batch,
        q_len=None if takes_whole_prompts(case) else case.q_len,
        shortest=min(ratios),
        longest=max(ratios),
        leads_first=ratios[min(ratios)] > 1,
        predicted=_crossed(ratios),
        unsure_from=min(unsure, default=None),
        unsure_to=max(unsure, default=None),
        measured_leads_first=measured[min(measured)] > 1 if measured else None,
        measured=_crossed(measured) if measured else None,
    )


def _with(case: Case, variant: Variant) -> Case | None:
    """The case of another variant; None for a layer that the variant cannot be in."""
    try:
        return replace(case, variant=variant)
    except UsageError:
        return None


def _lengths(own: Case, rival: Case, calibration: Calibration) -> list[int]:
    """Lengths between the least and the greatest that the run has of both kinds of kernel, evenly on a log scale."""
    contracts = [fitted_contract(case) for case in (own, rival)]
    spans = [
        [case.kv_len for case in calibration.measured_us if fitted_contract(case) == contract] for contract in contracts
    ]
    least, most = max(min(span, default=1) for span in spans), min(max(span, default=1) for span in spans)
    if least >= most:
        return []
    steps = math.ceil(math.log2(most / least) * STEPS_PER_OCTAVE)
    return sorted({round(least * (most / least) ** (step / steps)) for step in range(steps + 1)})


def _ratio(own: Case, rival: Case, at: int, calibration: Calibration, gpu: Gpu) -> Latency:
    """How many times longer the rival takes at a length, with its interval, where the run tells it."""
    try:
        pair = [at_length(case, "kv_len", at) for case in (own, rival)]
    except UsageError:
        # Fewer tokens than are new.
        return UNKNOWN
    own_us, rival_us = (calibration.latency_us(case, gpu) for case in pair)
    return speedup(own_us, rival_us)


def _measured(own: Case, rival: Case, calibration: Calibration) -> Ratios:
    """The same as the run measured it, at two lengths or more."""
    known, found = calibration.measured_us, {}
    for at in sorted({case.kv_len for case in known}):
        with suppress(UsageError):
            own_us, rival_us = (known.get(at_length(case, "kv_len", at)) for case in (own, rival))
            if own_us and rival_us:
                found[at] = rival_us / own_us
    return found if len(found) > 1 else {}


def _crossed(ratios: Ratios) -> tuple[float, ...]:
    """The lengths at which a ratio passes 1, interpolated on logarithmic scales."""
    lengths = list(ratios)
    return tuple(length_at(lengths, position) for position in crossings(list(ratios.values())))
