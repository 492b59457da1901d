from typing import Any

import pytest

from mlabench.records.frame import frame
from mlabench.records.record import Record
from mlabench.report.charts import CHARTS
from mlabench.report.charts.colours import cell_colour
from mlabench.report.charts.embed import HEADINGS, Charts, make_charts
from mlabench.report.charts.plots import log_tick_values, zero_axis
from mlabench.report.series import make_views
from mlabench.report.style import STYLES
from mlabench.units import format_bytes
from tests.factories import make_case, make_record, make_run, make_sweep

FULL = make_sweep(batch=(1, 8), kv_len=(1024, 16384), num_q_heads=(16, 128))
NAMES = [row.name for row in CHARTS if row.name not in ("energy", "load")]


def charts_of(records: tuple[Record, ...], names: list[str] = NAMES) -> tuple[Charts, dict[str, Any]]:
    """The charts of the only view, and the page's columns of its records."""
    from mlabench.report.cells import columns
    from mlabench.report.dataset import records_data, with_details

    run = make_run(None, records)
    (view,) = make_views([run])
    table = with_details(frame([run]), [run])
    return make_charts(view, names, table, 0), records_data(table, columns(table, several_runs=False))["columns"]


@pytest.fixture(scope="module")
def full() -> tuple[Charts, dict[str, Any]]:
    pytest.importorskip("bokeh")
    return charts_of(FULL)


def values(column: dict[str, Any], part: str) -> list[Any]:
    return [column[part][code] for code in column["codes"]]


def test_every_column_that_a_chart_names_is_there(full: tuple[Charts, dict[str, Any]]) -> None:
    charts, records = full
    assert [chart["id"] for chart in charts.data["charts"]] == [f"view0-{name}" for name in NAMES]
    for chart in charts.data["charts"]:
        specs = [panel["spec"] for panel in chart["panels"]]
        for spec in specs:
            table = charts.data["tables"][spec["table"]]
            named = {*spec["columns"].values(), *spec["texts"], *spec["where"], *spec["by"], spec["group"]}
            listed = {name for name, _ in chart["listed"]}
            for name in named | listed:
                assert name in table or name.removeprefix("rival.") in records, (chart["id"], name)
            assert all("values" in table.get(name, records.get(name)) for name in spec["columns"].values())


def test_bars_tell_how_many_tokens_a_gigabyte_holds(full: tuple[Charts, dict[str, Any]]) -> None:
    bars = full[0].data["tables"]["kv_bytes"]
    held = dict(zip(values(bars["bytes"], "values"), values(bars["held"], "texts"), strict=True))
    assert held[1152] == "868,055 tokens"
    assert all(text == f"{10**9 // size:,} tokens" for size, text in held.items())


def test_every_series_looks_as_in_the_figures(full: tuple[Charts, dict[str, Any]]) -> None:
    looks = {look["name"]: look for look in full[0].series}
    assert looks["MLA absorbed"]["colour"] == "#D55E00"
    assert (looks["MLA absorbed"]["marker"], looks["MLA absorbed"]["dash"]) == ("diamond", [])
    assert looks["MHA"]["colour"] != looks["MHA"]["dark"]
    assert len({look["marker"] for look in looks.values()}) == len(looks) <= len(STYLES)


def test_speed_up_is_the_rivals_time_over_ones_own() -> None:
    pytest.importorskip("bokeh")
    times = {"mha": 1000.0, "gqa": 200.0, "mla": 50.0}
    records = tuple(make_record(make_case(variant=name, kv_len=1024), latency_us=us) for name, us in times.items())
    charts, columns = charts_of(records, ["speedup"])
    table = charts.data["tables"]["speedup"]
    found = dict(zip(zip(values(table["series"], "texts"), values(table["over"], "texts"), strict=True),
                     values(table["ratio"], "texts"), strict=True))  # fmt: skip
    assert found == {
        ("MLA absorbed", "MHA"): "20x",
        ("GQA-8", "MHA"): "5x",
        ("MLA absorbed", "GQA-8"): "4x",
        ("MHA", "GQA-8"): "0.2x",
    }
    latency = columns["latency_us"]
    rival_times = [latency["texts"][latency["codes"][place]] for place in table["rival"]]
    own_times = [latency["texts"][latency["codes"][place]] for place in table["record"]]
    assert set(zip(own_times, rival_times, strict=True)) == {
        ("50 us", "1 ms"),
        ("200 us", "1 ms"),
        ("50 us", "200 us"),
        ("1 ms", "200 us"),
    }


def test_the_controls_start_where_most_was_measured() -> None:
    pytest.importorskip("bokeh")
    records = make_sweep(batch=(1, 8), kv_len=(1024, 4096)) + make_sweep(batch=(32,), kv_len=(1024,))
    heads, batch = charts_of(records, ["latency"])[0].controls
    assert (heads["label"], heads["options"], heads["start"]) == ("heads", ["128"], "128")
    assert (batch["field"], batch["options"], batch["start"]) == ("batch", ["1", "8", "32"], "8")


def test_energy_and_power_are_drawn_where_they_were_measured() -> None:
    pytest.importorskip("bokeh")
    records = tuple(
        make_record(make_case(variant=name, kv_len=kv_len), method="sustained", throttled=False)
        for name in ("mla", "gqa")
        for kv_len in (1024, 4096)
    )
    run = make_run(None, records)
    (view,) = make_views([run])
    assert not make_charts(view, [], frame([run]), 0).frames
    table = frame([run]).assign(energy_j_per_token=[1e-3, 2e-3, 3e-3, 4e-3], power_w=650.0)
    view.frame["energy_j_per_token"], view.frame["power_w"] = [1e-3, 2e-3, 3e-3, 4e-3], 650.0
    (load,) = make_charts(view, [], table, 0).frames
    assert [panel.title for panel in load.panels] == ["energy per token", "power"]
    assert make_charts(view, [], table, 0, chosen=["latency"]).frames == ()
    assert load.wide


def test_charts_that_would_leave_a_gap_are_wide(full: tuple[Charts, dict[str, Any]]) -> None:
    assert sum(not frame.wide for frame in full[0].frames) % 2 == 0
    (alone,) = charts_of(FULL, ["latency"])[0].frames
    assert alone.wide


def test_cells_are_white_where_both_are_level_and_no_darker_than_their_text_allows() -> None:
    assert cell_colour(1.0) == "#ffffff"
    assert cell_colour(8.0) == cell_colour(50.0)
    assert cell_colour(1 / 8) != cell_colour(8.0)
    for ratio in (0.01, 100.0):
        assert sum(int(cell_colour(ratio)[place : place + 2], 16) for place in (1, 3, 5)) > 3 * 120


def test_axes_have_round_ticks_within_their_ends() -> None:
    assert log_tick_values(0.8, 12) == (1, 2, 5, 10)
    assert log_tick_values(1, 2e6) == (1, 10, 100, 1e3, 1e4, 1e5, 1e6)
    assert zero_axis("", 4.7e12, format_bytes).ticks == (0, 1e12, 2e12, 3e12, 4e12, 5e12)
    assert zero_axis("", 65536, format_bytes, 4).ticks == (0, 20e3, 40e3, 60e3)


def test_headings_of_the_tables_behind_charts_are_words() -> None:
    assert {name for row in CHARTS for name in row.listed} <= set(HEADINGS)
