"""The rows of a prediction: models, GPUs, ranks and cases in every combination, and what each costs at least."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from mlabench.cases.axes import Value
from mlabench.cases.case import VARIANTS, Case
from mlabench.cases.grid import DEFAULT_SHAPE, cases_of
from mlabench.cases.variant import Variant
from mlabench.cases.where import keep_where
from mlabench.errors import UsageError
from mlabench.machine.ceilings import Ceilings
from mlabench.predict.alternatives import alternatives
from mlabench.predict.cache_formats import AS_SERVED, costs_in_format
from mlabench.predict.calibrated import calibrated_columns
from mlabench.predict.costs import Costs, Counts, Work, counts_of
from mlabench.predict.hardware import Gpu
from mlabench.predict.presets import Model
from mlabench.predict.ranks import on_one_rank
from mlabench.predict.stacks import Stack

if TYPE_CHECKING:
    from mlabench.predict.calibrate import Calibration

Row = dict[str, Any]

CASE_FIELDS = ("batch", "q_len", "kv_len", "kv_len_dist", "page_size", "dtype")
SPEEDUPS = {name: f"floor_speedup_vs_{name}" for name in VARIANTS}


@dataclass(frozen=True, slots=True)
class Point:
    """A model's case, and over how many GPUs: each of `dp` replicas of `tp` ranks takes the case's batch.

    The cache is in the case's dtype unless `cache_format` names another; queries and outputs stay in the dtype.
    """

    model: Model
    case: Case
    tp: int = 1
    dp: int = 1
    cache_format: str | None = None

    @property
    def rank_case(self) -> Case:
        """What one rank computes. Raises `UsageError` for a `tp` that does not split the heads."""
        return replace(self.case, variant=self.rank_variant)

    @property
    def rank_variant(self) -> Variant:
        """A rank's share of the heads. Raises `UsageError` for a `tp` that does not split them."""
        try:
            return on_one_rank(self.case.variant, self.tp)
        except UsageError as error:
            of_model = f"{self.model.name}: " if self.model.name else ""
            raise UsageError(f"{of_model}{error}") from None

    @property
    def held_in(self) -> str:
        """The format of the cache: the named one, the model's own for `model`, or the case's dtype."""
        own = self.model.kv_cache_dtype if self.cache_format == AS_SERVED else self.cache_format
        return own or self.case.dtype

    @property
    def stack(self) -> Stack | None:
        """The model's layers; without the indexer where the case is of another variant than the model's."""
        stack = self.model.stack
        own = self.case.variant.name == self.model.shape.get("variant")
        return stack if stack is None or own else replace(stack, indexer=None)


def make_points(
    models: Sequence[Model],
    axes: Mapping[str, Sequence[Value]],
    where: str = "",
    tps: Sequence[int] = (1,),
    dps: Sequence[int] = (1,),
    cache_formats: Sequence[str | None] = (None,),
) -> tuple[Point, ...]:
    """Every combination of model, case, `tp`, `dp` and format of the cache, each once, but for `lacks_gqa`.

    Raises `UsageError`.
    """
    points = []
    for model in models:
        variants = [name for name in axes.get("variant", ()) if name != "gqa" or not lacks_gqa(model, axes)]
        own_axes = {**axes, "variant": variants} if variants else axes
        cases: Sequence[Case] = tuple(dict.fromkeys(cases_of(model.shape, own_axes, where)))
        for case in keep_where(cases, where) if where else cases:
            points += [Point(model, case, *others) for others in product(tps, dps, cache_formats)]
    return tuple(points)


def split_by_format(points: Sequence[Point]) -> tuple[tuple[Point, ...], tuple[tuple[Point, UsageError], ...]]:
    """The points whose cache its format can hold, and the others, each with why not."""
    held, others = [], []
    for point in points:
        variant = point.rank_variant
        try:
            costs_in_format(point.case, variant, point.held_in)
        except UsageError as error:
            others.append((point, error))
        else:
            held.append(point)
    return tuple(held), tuple(others)


def lacks_gqa(model: Model, axes: Mapping[str, Sequence[Value]]) -> bool:
    """Whether GQA is one of several variants asked for, and a sweep's 8 KV heads split the model's heads unevenly.

    Such a model is left out of it, as it is of the speed-ups. Nothing is where a model or an axis says how many there
    are.
    """
    sizes = {**DEFAULT_SHAPE, **model.shape}
    given = {"num_q_heads", "num_kv_heads"} & set(axes) or "num_kv_heads" in model.shape
    asked = "gqa" in axes.get("variant", ()) and len(axes["variant"]) > 1
    return asked and not given and sizes["num_q_heads"] % sizes["num_kv_heads"] != 0


