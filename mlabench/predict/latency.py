"""Latencies with their interval, and how one stands to another."""

import math

Latency = tuple[float | None, float | None, float | None]
"""A latency in microseconds, or a quotient of two, and the ends of its interval."""

UNKNOWN: Latency = (None, None, None)


def speedup(own: Latency, other: Latency) -> Latency:
    """How many times longer the other takes, with an interval; None where one of the two is not known.

    Both intervals are taken to be of independent errors, so that on a logarithmic scale their reaches add up in
    squares; tests hold the share of a run's measured quotients that lie within to the interval's own.
    """
    own_us, own_low, own_high = own
    other_us, other_low, other_high = other
    if not (own_us and own_low and own_high and other_us and other_low and other_high):
        return UNKNOWN
    ratio = other_us / own_us
    down = math.hypot(math.log(own_high / own_us), math.log(other_us / other_low))
    up = math.hypot(math.log(own_us / own_low), math.log(other_high / other_us))
    return ratio, ratio * math.exp(-down), ratio * math.exp(up)
