"""What claims read from a run, on made-up times."""

from collections.abc import Sequence
from typing import Any

import pytest

from mlabench.claims import measured
from mlabench.records.record import PartTime, Record
from mlabench.records.store import Run
from tests.factories import make_case, make_record, make_run

ABSORBED, RECOMPUTE = "mla absorbed", "mla recompute"


@pytest.fixture(scope="module")
def cores() -> Run:
    sizes = {"num_q_heads": 16, "kv_len": 4096}
    cases = {name: make_case(variant=name, **sizes) for name in ("mha", "gqa", "mla")}
    longer = make_case(variant="mla", num_q_heads=16, kv_len=8192)
    times_us = {cases["mha"]: (90.0,), cases["gqa"]: (40.0,), cases["mla"]: (50.0, 20.0), longer: (1.0,)}
    records = [
        make_record(case, f"kernel_{n}", time) for case, times in times_us.items() for n, time in enumerate(times)
    ]
    return make_run(None, [*records, make_record(cases["gqa"], "wrong", status="incorrect")])


def test_the_fastest_kernels_of_equal_sizes_are_held_against_each_other(cores: Run) -> None:
    assert measured.lead(cores, ABSORBED, "gqa") == 1
    assert measured.lead(cores, "mha", "gqa") == 0
    assert measured.highest_quotient(cores, ABSORBED, "mha") == 4.5
    assert measured.lowest_quotient(cores, ABSORBED, "gqa") == 2


def test_a_run_says_what_binds_by_its_own_ceilings(cores: Run) -> None:
    ceilings = cores.manifest.ceilings
    assert ceilings is not None
    mha, where = make_case(variant="mha", num_q_heads=16, kv_len=4096), {"num_q_heads": 16}
    assert measured.memory_bound_share(cores, "mha", **where) == 1
    bandwidth = measured.best_bandwidth_share(cores, "mha", **where)
    assert bandwidth == pytest.approx(ceilings.memory_us(mha.bytes_moved) / 90)
    assert measured.best_flops_share(cores, "mha", **where) == pytest.approx(mha.flops / 788e12 * 1e6 / 90)


def test_a_run_without_the_points_gives_no_value(cores: Run) -> None:
    assert measured.lead(cores, ABSORBED, "mla expanded") is None
    assert measured.highest_quotient(cores, "mqa", "mha") is None
    assert measured.lead(cores, ABSORBED, "mha", phase="prefill") is None
    assert measured.lead(cores, ABSORBED, "mha", quantity="energy") is None
    assert measured.ahead_from(cores, "mqa", "mha", "kv_len") is None
    assert measured.memory_bound_share(cores, "mha", num_q_heads=7) is None
    assert measured.best_flops_share(cores, "mha", num_q_heads=7) is None
    assert measured.lowest_share_of_parts(cores, ABSORBED, ["core"]) is None


@pytest.mark.parametrize(
    ("ratios", "first"),
    [((0.5, 2, 3), 200), ((2, 2, 3), 100), ((2, 0.5, 3), 300), ((2, 2, 1), None)],
    ids=["crosses once", "always", "crosses back", "ends level"],
)
def test_ahead_means_at_every_longer_one(ratios: Sequence[float], first: float | None) -> None:
    records = [
        make_record(make_case(variant=variant, kv_len=kv_len), latency_us=time)
        for kv_len, ratio in zip((100, 200, 300), ratios, strict=True)
        for variant, time in (("mla", 10.0), ("gqa", 10.0 * ratio))
    ]
    assert measured.ahead_from(make_run(None, records), ABSORBED, "gqa", "kv_len") == first


def layer(form: str, time: float, *, hidden_size: int = 64, parts: tuple[PartTime, ...] = (), **fields: Any) -> Record:
    case = make_case(scope="layer", form=form, hidden_size=hidden_size, num_q_heads=4, kv_len=256, **fields)
    return make_record(case, latency_us=time, parts=parts)


def test_layers_are_compared_around_the_same_hidden_size() -> None:
    records = [layer("absorbed", 10), layer("premultiplied", 30), layer("premultiplied", 5, hidden_size=32)]
    run = make_run(None, records)
    where = {"scope": "layer"}
    assert measured.lowest_quotient(run, ABSORBED, "mla premultiplied", **where) == 3
    assert measured.lead(run, ABSORBED, "mla premultiplied") is None, "a layer is no core"


def test_parts_are_shares_of_their_sum() -> None:
    parts = tuple(PartTime(name, time, 1, 1, 1) for name, time in (("query_absorb", 1.0), ("core", 6.0), ("up", 1.0)))
    run = make_run(None, [layer("absorbed", 9, parts=parts), layer("absorbed", 9, batch=2, parts=parts[:2])])
    assert measured.highest_share_of_parts(run, ABSORBED, ["query_absorb", "up"]) == 0.25
    assert measured.lowest_share_of_parts(run, ABSORBED, ["query_absorb"]) == 0.125
    assert measured.highest_share_of_parts(run, ABSORBED, ["query_absorb"]) == 1 / 7


def test_energy_is_of_sustained_calls() -> None:
    def at(variant: str, power_w: float, method: str = "sustained") -> Record:
        sensors = {"at_s": [0.0, 1.0, 2.0, 3.0], "energy_j": [power_w * second for second in range(4)]}
        return make_record(make_case(variant=variant, kv_len=256), latency_us=10, method=method, telemetry=sensors)

    sustained = make_run(None, [at("mla", 200), at("gqa", 500)])
    assert measured.highest_quotient(sustained, ABSORBED, "gqa", quantity="energy") == pytest.approx(2.5)
    burst = make_run(None, [at("mla", 200, "graph"), at("gqa", 500, "graph")])
    assert measured.highest_quotient(burst, ABSORBED, "gqa", quantity="energy") is None


def test_models_are_compared_whatever_their_hidden_size() -> None:
    from dataclasses import replace

    own, other = layer("absorbed", 10), layer("absorbed", 40, hidden_size=32)
    named = [
        replace(record, case=replace(record.case, models=(model,))) for record, model in ((own, "a"), (other, "b"))
    ]
    run = make_run(None, named)
    assert measured.highest_quotient(run, "a absorbed", "b absorbed", scope="layer") == 4
