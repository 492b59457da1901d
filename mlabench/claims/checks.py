"""Every check that the ledger can name: what it computes, and how its value is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlabench.claims import algebra, cache, measured, published, work
from mlabench.units import (
    format_bytes,
    format_change,
    format_count,
    format_error,
    format_exact,
    format_number,
    format_percent,
    format_ratio,
)


@dataclass(frozen=True, slots=True)
class Check:
    """A quantity: the function that computes it from a reading's parameters, and its text.

    One `of_a_run` takes the run first, and gives None for what the run does not hold.
    """

    compute: Callable[..., float | None]
    text: Callable[[float], str]
    of_a_run: bool = False


def _exact_bytes(value: float) -> str:
    return format_bytes(value, digits=6)


def _whole(value: float) -> str:
    return format_exact(round(value))


def _percent(value: float) -> str:
    return format_percent(value, digits=2)


def _rough_percent(value: float) -> str:
    return format_percent(value, digits=1)


def _flop(value: float) -> str:
    return format_count(value, "FLOP", digits=4)


CHECKS: Mapping[str, Check] = {
    "cache_bytes": Check(cache.token_bytes, _exact_bytes),
    "cache_bytes_a_layer": Check(cache.layer_bytes, _exact_bytes),
    "cache_elements": Check(cache.token_elements, _whole),
    "cache_elements_a_layer": Check(cache.layer_elements, _whole),
    "cache_of_a_context": Check(cache.context_bytes, format_bytes),
    "cache_times_smaller": Check(cache.token_ratio, format_ratio),
    "cache_times_smaller_a_layer": Check(cache.ratio, format_ratio),
    "cache_left": Check(cache.token_share, _percent),
    "cache_left_a_layer": Check(cache.share, _percent),
    "cache_saved": Check(cache.token_reduction, _percent),
    "cache_saved_a_layer": Check(cache.reduction, _percent),
    "layers_quotient": Check(cache.layers_ratio, _percent),
    "fp8_cache_bytes": Check(cache.fp8_token_bytes, _exact_bytes),
    "fp8_cache_bytes_a_layer": Check(cache.fp8_layer_bytes, _exact_bytes),
    "index_bytes_a_layer": Check(cache.index_bytes, _exact_bytes),
    "index_growth": Check(cache.index_growth, format_ratio),
    "core_flops": Check(work.pair_flops, _flop),
    "core_flops_quotient": Check(work.pair_flops_ratio, format_ratio),
    "expansion_flops": Check(work.expansion_flops, _flop),
    "expansion_over_absorbed": Check(work.expansion_over_absorbed, format_ratio),
    "intensity": Check(work.pair_flops_per_byte_of_cache, lambda value: format_number(value, digits=4)),
    "intensity_over_ridge": Check(work.over_ridge, _rough_percent),
    "ridge": Check(work.ridge, format_number),
    "critical_heads": Check(work.critical_heads, _whole),
    "floor_speedup": Check(work.floor_speedup, format_ratio),
    "layer_weights": Check(work.layer_weights, lambda value: format_number(value, digits=4)),
    "layer_weights_quotient": Check(work.layer_weights_ratio, format_ratio),
    "layer_flops_quotient": Check(work.layer_flops_ratio, format_ratio),
    "layer_flops_cross": Check(work.layer_flops_cross, _whole),
    "differing_sizes": Check(work.differing_sizes, _whole),
    "kv_heads_share": Check(work.kv_heads_share, _percent),
    "score_flops_quotient": Check(work.score_flops_ratio, format_ratio),
    "rope_share_of_cache": Check(work.rope_share_of_cache, _percent),
    "expanded_width_over_latent": Check(work.expanded_width_over_latent, format_ratio),
    "latent_share_of_keys": Check(work.latent_share_of_keys, _percent),
    "rank_share": Check(work.rank_share, _percent),
    "fold_error": Check(algebra.fold_error, format_error),
    "fold_error_behind_rope": Check(algebra.fold_error_behind_rope, format_error),
    "rank_behind_rope": Check(algebra.rank_behind_rope, format_ratio),
    "rank_of_keys_and_values": Check(algebra.rank_of_keys_and_values, format_ratio),
    "rank_of_update": Check(algebra.rank_of_update, format_ratio),
    "rank_beside_frozen_weight": Check(algebra.rank_beside_frozen_weight, format_ratio),
    "low_rank_share": Check(algebra.low_rank_share, _percent),
    "published": Check(published.value, lambda value: format_number(value, digits=4)),
    "published_quotient": Check(published.quotient, format_ratio),
    "published_share": Check(published.quotient, _rough_percent),
    "published_change": Check(published.change, format_change),
    "max_context": Check(published.max_context, _whole),
    "parameters_in_billions": Check(published.parameters_in_billions, lambda value: format_number(value, digits=4)),
    "measured_lead": Check(measured.lead, _rough_percent, of_a_run=True),
    "measured_lowest_speedup": Check(measured.lowest_speedup, format_ratio, of_a_run=True),
    "measured_highest_speedup": Check(measured.highest_speedup, format_ratio, of_a_run=True),
    "measured_memory_bound": Check(measured.memory_bound_share, _rough_percent, of_a_run=True),
    "measured_best_bandwidth": Check(measured.best_bandwidth_share, _rough_percent, of_a_run=True),
    "measured_best_flops": Check(measured.best_flops_share, _rough_percent, of_a_run=True),
}
"""By the name that a reading gives."""
