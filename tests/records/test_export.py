import csv
import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import typer
from typer.testing import CliRunner

from mlabench.cli import export as export_command
from mlabench.errors import UsageError
from mlabench.records import export
from mlabench.records.export import FORMATS, MARKDOWN_COLUMNS, export_bytes, write_atomically
from mlabench.records.frame import COLUMNS, DTYPES, frame
from mlabench.records.metrics import METRICS
from mlabench.records.store import Run
from tests.factories import make_case, make_record, make_run, write_run

REQUIRED = {
    *("case_id", "variant", "form", "phase", "kernel", "backend", "batch", "q_len", "kv_len", "num_q_heads"),
    *("num_kv_heads", "dtype", "page_size", "status", "reason", "method", "latency_us", "latency_us_low"),
    *("latency_us_high", "samples", "kv_cache_bytes", "bytes_moved", "flops", "bandwidth_bytes_per_s", "flops_per_s"),
    *("fraction_of_floor", "relative_error"),
}

LATENCY_US = 123.45678901234567
HOSTILE_REASON = 'needs 8 GB | has "4 GB",\nand <b>no</b> more'


@pytest.fixture
def run() -> Run:
    mha = make_case(variant="mha", num_q_heads=16, kv_len=1024, batch=2)
    mla = make_case(kv_len=1024)
    return make_run(
        None, [make_record(mha, latency_us=LATENCY_US), make_record(mla, status="oom", reason=HOSTILE_REASON)]
    )


def test_csv_keeps_numbers_unrounded_and_what_was_not_measured_empty(run: Run) -> None:
    measured, failed = csv.DictReader(io.StringIO(export_bytes(run, "csv").decode()))
    assert list(measured) == list(COLUMNS)
    assert set(measured) >= REQUIRED
    assert float(measured["latency_us"]) == LATENCY_US
    # 2 x 16 heads x 128 x 2 bytes a token, 2 requests of 1024 tokens.
    assert measured["kv_cache_bytes"] == str(2 * 16 * 128 * 2 * 2 * 1024)
    assert (measured["num_kv_heads"], measured["samples"], measured["workspace_bytes"]) == ("16", "20", "0")
    assert (failed["latency_us"], failed["samples"], failed["relative_error"], failed["num_kv_heads"]) == ("",) * 4
    assert failed["reason"] == HOSTILE_REASON


def test_json_has_null_for_what_was_not_measured_and_keeps_integers(run: Run) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    measured, failed = json.loads(export_bytes(run, "json"), parse_constant=refuse)
    assert list(measured) == list(COLUMNS)
    assert measured["latency_us"] == LATENCY_US
    assert type(measured["kv_len"]) is type(measured["flops"]) is type(measured["workspace_bytes"]) is int
    assert (measured["form"], measured["kv_lora_rank"]) == (None, None)
    assert (failed["latency_us"], failed["fraction_of_floor"], failed["samples"]) == (None, None, None)
    assert failed["reason"] == HOSTILE_REASON


def test_parquet_reads_back_with_its_types(run: Run) -> None:
    pytest.importorskip("pyarrow")
    table = pandas.read_parquet(io.BytesIO(export_bytes(run, "parquet")))
    assert list(table.columns) == list(COLUMNS)
    assert table["latency_us"][0] == LATENCY_US
    assert math.isnan(table["latency_us"][1])
    assert table["kv_len"].tolist() == [1024, 1024]
    assert table["workspace_bytes"].isna().tolist() == [False, True]


def test_markdown_is_one_line_a_record_with_escaped_bars(run: Run) -> None:
    header, rule, measured, failed = export_bytes(run, "md").decode().splitlines()
    assert [name.strip() for name in header.strip("|").split("|")] == list(MARKDOWN_COLUMNS)
    assert set(rule) <= set("|:-")
    assert "123.457" in measured
    assert 'needs 8 GB \\| has "4 GB", and <b>no</b> more' in failed
    assert not {"nan", "None", "<NA>"} & set(failed.replace("|", " ").split())


