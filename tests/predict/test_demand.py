"""What a call asks of a GPU: the bytes and FLOP of its case, and what of the SMs its tiles keep busy."""

from typing import Any

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.machine.ceilings import Ceilings
from mlabench.predict.demand import TILE_ROWS, Demand, demand_of

CEILINGS = Ceilings(4e12, 4e12, 4e12, {"bfloat16": 800e12})
SMS = 132


def make(**fields: Any) -> Case:
    (case,) = make_cases({name: (value,) for name, value in fields.items()})
    return case


def demand(**fields: Any) -> Demand:
    found = demand_of(make(**fields), CEILINGS, SMS)
    assert found is not None
    return found


@pytest.mark.parametrize("form", ["absorbed", "recompute", "expanded"])
def test_decode_asks_for_the_bytes_and_flop_of_its_case(form: str) -> None:
    case, found = make(variant="mla", form=form, kv_len=4096), demand(variant="mla", form=form, kv_len=4096)
    assert found.memory_us == pytest.approx(case.bytes_moved / 4e12 * 1e6)
    assert found.compute_us + found.expand_us == pytest.approx(case.flops / 800e12 * 1e6)
    assert (found.expand_us > 0) == (form == "recompute")


def test_an_unknown_rate_is_no_demand() -> None:
    assert demand_of(make(dtype="float32"), CEILINGS, SMS) is None


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        # One tile a request: its tokens are cut as long as two cuts of each still find an SM.
        ({"variant": "mla", "num_q_heads": 64, "batch": 66}, 66 * 64),
        ({"variant": "mla", "num_q_heads": 64, "batch": 67}, 0),
        ({"variant": "mla", "num_q_heads": 128, "batch": 33}, 33 * 128),
        ({"variant": "mla", "num_q_heads": 128, "batch": 34}, 0),
        # A tile for each KV head.
        ({"variant": "gqa", "num_q_heads": 128, "batch": 8}, 8 * 128),
        ({"variant": "gqa", "num_q_heads": 128, "batch": 9}, 0),
        ({"variant": "mha", "num_q_heads": 64, "batch": 1}, 64),
        ({"variant": "mha", "num_q_heads": 128, "batch": 1}, 0),
        ({"variant": "mqa", "num_q_heads": 128, "batch": 32, "q_len": 1}, 32 * 128),
        ({"variant": "mqa", "num_q_heads": 128, "batch": 32, "q_len": 2}, 0),
    ],
)
def test_rows_are_merged_where_requests_are_cut(fields: dict[str, Any], rows: int) -> None:
    assert demand(**fields).merged_rows == rows


def test_prefill_takes_whole_waves_of_whole_tiles() -> None:
    sizes = {"phase": "prefill", "variant": "mla", "form": "absorbed", "num_q_heads": 128, "kv_len": 32768}
    # 16, 32 and 64 new tokens are 32, 64 and 128 tiles, which all take one wave.
    one, two, four = (demand(**sizes, q_len=q_len).compute_us for q_len in (16, 32, 64))
    assert one == pytest.approx(two, rel=0.01)
    assert four == pytest.approx(two, rel=0.01)
    case = make(**sizes, q_len=64)
    assert four == pytest.approx(case.flops / 800e12 * 1e6 * SMS / 128)
    long = make(**sizes, q_len=8192)
    assert demand(**sizes, q_len=8192).compute_us == pytest.approx(long.flops / 800e12 * 1e6, rel=0.01)


def test_prefill_of_expanded_heads_fills_tiles_of_one_head() -> None:
    sizes = {"phase": "prefill", "variant": "mha", "num_q_heads": 128, "kv_len": 8192}
    few, full = demand(**sizes, q_len=1), demand(**sizes, q_len=TILE_ROWS)
    assert few.compute_us == pytest.approx(full.compute_us, rel=0.01)
    assert few.merged_rows == full.merged_rows == 0


def test_a_layer_asks_for_its_projections_too() -> None:
    sizes = {"variant": "gqa", "num_q_heads": 64, "kv_len": 1024, "phase": "prefill", "q_len": 16}
    core, layer = make(**sizes), make(**sizes, scope="layer", hidden_size=8192)
    more = demand(**sizes, scope="layer", hidden_size=8192).compute_us - demand(**sizes).compute_us
    assert more == pytest.approx((layer.flops - core.flops) / 800e12 * 1e6)
