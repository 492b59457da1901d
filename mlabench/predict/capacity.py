"""What fits on a number of GPUs beside a model's weights, and how fast it decodes there at best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlabench.cases.case import Case
from mlabench.errors import UsageError
from mlabench.predict.cache_formats import costs_in_format
from mlabench.predict.costs import counts_of
from mlabench.predict.hardware import Gpu
from mlabench.predict.latency import UNKNOWN, Latency
from mlabench.predict.ranks import possible_tps
from mlabench.predict.rows import Point, Row
from mlabench.predict.stacks import Stack
from mlabench.predict.weights import Weights
from mlabench.units import format_bytes

if TYPE_CHECKING:
    from mlabench.predict.calibrate import Calibration

DEFAULT_RESERVE = 0.1
"""Share of a GPU's memory kept for activations, workspaces and the runtime; vLLM's gpu_memory_utilization is 0.9."""

CALIBRATED_COLUMNS = ("attention_us", "attention_us_low", "attention_us_high")


@dataclass(frozen=True, slots=True)
class Setup:
    """A point whose `dp` replicas of `tp` ranks are all the GPUs that there are, and what they have to hold.

    Of the point's case the batch counts for nothing: `batch` requests of its `kv_len` decode at a time, over all GPUs,
    and as many as fit where it is None.
    """

    point: Point
    gpu: Gpu
    weights: Weights
    batch: int | None = None
    reserve: float = DEFAULT_RESERVE
    usd_per_gpu_hour: float | None = None

    @property
    def num_gpus(self) -> int:
        """All of them."""
        return self.point.tp * self.point.dp

    @property
    def stack(self) -> Stack:
        """The model's layers."""
        if self.point.stack is None:
            raise UsageError("a plan is of a model: add --model deepseek-v3")
        return self.point.stack

    @property
    def free_bytes_per_gpu(self) -> float:
        """What weights and reserve leave of a GPU's memory; below zero where the weights do not fit."""
        if self.gpu.memory_bytes is None:
            raise UsageError(f"GPU {self.gpu.name} has no memory_bytes, which a plan needs: add it, as in 141e9")
        return self.gpu.memory_bytes * (1 - self.reserve) - self.weights.bytes_per_gpu(self.point.tp, self.point.dp)


