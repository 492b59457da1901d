"""How the tokens of a batch are split over its requests."""

import math
import random
from functools import lru_cache
from statistics import NormalDist

RAGGED_SIGMA = 1.0
"""Standard deviation of the logarithm of a ragged batch's lengths."""


@lru_cache(maxsize=256)
def split_lengths(batch: int, kv_len: int, least: int, dist: str) -> tuple[int, ...]:
    """Cached tokens of each request, `kv_len` in the mean: all the same, or quantiles of a log-normal, shuffled."""
    if dist == "uniform":
        return (kv_len,) * batch
    quantiles = [NormalDist(0, RAGGED_SIGMA).inv_cdf((i + 0.5) / batch) for i in range(batch)]
    weights = [math.exp(quantile) for quantile in quantiles]
    whole = sum(weights)
    lengths = [max(least, int(batch * kv_len * weight / whole)) for weight in weights]
    lengths[-1] = max(least, lengths[-1] + batch * kv_len - sum(lengths))
    random.Random(0).shuffle(lengths)
    return tuple(lengths)


@lru_cache(maxsize=256)
def split_shares(lengths: tuple[int, ...], total: int) -> tuple[int, ...]:
    """`total` split in proportion to the lengths by largest remainders, at least 1 each.

    No share is over its length while `total` is between how many they are and their sum.
    """
    least: set[int] = set()
    while True:
        rest = [i for i in range(len(lengths)) if i not in least]
        free, whole = total - len(least), sum(lengths[i] for i in rest)
        # What is under one becomes one, and the others have less to share.
        under = [i for i in rest if lengths[i] * free < whole]
        if not under:
            break
        least.update(under)
    shares = [1] * len(lengths)
    for i in rest:
        shares[i] = lengths[i] * free // whole
    by_remainder = sorted(rest, key=lambda i: -(lengths[i] * free % whole))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return tuple(shares)