def test_markdown_does_not_take_a_case_id_for_a_number(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    table = frame([run]).assign(case_id=["1234567890e5", "000000000012"])
    monkeypatch.setattr(export, "frame", lambda _: table)
    text = export_bytes(run, "md").decode()
    assert "1234567890e5" in text
    assert "000000000012" in text


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_a_run_without_records_has_columns_and_no_rows(kind: str) -> None:
    content = export_bytes(make_run(None, []), kind)
    if kind == "json":
        assert json.loads(content) == []
    elif kind == "parquet":
        assert pandas.read_parquet(io.BytesIO(content)).shape == (0, len(COLUMNS))
    else:
        assert b"latency_us" in content.splitlines()[0]


def test_columns_have_one_type_whatever_was_measured() -> None:
    case = make_case(kv_len=1024)
    tables = [frame([make_run(None, [make_record(case, status=s)])]) for s in ("ok", "oom")]
    for name in ("latency_us", "samples", "workspace_bytes", "fraction_of_floor", "throttled", "power_w"):
        assert tables[0][name].dtype == tables[1][name].dtype


def test_an_unknown_format_names_the_near_one(run: Run) -> None:
    with pytest.raises(UsageError, match=r"unknown format 'parket': did you mean parquet\?"):
        export_bytes(run, "parket")


def test_parquet_without_pyarrow_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'mlabench\[parquet\]'"):
        export_bytes(run, "parquet")


def test_writing_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    target = tmp_path / "run.csv"
    target.write_text("old")
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["run.csv"]


def test_writing_follows_a_link_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real.csv")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real.csv").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["missing/run.csv", "folder"])
def test_where_nothing_can_be_written_one_line_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*; choose another") as caught:
        write_atomically(tmp_path / name, b"new")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_device_is_written_to_and_not_replaced() -> None:
    null = Path("/dev/null")
    if not null.is_char_device():
        pytest.skip("no /dev/null on this system")
    write_atomically(null, b"new")
    assert null.is_char_device()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(export_command.export)
    return app


def test_the_command_writes_csv_to_standard_output(app: typer.Typer, run: Run, tmp_path: Path) -> None:
    stored = write_run(tmp_path / "first", run)
    done = CliRunner().invoke(app, [str(stored)])
    assert done.exit_code == 0
    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 2


def test_the_command_takes_the_format_from_the_name_of_the_file(app: typer.Typer, run: Run, tmp_path: Path) -> None:
    stored = write_run(tmp_path / "first", run)
    done = CliRunner().invoke(app, [str(stored), "-o", str(tmp_path / "first.json")])
    assert (done.exit_code, done.stdout) == (0, "")
    assert len(json.loads((tmp_path / "first.json").read_text())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "parquet"], "parquet is binary and needs a file"),
        (["--format", "xlsx"], "unknown format 'xlsx'"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    app: typer.Typer, run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = CliRunner().invoke(app, [str(write_run(tmp_path / "first", run)), *arguments])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


def test_the_command_refuses_a_folder_that_is_no_run(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "is not a run directory" in str(done.exception)


def test_a_table_holds_what_a_gpu_tells_and_what_it_does_not() -> None:
    """Clocks that are no whole numbers, energy, and records without any of it, in one table."""
    base = make_record(make_case(), method="sustained", latency_us=1000.0)
    assert base.timing is not None
    at_s = [0.02 * step for step in range(100)]
    telemetry = {
        "at_s": at_s,
        "energy_j": [60.0 * (step // 5) for step in range(100)],
        "sm_clock_mhz": [1980] * 100,
        "power_w": [600.5] * 100,
        "temperature_c": [51] * 100,
        "compute_processes": [2] * 100,
    }
    clocks = tuple(1970.25 + 0.1 * step for step in range(len(base.timing.samples_us)))
    told = replace(base, timing=replace(base.timing, sm_clocks_mhz=clocks), telemetry=telemetry)
    untold = make_record(make_case(kv_len=8192))
    table = frame([make_run(None, [told, untold])])
    assert table["sm_clock_mhz"].tolist()[0] == pytest.approx(1971.2)
    assert table["energy_j_per_call"].tolist()[0] == pytest.approx(0.6)
    assert table["gpu_processes"].tolist()[0] == 2
    assert (
        table.loc[1, ["sm_clock_mhz", "sm_clock_change", "cycles", "energy_j_per_token", "gpu_processes"]].isna().all()
    )


def test_every_metric_that_may_be_missing_has_a_type() -> None:
    (row,) = frame([make_run(None, [make_record(make_case(), status="oom")])]).to_dict("records")
    missing = {metric.name for metric in METRICS if pandas.isna(row[metric.name])}
    assert missing - DTYPES.keys() <= {"cache", "bound"}
