"""The rows of a prediction: models, GPUs, ranks and cases in every combination, and what each costs at least."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlabench.cases.axes import Value
from mlabench.cases.case import VARIANTS, Case
from mlabench.cases.grid import cases_of
from mlabench.cases.where import keep_where
from mlabench.errors import UsageError
from mlabench.machine.ceilings import Ceilings
from mlabench.predict.alternatives import alternatives
from mlabench.predict.costs import Costs, Counts, Work, costs_of, counts_of
from mlabench.predict.hardware import Gpu
from mlabench.predict.presets import Model
from mlabench.predict.ranks import on_one_rank

if TYPE_CHECKING:
    from mlabench.predict.calibrate import Calibration

Row = dict[str, Any]

CASE_FIELDS = ("batch", "q_len", "kv_len", "kv_len_dist", "page_size", "dtype")
SPEEDUPS = {name: f"floor_speedup_vs_{name}" for name in VARIANTS}
LATENCY_COLUMNS = ("latency_us", "latency_us_low", "latency_us_high")


@dataclass(frozen=True, slots=True)
class Point:
    """A model's case, and over how many GPUs: each of `dp` replicas of `tp` ranks takes the case's batch."""

    model: Model
    case: Case
    tp: int = 1
    dp: int = 1

    @property
    def rank_case(self) -> Case:
        """What one rank computes. Raises `UsageError` for a `tp` that does not split the heads."""
        return replace(self.case, variant=on_one_rank(self.case.variant, self.tp))


def make_points(
    models: Sequence[Model],
    axes: Mapping[str, Sequence[Value]],
    where: str = "",
    tps: Sequence[int] = (1,),
    dps: Sequence[int] = (1,),
) -> tuple[Point, ...]:
    """Every combination of model, case, `tp` and `dp`, each once. Raises `UsageError`."""
    points = []
    for model in models:
        cases: Sequence[Case] = tuple(dict.fromkeys(cases_of(model.shape, axes, where)))
        for case in keep_where(cases, where) if where else cases:
            points += [Point(model, case, tp, dp) for tp in tps for dp in dps]
    return tuple(points)


def predict_rows(
    points: Sequence[Point], gpus: Sequence[Gpu], calibration: "Calibration | None" = None
) -> Iterator[Row]:
    """A row for each point on each GPU, with a rank's bytes, FLOP and floor in one layer.

    With a calibration, also the latency that a run's kernels would have; None on other GPUs than the run's, and for
    tensors that none of its kernels took. Raises `UsageError` for heads that do not split.
    """
    for point in points:
        case, variant = point.case, on_one_rank(point.case.variant, point.tp)
        counts, costs = counts_of(case), costs_of(case, variant)
        work = costs.work(counts)
        sizes, others = _sizes(point, costs, work), _other_work(point, counts)
        for gpu in gpus:
            row = {"model": point.model.name, "gpu": gpu.name, **sizes, **_floor(work, gpu.ceilings, case.dtype)}
            row |= _speedups(row["floor_us"], others, gpu.ceilings, case.dtype)
            if calibration:
                row |= dict(zip(LATENCY_COLUMNS, calibration.latency_us(point.rank_case, gpu), strict=True))
            yield row


def _sizes(point: Point, costs: Costs, work: Work) -> Row:
    """What does not depend on the GPU."""
    case, variant, layers = point.case, point.case.variant, point.model.num_attention_layers
    per_token = costs.kv_cache_bytes_per_token
    return {
        "variant": variant.name,
        "form": variant.form,
        "phase": case.phase,
        "scope": case.scope,
        **{name: getattr(case, name) for name in CASE_FIELDS},
        "tp": point.tp,
        "dp": point.dp,
        "num_q_heads": variant.num_q_heads,
        "num_kv_heads": getattr(variant, "num_kv_heads", None),
        "num_layers": layers,
        "kv_cache_bytes_per_token_per_layer": per_token,
        "kv_cache_bytes_per_token": None if layers is None else per_token * layers,
        "kv_cache_bytes": work.kv_cache_bytes,
        "kv_cache_bytes_all_ranks": work.kv_cache_bytes * point.tp * point.dp,
        "bytes_moved": work.bytes_moved,
        "flops": work.flops,
        "arithmetic_intensity_flops_per_byte": work.flops / work.bytes_moved,
    }


def _floor(work: Work, ceilings: Ceilings, dtype: str) -> Row:
    memory_us, compute_us = ceilings.memory_us(work.bytes_moved), ceilings.compute_us(work.flops, dtype)
    if compute_us is None:
        return {"memory_us": memory_us, "compute_us": None, "floor_us": None, "bound": None}
    bound = "compute" if compute_us > memory_us else "memory"
    return {"memory_us": memory_us, "compute_us": compute_us, "floor_us": max(memory_us, compute_us), "bound": bound}


def _other_work(point: Point, counts: Counts) -> dict[str, Work | None]:
    """Bytes and FLOP of the other variants at the same size; None for the point's own, and for what cannot be."""
    case, found = point.case, alternatives(point.case.variant, point.case.phase)
    work: dict[str, Work | None] = {}
    for name, column in SPEEDUPS.items():
        work[column] = None
        if name in found and found[name] != case.variant:
            try:
                work[column] = costs_of(case, on_one_rank(found[name], point.tp)).work(counts)
            except UsageError:
                continue
    return work


def _speedups(
    floor_us: float | None, others: Mapping[str, Work | None], ceilings: Ceilings, dtype: str
) -> dict[str, float | None]:
    def speedup(work: Work | None) -> float | None:
        other_us = ceilings.floor_us(work.bytes_moved, work.flops, dtype) if work else None
        return other_us / floor_us if other_us and floor_us else None

    return {column: speedup(work) for column, work in others.items()}