def plan_row(setup: Setup, calibration: "Calibration | None" = None) -> Row:
    """What fits, and a step's floor; with a calibration also what a run's kernels would take for attention.

    Numbers are 0 where the weights do not fit, and times None where the batch does not. Raises `UsageError`.
    """
    if calibration and not any(case.scope == "core" and case.phase == "decode" for case in calibration.measured_us):
        raise UsageError(
            f"{calibration.run} tells nothing of attention alone at decode, which a plan is made of: "
            "calibrate by a run of scope=core and phase=decode"
        )
    point, stack, dp = setup.point, setup.stack, setup.point.dp
    kv_len, room = point.case.kv_len, max(0, int(setup.free_bytes_per_gpu))
    per_token = costs_in_format(point.case, point.rank_case.variant, point.held_in).kv_cache_bytes_per_token
    request_bytes = stack.bytes_of_request(per_token, kv_len)
    requests = room // request_bytes * dp
    batch = requests if setup.batch is None else setup.batch
    replica_batch = max(1, -(-batch // dp))
    row = {
        **_machine(setup),
        "kv_cache_bytes_per_token": stack.bytes_of_next_token(per_token),
        "kv_cache_bytes_per_request": request_bytes,
        "tokens": room * kv_len // request_bytes * dp,
        "requests": requests,
        "longest_request": longest_request(stack, per_token, room),
        "batch": batch,
        "longest_kv_len": longest_request(stack, per_token, room // replica_batch),
    }
    return row | _speed(setup, batch if replica_batch * request_bytes <= room else 0, calibration)


def longest_request(stack: Stack, per_token: int, room: int) -> int | None:
    """Tokens of the longest request that fits the room; None where only windows are cached, and all of them fit."""
    growing, low, high = stack.bytes_of_next_token(per_token), 0, stack.window or 0
    if growing:
        high = room // growing
    elif stack.bytes_of_request(per_token, high) <= room:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        fits = stack.bytes_of_request(per_token, middle) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _machine(setup: Setup) -> Row:
    """What is asked about, and what the weights leave."""
    point = setup.point
    return {
        "model": point.model.name,
        "gpu": setup.gpu.name,
        "gpus_count": setup.num_gpus,
        "tp": point.tp,
        "dp": point.dp,
        "variant": point.case.variant.name,
        "form": point.case.variant.form,
        "num_kv_heads": getattr(point.case.variant, "num_kv_heads", None),
        "dtype": point.case.dtype,
        "cache_format": point.held_in,
        "kv_len": point.case.kv_len,
        "max_context": point.model.max_context,
        "weights_bytes": setup.weights.num_bytes,
        "weights_bytes_per_gpu": setup.weights.bytes_per_gpu(point.tp, point.dp),
        "free_bytes_per_gpu": setup.free_bytes_per_gpu,
    }


def _speed(setup: Setup, batch: int, calibration: "Calibration | None") -> Row:
    """Times of a step in which each of `batch` requests gains a token; None throughout without any."""
    attended = attended_cases(setup, batch)
    attention_us = _attention_floor_us(setup, attended) if batch else None
    rest_us = _weights_floor_us(setup, batch) if batch else None
    row: Row = {"attention_floor_us": attention_us, "weights_floor_us": rest_us}
    row |= _rates("floor", setup, batch, _sum(attention_us, rest_us))
    if calibration is None:
        return row
    latency = _attention_us(setup, attended, calibration) if batch else UNKNOWN
    row |= dict(zip(CALIBRATED_COLUMNS, latency, strict=True))
    middle, low, high = latency
    for name, attention in (("calibrated", middle), ("calibrated_slow", high), ("calibrated_fast", low)):
        row |= _rates(name, setup, batch, _sum(attention, rest_us))
    return row


def _sum(attention_us: float | None, rest_us: float | None) -> float | None:
    return None if attention_us is None or rest_us is None else attention_us + rest_us


def _rates(name: str, setup: Setup, batch: int, step_us: float | None) -> Row:
    """A step's time, its tokens a second over all GPUs, and what a million of them cost."""
    rate = batch / step_us * 1e6 if step_us else None
    price = setup.usd_per_gpu_hour
    cost = None if rate is None or price is None else price * setup.num_gpus / 3600 / rate * 1e6
    return {f"{name}_step_us": step_us, f"{name}_tokens_per_s": rate, f"{name}_usd_per_million_tokens": cost}


def _attention_floor_us(setup: Setup, attended: Sequence[tuple[int, Case]]) -> float | None:
    """Least time of attention in all layers of a rank, one after the other; with an indexer, of its choice too."""
    stack, ceilings = setup.stack, setup.gpu.ceilings
    total_us = 0.0
    for layers, case in attended:
        costs = costs_in_format(case, case.variant, setup.point.held_in)
        tokens = min(case.kv_len, stack.indexer.topk) if stack.indexer else case.kv_len
        work = costs.work(counts_of(replace(case, kv_len=tokens)))
        layer_us = ceilings.floor_us(work.bytes_moved, work.flops, case.dtype)
        if layer_us is None:
            return None
        if stack.indexer:
            scored = case.batch * case.kv_len
            flops = stack.indexer.flops_per_pair * scored
            layer_us += ceilings.floor_us(stack.indexer.bytes_per_token * scored, flops, case.dtype) or 0.0
        total_us += layers * layer_us
    return total_us


def _weights_floor_us(setup: Setup, batch: int) -> float | None:
    """Least time to read a GPU's weights or to multiply with them, whichever is longer, in all layers together."""
    weights, ceilings = setup.weights, setup.gpu.ceilings
    read = weights.bytes_read_per_gpu(setup.point.tp, setup.point.dp, batch)
    return ceilings.floor_us(round(read), round(weights.flops(batch) / setup.num_gpus), setup.point.case.dtype)


def _attention_us(setup: Setup, attended: Sequence[tuple[int, Case]], calibration: "Calibration") -> Latency:
    """Attention in all layers as a run's kernels do it; None with an indexer, and for a cache that they do not take."""
    if setup.stack.indexer or setup.point.held_in != setup.point.case.dtype:
        return UNKNOWN
    sums = [0.0, 0.0, 0.0]
    for layers, case in attended:
        for at, latency in enumerate(calibration.latency_us(case, setup.gpu)):
            if latency is None:
                return UNKNOWN
            sums[at] += layers * latency
    return sums[0], sums[1], sums[2]


def attended_cases(setup: Setup, batch: int) -> tuple[tuple[int, Case], ...]:
    """How many layers attend to as many tokens in a step of `batch` requests, and what of it one rank computes."""
    case = replace(setup.point.rank_case, batch=max(1, -(-batch // setup.point.dp)))
    return tuple((layers, replace(case, kv_len=tokens)) for layers, tokens in setup.stack.attending(case.kv_len))


def least_tp(setup: Setup) -> int | None:
    """The fewest GPUs for a replica that leave room beside the weights and the reserve; None where none do."""
    tps = possible_tps(setup.point.case.variant)
    return next((tp for tp in tps if setup.weights.bytes_per_gpu(tp, setup.point.dp) < _usable_bytes(setup)), None)


def check_some_fit(setups: Sequence[Setup]) -> None:
    """Raise `UsageError` where the weights leave no room on any of the machines, with how many GPUs it would take."""
    if any(setup.free_bytes_per_gpu > 0 for setup in setups):
        return
    raise UsageError(_too_many_weights(setups[0]))


def _usable_bytes(setup: Setup) -> float:
    return (setup.gpu.memory_bytes or 0) * (1 - setup.reserve)


def _too_many_weights(setup: Setup) -> str:
    usable, tp = _usable_bytes(setup), least_tp(setup)
    more = "" if tp is None else f"--gpus-count {tp * setup.point.dp} --tp {tp}, or "
    held = format_bytes(setup.weights.bytes_per_gpu(setup.point.tp, setup.point.dp))
    return (
        f"the weights of {setup.point.model.name} take {held} of each GPU, and {setup.gpu.name} has "
        f"{format_bytes(usable)} beside the reserve: {more}fewer bytes with --weights-dtype"
    )
