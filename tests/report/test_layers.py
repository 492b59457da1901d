"""Whole layers in a report: figures and findings of their own, and a table of their parts."""

import re
from pathlib import Path

from mlabench.records.frame import frame
from mlabench.records.record import PartTime, Record
from mlabench.report.findings import findings
from mlabench.report.parts import layer_rows
from mlabench.report.series import make_views
from mlabench.report.write import slug, write_report
from tests.factories import make_case, make_record, make_run


def layer_record(latency_us: float, **fields: object) -> Record:
    case = make_case(**{"scope": "layer", "hidden_size": 7168, "kv_len": 4096, "batch": 8, **fields})
    times = (float(number) for number in range(1, len(case.parts) + 1))
    parts = tuple(
        PartTime(part.name, time, part.weight_bytes, part.flops, part.bytes_moved)
        for part, time in zip(case.parts, times, strict=True)
    )
    return make_record(case, latency_us=latency_us, parts=parts)


def core_record(latency_us: float, **fields: object) -> Record:
    return make_record(make_case(**{"kv_len": 4096, "batch": 8, **fields}), latency_us=latency_us)


def test_layers_and_cores_are_never_drawn_together_nor_layers_of_two_widths() -> None:
    records = [
        core_record(10, variant="mla"),
        core_record(30, variant="mha"),
        layer_record(100, variant="mla"),
        layer_record(110, variant="gqa"),
        layer_record(120, variant="gqa", hidden_size=8192),
    ]
    views = make_views([make_run(None, records)])
    seen = {(view.context.scope, view.context.hidden_size): set(view.frame["latency_us"]) for view in views}
    assert seen == {("core", None): {10, 30}, ("layer", 7168): {100, 110}, ("layer", 8192): {120}}
    assert len({slug(view) for view in views}) == 3
    assert len({view.title for view in views}) == 3
    assert not any(view.context.left_out for view in views)


def test_a_finding_says_that_it_is_of_whole_layers() -> None:
    records = [layer_record(100, variant="mla"), layer_record(200, variant="mha"), core_record(10, variant="mla")]
    views = {
        view.context.scope: [finding.sentence for finding in findings(view)]
        for view in make_views([make_run(None, records)])
    }
    _, speed, roofline = views["layer"]
    assert speed.startswith(
        "In this run's decode of whole layers MLA absorbed with 128 heads ran 2x as fast as MHA at kv_len 4k and batch "
        "8 (100 us against 200 us)"
    )
    assert roofline.startswith("A whole layer of MLA absorbed with 128 heads does")
    assert not any("whole layer" in sentence for sentence in views["core"])


def test_the_premultiplied_form_has_a_line_of_its_own() -> None:
    records = [layer_record(100, form="absorbed"), layer_record(300, form="premultiplied")]
    (view,) = make_views([make_run(None, records)])
    assert [series.name for series in view.context.series] == ["MLA absorbed", "MLA premultiplied"]
    assert view.context.left_out == ()


def test_shares_of_the_parts_make_up_the_whole() -> None:
    table = frame([make_run(None, [layer_record(25, form="absorbed"), core_record(10)])])
    (row,) = layer_rows(table)
    assert (row.label, row.whole, row.together) == ("MLA absorbed (128 heads)", "25 us", "28 us")
    assert [share.name for share in row.shares][-3:] == ["core", "output_up", "output"]
    assert (row.shares[0].latency, row.shares[0].share) == ("1 us", "4%")
    assert round(sum(share.percent for share in row.shares)) == 100


def test_the_page_has_a_table_of_parts_where_layers_were_measured(tmp_path: Path) -> None:
    run = make_run(None, [layer_record(25, form="premultiplied"), core_record(10)])
    write_report([run], tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<h2>Parts of a layer</h2>" in page
    assert re.findall(r'<span( class="core")? style="flex-grow: [\d.]+" title="(\w+): ', page) == [
        ("", "query_premultiplied"),
        ("", "latent"),
        ("", "cache_write"),
        (' class="core"', "core"),
        ("", "output_premultiplied"),
    ]
    assert "whole layer of hidden size 7168" in page
    names = {path.name for path in tmp_path.iterdir()}
    assert "latency-synthetic-h200-bfloat16-graph-layer-7168.png" in names
    write_report([make_run(None, [core_record(10)])], tmp_path / "core")
    assert "Parts of a layer" not in (tmp_path / "core" / "report.html").read_text("utf-8")
