"""Records of whole layers: their parts are stored, and those of a core are written as ever."""

import csv
import io
import json
from typing import Any

import pytest

from mlabench.records.export import FORMATS, export_bytes
from mlabench.records.frame import rows
from mlabench.records.record import PartTime, Record
from tests.factories import CEILINGS, make_case, make_record, make_run

LAYER = make_case(scope="layer", hidden_size=7168, q_lora_rank=1536, kv_len=1024)


def layer_record(**fields: Any) -> Record:
    times = zip(LAYER.parts, (10.0, 5.0, 1.0, 2.0, 50.0, 3.0, 9.0), strict=True)
    parts = tuple(
        PartTime(part.name, time_us, part.weight_bytes, part.flops, part.bytes_moved) for part, time_us in times
    )
    return make_record(LAYER, latency_us=70.0, **{"parts": parts, **fields})


def test_parts_come_back_as_they_were_written() -> None:
    record = layer_record()
    plain = json.loads(json.dumps(record.to_json()))
    assert [part["name"] for part in plain["parts"]] == [part.name for part in LAYER.parts]
    assert Record.from_json(plain) == record
    assert plain["case"]["hidden_size"] == 7168


def test_a_cores_record_is_written_as_before_there_were_layers() -> None:
    plain = make_record(make_case(kv_len=1024)).to_json()
    assert "parts" not in plain
    assert not {"hidden_size", "q_lora_rank"} & set(plain["case"])
    assert Record.from_json(plain).parts == ()


def test_a_record_without_a_scope_is_a_cores() -> None:
    plain = make_record(make_case(kv_len=1024)).to_json()
    del plain["case"]["scope"]
    record = Record.from_json(plain)
    assert record.case == make_case(kv_len=1024)
    assert record.case.case_id == plain["case_id"]


@pytest.mark.parametrize("broken", [{"latency_us": 0.0}, {"latency_us": float("inf")}, {"flops": 1.5}, {"name": None}])
def test_damaged_parts_are_no_record(broken: dict[str, object]) -> None:
    plain = layer_record().to_json()
    plain["parts"][0] |= broken
    if broken == {"name": None}:
        del plain["parts"][0]["name"]
    with pytest.raises((ValueError, TypeError, KeyError)):
        Record.from_json(plain)


def test_metrics_are_of_the_whole_layer_and_name_its_parts_together() -> None:
    (row,) = rows(make_run(None, [layer_record()]))
    assert (row["latency_us"], row["parts_latency_us"], row["core_latency_us"]) == (70.0, 80.0, 50.0)
    assert row["bytes_moved"] == sum(part.bytes_moved for part in LAYER.parts)
    assert row["flops"] == sum(part.flops for part in LAYER.parts)
    assert row["bandwidth_bytes_per_s"] == pytest.approx(row["bytes_moved"] / 70e-6)
    assert row["floor_us"] == CEILINGS["cuda"].floor_us(LAYER.unavoidable_bytes, LAYER.flops, "bfloat16")
    assert row["arithmetic_intensity_flops_per_byte"] == LAYER.flops / row["unavoidable_bytes"]
    assert (row["scope"], row["hidden_size"], row["q_lora_rank"]) == ("layer", 7168, 1536)
    (core,) = rows(make_run(None, [make_record(make_case(kv_len=1024))]))
    assert (core["parts_latency_us"], core["core_latency_us"], core["parts"], core["hidden_size"]) == (None,) * 4


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "parquet"])
def test_every_export_says_the_scope(kind: str) -> None:
    run = make_run(None, [layer_record(), make_record(make_case(kv_len=1024))])
    text = export_bytes(run, kind).decode()
    assert "layer" in text
    assert "core" in text


def test_an_exported_table_holds_the_parts() -> None:
    run = make_run(None, [layer_record(), make_record(make_case(kv_len=1024))])
    layer, core = csv.DictReader(io.StringIO(export_bytes(run, "csv").decode()))
    assert json.loads(layer["parts"])[4] == {
        "name": "core",
        "latency_us": 50.0,
        "weight_bytes": 0,
        "flops": LAYER.core.flops,
        "bytes_moved": LAYER.core.bytes_moved,
    }
    assert core["parts"] == ""
