"""A case's floor as a function of its `kv_len`, and where two such floors are level, in closed form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlabench.cases.case import Case
from mlabench.cases.variant import Variant
from mlabench.machine.ceilings import Ceilings
from mlabench.predict.costs import Counts, costs_of

Polynomial = tuple[float, float, float]
"""Factors of 1, L and L squared."""

_LEVEL = 1e-9
"""Relative difference up to which two floors are level."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The floor of a case over its `kv_len`: the larger of two polynomials, in microseconds.

    Pages are counted as fractions of one, so that there are no steps; that leaves out at most a page's 4-byte entry in
    the block table for each request. In the prefill of whole prompts `q_len` grows with `kv_len`.
    """

    memory_us: Polynomial
    compute_us: Polynomial

    def __call__(self, kv_len: float) -> float:
        """The floor at a length."""
        return max(_value(self.memory_us, kv_len), _value(self.compute_us, kv_len))


def floor_curve(case: Case, variant: Variant, ceilings: Ceilings) -> Curve | None:
    """The floor of the case with that variant over `kv_len`; None where the dtype's rate is unknown."""
    rate, costs = ceilings.matmul_flops_per_s.get(case.dtype), costs_of(case, variant)
    if rate is None:
        return None
    # A polynomial of degree two is known from three places.
    counts = [_counts_at(case, float(kv_len)) for kv_len in (0, 1, 2)]
    moved, flops = [costs.bytes_moved(count) for count in counts], [costs.flops(count) for count in counts]
    bandwidth = ceilings.bandwidth_bytes_per_s
    return Curve(_through([b / bandwidth * 1e6 for b in moved]), _through([f / rate * 1e6 for f in flops]))


def takes_whole_prompts(case: Case) -> bool:
    """Whether nothing of the case's prompts is cached, so that its `q_len` is its `kv_len` at every length."""
    return case.phase == "prefill" and case.q_len == case.kv_len


def solved_lengths(case: Case) -> tuple[str, ...]:
    """The case's lengths that mean nothing where its `kv_len` is solved for."""
    return ("q_len", "kv_len") if takes_whole_prompts(case) else ("kv_len",)


def crossings(first: Curve, second: Curve, least: float) -> list[float]:
    """The lengths above `least` at which one floor overtakes the other, in order."""
    found = set()
    for one in (first.memory_us, first.compute_us):
        for other in (second.memory_us, second.compute_us):
            difference = tuple(a - b for a, b in zip(one, other, strict=True))
            found |= {root for root in _roots(difference) if root > least}
    return [root for root in sorted(found) if _level(first, second, root) and _changes(first, second, root)]


def _level(first: Curve, second: Curve, kv_len: float) -> bool:
    return math.isclose(first(kv_len), second(kv_len), rel_tol=_LEVEL)


def _changes(first: Curve, second: Curve, kv_len: float) -> bool:
    before, after = kv_len * (1 - 1e-6), kv_len * (1 + 1e-6)
    return (first(before) - second(before)) * (first(after) - second(after)) < 0


def _counts_at(case: Case, kv_len: float) -> Counts:
    whole = takes_whole_prompts(case)
    q_len = kv_len if whole else case.q_len
    pairs = q_len * kv_len - q_len * (q_len - 1) / 2
    batch = case.batch
    return Counts(batch, batch * q_len, batch * kv_len, batch * kv_len / case.page_size, batch * pairs)


def _through(values: Sequence[float]) -> Polynomial:
    at_0, at_1, at_2 = values
    square = (at_2 - 2 * at_1 + at_0) / 2
    # Where the true factor is zero what is left are rounding errors.
    square = 0.0 if abs(square) < 1e-12 * max(map(abs, values)) else square
    return at_0, at_1 - at_0 - square, square


def _value(polynomial: Polynomial, x: float) -> float:
    constant, linear, square = polynomial
    return constant + x * (linear + x * square)


def _roots(polynomial: Sequence[float]) -> list[float]:
    constant, linear, square = polynomial
    if square == 0:
        return [-constant / linear] if linear else []
    discriminant = linear * linear - 4 * square * constant
    if discriminant < 0:
        return []
    # The form that does not cancel: of the two roots the larger in magnitude first.
    half = -(linear + math.copysign(math.sqrt(discriminant), linear)) / 2
    return [half / square, constant / half] if half else [0.0]
