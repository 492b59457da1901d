"""Every check that the ledger can name: what it computes, and how its value is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlabench.claims import algebra, cache, conversion, forms, measured, published, serving, work
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

ROUNDING = 1e-12
"""Relative error in float64 that sums of some hundred terms do not reach by rounding alone."""


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


def _rounding(value: float) -> str:
    """Digits that only the processor's order of summing decides are left out."""
    return f"less than {format_error(ROUNDING)}" if value < ROUNDING else format_error(value)


def _whole(value: float) -> str:
    return format_exact(round(value))


def _percent(value: float) -> str:
    return format_percent(value, digits=2)


def _rough_percent(value: float) -> str:
    return format_percent(value, digits=1)


def _four_digits(value: float) -> str:
    return format_number(value, digits=4)


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
    "intensity": Check(work.pair_flops_per_byte_of_cache, _four_digits),
    "intensity_over_ridge": Check(work.over_ridge, _rough_percent),
    "ridge": Check(work.ridge, format_number),
    "critical_heads": Check(work.critical_heads, _whole),
    "floor_speedup": Check(work.floor_speedup, format_ratio),
    "layer_weights": Check(work.layer_weights, _four_digits),
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
    "rank_copies": Check(serving.copies, format_ratio),
    "level_new_tokens": Check(serving.level_new_tokens, _whole),
    "shared_prefix_speedup": Check(serving.shared_prefix_speedup, format_ratio),
    "shared_prefix_batch": Check(serving.shared_prefix_batch, _whole),
    "sparse_flops_quotient": Check(serving.sparse_flops_quotient, format_ratio),
    "sparse_level": Check(serving.sparse_level, _whole),
    "grouped_latent_intensity": Check(serving.grouped_latent_intensity, _four_digits),
    "fold_error": Check(algebra.fold_error, _rounding),
    "fold_error_behind_rope": Check(algebra.fold_error_behind_rope, format_error),
    "rank_behind_rope": Check(algebra.rank_behind_rope, format_ratio),
    "rank_of_keys_and_values": Check(algebra.rank_of_keys_and_values, format_ratio),
    "rank_of_update": Check(algebra.rank_of_update, format_ratio),
    "rank_beside_frozen_weight": Check(algebra.rank_beside_frozen_weight, format_ratio),
    "low_rank_share": Check(algebra.low_rank_share, _percent),
    "absorbed_error": Check(forms.absorbed_error, _rounding),
    "premultiplied_error": Check(forms.premultiplied_error, _rounding),
    "shift_error": Check(forms.shift_error, _rounding),
    "gqa_as_mla_error": Check(conversion.gqa_as_mla_error, _rounding),
    "gqa_as_mla_error_behind_rope": Check(conversion.gqa_as_mla_error_behind_rope, format_error),
    "gqa_as_mla_cache": Check(conversion.gqa_as_mla_cache, format_ratio),
    "truncation_error": Check(conversion.truncation_error, _rough_percent),
    "predicted_truncation_error": Check(conversion.predicted_truncation_error, _rough_percent),
    "truncation_surprise": Check(conversion.truncation_surprise, _rounding),
    "published": Check(published.value, _four_digits),
    "published_sum": Check(published.total, _four_digits),
    "published_quotient": Check(published.quotient, format_ratio),
    "published_share": Check(published.quotient, _rough_percent),
    "published_change": Check(published.change, format_change),
    "max_context": Check(published.max_context, _whole),
    "parameters_in_billions": Check(published.parameters_in_billions, _four_digits),
    "measured_lead": Check(measured.lead, _rough_percent, of_a_run=True),
    "measured_lowest_quotient": Check(measured.lowest_quotient, format_ratio, of_a_run=True),
    "measured_highest_quotient": Check(measured.highest_quotient, format_ratio, of_a_run=True),
    "measured_ahead_from": Check(measured.ahead_from, _whole, of_a_run=True),
    "measured_lowest_share_of_parts": Check(measured.lowest_share_of_parts, _rough_percent, of_a_run=True),
    "measured_highest_share_of_parts": Check(measured.highest_share_of_parts, _rough_percent, of_a_run=True),
    "measured_memory_bound": Check(measured.memory_bound_share, _rough_percent, of_a_run=True),
    "measured_best_bandwidth": Check(measured.best_bandwidth_share, _rough_percent, of_a_run=True),
    "measured_best_flops": Check(measured.best_flops_share, _rough_percent, of_a_run=True),
}
"""By the name that a reading gives."""
