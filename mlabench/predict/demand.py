"""What a call asks of a GPU: the times of its roofline, the SMs that it keeps busy, and what is left to merge.

Attention kernels cut their work in tiles of query rows that share a cached head. In decode tiles are few, so a
request's cached tokens are cut too, over the SMs that would idle, and what the cuts found is merged by a second kernel.
In prefill tiles take a request's tokens from first to last, in waves of one tile an SM, of which the last may be short.
"""

import math
from dataclasses import dataclass

from mlabench.cases.case import Case
from mlabench.cases.mla import Mla
from mlabench.machine.ceilings import Ceilings
from mlabench.predict.costs import costs_of, counts_of

TILE_ROWS = 64
"""Query rows of a tile: those of one matrix product of a warp group."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a call would take at a GPU's ceilings, in microseconds, and the query rows that are merged after it.

    `memory_us` is the time of its bytes; `expand_us` that of the FLOP that expand cached latents, before attention can
    begin; `compute_us` that of all others, those of attention times what idle SMs and empty rows of tiles waste.
    """

    memory_us: float
    compute_us: float
    expand_us: float = 0.0
    merged_rows: float = 0.0


def demand_of(case: Case, ceilings: Ceilings, processors: int) -> Demand | None:
    """What a call of the case asks of a GPU with so many SMs; None where the dtype's rate is unknown."""
    rate = ceilings.matmul_flops_per_s.get(case.dtype)
    if rate is None:
        return None
    costs, counts = costs_of(case), counts_of(case)
    attention, expansion = costs.flops_per_pair * counts.pairs, costs.flops_per_token * counts.tokens
    others = costs.flops(counts) - attention - expansion
    rows, tiles = counts.queries * case.variant.num_q_heads, _tiles(case, counts.queries / case.batch)
    waste, merged_rows = 1.0, 0.0
    if case.phase == "prefill":
        waste = math.ceil(tiles / processors) * processors * TILE_ROWS / rows
    elif 2 * tiles <= processors:
        merged_rows = rows
    return Demand(
        memory_us=costs.bytes_moved(counts) / ceilings.bandwidth_bytes_per_s * 1e6,
        compute_us=(attention * waste + others) / rate * 1e6,
        expand_us=expansion / rate * 1e6,
        merged_rows=merged_rows,
    )


def _tiles(case: Case, q_len: float) -> int:
    """Tiles of the batch: requests times the heads that attention reads times the tiles of rows that share one."""
    variant = case.variant
    if isinstance(variant, Mla):
        heads = 1 if variant.core.form == "absorbed" else variant.num_q_heads
    else:
        heads = int(variant.sizes()["num_kv_heads"])
    return case.batch * heads * math.ceil(q_len * variant.num_q_heads / heads / TILE_ROWS)