def predict_rows(
    points: Sequence[Point], gpus: Sequence[Gpu], calibration: "Calibration | None" = None
) -> Iterator[Row]:
    """A row for each point on each GPU, with a rank's bytes, FLOP and floor in one layer.

    With a calibration, also what `calibrated_columns` gives. Raises `UsageError` for heads that do not split, and for a
    format that cannot hold the cache.
    """
    for point in points:
        case, variant = point.case, point.rank_variant
        counts, costs = counts_of(case), costs_in_format(case, variant, point.held_in)
        work, others = costs.work(counts), _others(point)
        sizes, other_work = _sizes(point, costs, work), _other_work(point, others, counts)
        for gpu in gpus:
            row = {"model": point.model.name, "gpu": gpu.name, **sizes, **_floor(work, gpu.ceilings, case.dtype)}
            row |= _speedups(row["floor_us"], other_work, gpu.ceilings, case.dtype)
            if calibration:
                in_dtype = point.held_in == case.dtype
                row |= calibrated_columns(calibration, point.rank_case, others, gpu, in_dtype=in_dtype)
            yield row


def _sizes(point: Point, costs: Costs, work: Work) -> Row:
    """What does not depend on the GPU."""
    case, variant, stack = point.case, point.case.variant, point.stack
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
        "num_layers": point.model.num_attention_layers,
        "cache_format": point.held_in,
        "kv_cache_bytes_per_token_per_layer": per_token,
        "kv_cache_bytes_per_token": stack.bytes_of_next_token(per_token) if stack else None,
        "kv_cache_bytes": work.kv_cache_bytes,
        "kv_cache_bytes_all_layers": _all_layers(stack, case, per_token),
        "kv_cache_bytes_all_ranks": work.kv_cache_bytes * point.tp * point.dp,
        "bytes_moved": work.bytes_moved,
        "flops": work.flops,
        "arithmetic_intensity_flops_per_byte": work.flops / work.bytes_moved,
    }


def _all_layers(stack: Stack | None, case: Case, per_token: int) -> int | None:
    """Cache bytes of the batch in all layers of one rank: of layers with a window no more than that."""
    if stack is None:
        return None
    if case.kv_len_dist == "uniform":
        return case.batch * stack.bytes_of_request(per_token, case.kv_len)
    return sum(stack.bytes_of_request(per_token, kv_len) for kv_len in case.kv_lens)


def _floor(work: Work, ceilings: Ceilings, dtype: str) -> Row:
    memory_us, compute_us = ceilings.memory_us(work.bytes_moved), ceilings.compute_us(work.flops, dtype)
    if compute_us is None:
        return {"memory_us": memory_us, "compute_us": None, "floor_us": None, "bound": None}
    bound = "compute" if compute_us > memory_us else "memory"
    return {"memory_us": memory_us, "compute_us": compute_us, "floor_us": max(memory_us, compute_us), "bound": bound}


def _others(point: Point) -> dict[str, Variant]:
    """A rank's share of the other variants at the same size, by name; what cannot be is left out."""
    found = {}
    for name, variant in alternatives(point.case.variant, point.case.phase).items():
        if variant != point.case.variant:
            with suppress(UsageError):
                found[name] = on_one_rank(variant, point.tp)
    return found


def _other_work(point: Point, others: Mapping[str, Variant], counts: Counts) -> dict[str, Work | None]:
    """Bytes and FLOP of the other variants; None for the point's own, and for a cache that the format cannot hold."""
    work: dict[str, Work | None] = dict.fromkeys(SPEEDUPS.values())
    for name, variant in others.items():
        with suppress(UsageError):
            work[SPEEDUPS[name]] = costs_in_format(point.case, variant, point.held_in).work(counts)
    return work


def _speedups(
    floor_us: float | None, others: Mapping[str, Work | None], ceilings: Ceilings, dtype: str
) -> dict[str, float | None]:
    def speedup(work: Work | None) -> float | None:
        other_us = ceilings.floor_us(work.bytes_moved, work.flops, dtype) if work else None
        return other_us / floor_us if other_us and floor_us else None

    return {column: speedup(work) for column, work in others.items()}
