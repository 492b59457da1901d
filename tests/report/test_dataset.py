from mlabench.records.frame import frame
from mlabench.report.cells import columns, shared
from mlabench.report.dataset import coded, records_data, with_details
from mlabench.units import format_latency
from tests.factories import make_case, make_record, make_run


def test_texts_stand_once_in_the_order_of_their_values() -> None:
    column = coded([27.44, 3.0, None, 1041.9, 27.41], format_latency, numeric=True)
    assert column["texts"] == ["3 us", "27.4 us", "1.04 ms"]
    assert column["values"] == [3, 27.41, 1042]
    assert column["codes"] == [1, 0, -1, 2, 1]


def test_words_sort_without_their_case_and_one_text_for_all_needs_one_code() -> None:
    assert coded(["b", "A", "C"]) == {"texts": ["A", "b", "C"], "codes": [1, 0, 2]}
    assert coded(["x", "x"]) == {"texts": ["x"], "codes": 0}
    assert coded([None, None]) == {"texts": [], "codes": -1}


def test_counts_stay_exact() -> None:
    assert coded([131072, 65537], numeric=True)["values"] == [65537, 131072]


def test_a_record_keeps_its_reason_and_what_was_not_measured_has_no_value() -> None:
    records = [
        make_record(make_case(kv_len=1024), latency_us=10.0),
        make_record(make_case(kv_len=2048), status="oom", reason="too large"),
    ]
    run = make_run(None, records)
    table = with_details(frame([run]), [run])
    data = records_data(table, columns(table, several_runs=False))
    assert data["rows"] == 2
    assert data["columns"]["latency_us"] == {"texts": ["10 us"], "codes": [0, -1], "values": [10]}
    assert data["columns"]["note"] == {"texts": ["too large"], "codes": [-1, 0]}
    fields = [field for field, *_ in data["shown"]]
    assert {"kv_len", "status", "note"} < set(fields)
    assert {"energy_j_per_token", "power_w", "dtype", "phase", "scope", "q_len"}.isdisjoint(fields)
    assert [text for _, text in shared(table)] == ["bfloat16", "decode", "core", "1"]
