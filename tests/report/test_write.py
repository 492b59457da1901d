from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mlabench.cli import report as report_command
from mlabench.errors import UsageError
from mlabench.records.store import Run
from mlabench.report.charts import CHARTS
from mlabench.report.figures import FIGURES
from mlabench.report.write import write_report
from tests.factories import make_case, make_record, make_run, make_sweep, write_run
from tests.report.pages import unpacked

HOSTILE = '</td><script>alert("x")</script> & <img src=http://example.org/x.png>'
DRAWN = [row.name for row in FIGURES if row.name not in ("kernels", "energy")]
"""What is drawn where each case was measured on one kernel."""
VOID = {"meta", "img", "input", "link", "br"}


class Page(HTMLParser):
    """Collects what the tests ask about, and fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.resources: list[str] = []
        self.links: list[str] = []
        self.policies: list[str] = []
        self.data: dict[str, Any] = {}
        self.images: list[dict[str, str | None]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.resources += [value or "" for name, value in attrs if name in ("src", "srcset")]
        self.links += [value or "" for name, value in attrs if name == "href"]
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policies.append(dict(attrs)["content"] or "")
        self.holds_data = ("id", "data") in attrs
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "td":
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and self.holds_data:
            self.data = unpacked(data)
        if not {"script", "style"} & set(self.open):
            self.text += data
        if "td" in self.open:
            self.cells[-1] += data

    def column(self, field: str) -> list[str]:
        """A column of the table of all records, as its script reads it."""
        records = self.data["records"]
        column = records["columns"][field]
        codes = column["codes"] if isinstance(column["codes"], list) else [column["codes"]] * records["rows"]
        return ["–" if code < 0 else column["texts"][code] for code in codes]


@pytest.fixture(scope="module")
def run() -> Run:
    records = list(make_sweep(batch=(1, 8), kv_len=(1024, 4096)))
    records[0] = make_record(records[0].case, "mha_synthetic", throttled=True)
    records[1] = make_record(records[1].case, "mha_synthetic", latency_us=0.5)
    records[2] = make_record(records[2].case, "mha_synthetic", status="error", reason=HOSTILE)
    provenance = {"version": "0.1.0", "commit": "abcdef0123456789", "dirty": True, "source_digest": "feed"}
    return make_run(None, records, provenance=provenance, warnings=["synthetic: the last line was cut short"])


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    written = write_report([run], out, title=f"Title {HOSTILE}")
    assert sorted(written) == sorted(out.iterdir())
    return out


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_and_every_figure_are_written(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.html", *(f"{name}.png" for name in DRAWN)}
    assert (folder / "report.html").stat().st_size < 1_500_000


def test_the_page_needs_nothing_from_outside(folder: Path, page: Page) -> None:
    assert page.policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]
    assert all(resource.startswith("data:image/png;base64,") for resource in page.resources)
    assert "link" not in page.tags
    files = {link for link in page.links if not link.startswith("#")}
    assert files == {f"{name}.png" for name in DRAWN}
    assert all((folder / name).is_file() for name in files)


def test_the_page_escapes_hostile_text(page: Page) -> None:
    assert page.tags.count("script") == 3
    assert HOSTILE in page.column("note")
    assert HOSTILE in page.cells
    assert f"Title {HOSTILE}" in page.text


def test_the_page_is_semantic_and_its_images_have_alternative_text(page: Page) -> None:
    assert page.tags.count("main") == page.tags.count("h1") == 1
    assert page.tags.count("figure") == page.tags.count("figcaption") == len(DRAWN)
    assert page.tags.count("caption") == page.tags.count("table") == 3
    assert page.tags.count("h3") >= len(DRAWN)


def test_the_page_holds_the_computed_numbers(page: Page) -> None:
    assert "1,152 B per token and layer in bfloat16 at 128 heads: 56.9x fewer than MHA (65,536 B)" in page.text
    assert "3.56x fewer than GQA-8 (4,096 B)" in page.text
    assert "measured ridge of 183 FLOP per byte" in page.text
    assert "23 measured of 24 records" in page.text
    assert "0.5 us" in page.column("latency_us")


def test_the_page_tells_the_environment(page: Page) -> None:
    for fact in (
        "abcdef0123456789 (with uncommitted changes)",
        "580.0",
        "4.2 TB/s",
        "788 TFLOP/s bfloat16",
        "700 W",
        "cold",
    ):
        assert fact in page.text


@pytest.mark.parametrize(
    "warning",
    [
        "synthetic: the last line was cut short",
        "the code had uncommitted changes",
        "1 of 24 records have no time: 1 error.",
        "1 of 23 measured points were measured with the clocks held down",
        "1 of 23 measured points took less than the roofline's least time",
    ],
)
def test_the_page_warns(page: Page, warning: str) -> None:
    assert warning in page.text


def test_a_figure_left_out_is_explained(tmp_path: Path) -> None:
    (only,) = write_report([make_run(None, [make_record(make_case(kv_len=1024))], ceilings=None)], tmp_path, ["html"])
    text = Page(only.read_text("utf-8")).text
    assert "Roofline is left out: the run holds no measured ceilings for bfloat16." in text
    assert "Speed-up over MHA and GQA is left out" in text
    assert "the machine's ceilings were not measured" in text


def test_what_holds_in_both_phases_is_told_once(tmp_path: Path) -> None:
    records = [
        record
        for phase in ("decode", "prefill")
        for record in make_sweep(phase=(phase,), variant=("mha", "mla"), form=("absorbed",), batch=(1,), kv_len=(1024,))
    ]
    written = write_report([make_run(None, records)], tmp_path)
    names = [path.name for path in written]
    assert len([name for name in names if name.startswith("latency")]) == 2
    assert len([name for name in names if name.startswith("kv_bytes")]) == 1
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert page.text.count("per token and layer in bfloat16 at 128 heads") == 1
    titles = [chart["title"] for view in page.data["views"] for chart in view["charts"]]
    assert titles.count("KV-cache bytes per token and layer") == 1
    assert {"Decode latency", "Latency"} < set(titles)


def test_a_view_that_caches_otherwise_keeps_its_own_figure(tmp_path: Path) -> None:
    records = [
        make_record(make_case(phase=phase, form=form, kv_len=1024))
        for phase, form in (("decode", "absorbed"), ("prefill", "expanded"))
    ]
    names = [path.name for path in write_report([make_run(None, records)], tmp_path, ["png"])]
    assert len([name for name in names if name.startswith("kv_bytes")]) == 2


def test_the_table_tells_decode_from_prefill(tmp_path: Path) -> None:
    records = [make_record(make_case(phase=phase, kv_len=1024)) for phase in ("decode", "prefill")]
    (only,) = write_report([make_run(None, records)], tmp_path, ["html"])
    assert Page(only.read_text("utf-8")).column("phase") == ["decode", "prefill"]


def test_two_machines_get_figures_of_their_own(tmp_path: Path) -> None:
    runs = [
        make_run(Path("one"), [make_record(make_case(kv_len=1024))]),
        make_run(Path("two"), [make_record(make_case(kv_len=1024), device="cpu")], "cpu"),
    ]
    names = {path.name for path in write_report(runs, tmp_path)}
    assert {"latency-synthetic-h200-bfloat16-graph.png", "latency-synthetic-cpu-bfloat16-graph.png"} <= names
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "What attention costs on Synthetic H200 and Synthetic CPU" in page.text
    assert page.column("run") == ["one", "two"]


def test_charts_need_the_page_alone_and_their_pictures_lie_beside_it(page: Page) -> None:
    assert page.images == []
    (view,) = page.data["views"]
    assert [chart["id"].removeprefix("view0-") for chart in view["charts"]] == [
        row.name for row in CHARTS if row.name in DRAWN
    ]


def test_without_bokeh_the_page_holds_the_pictures_and_says_why(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlabench.report.charts.find_spec", {}.get)
    write_report([run], tmp_path, ["html"])
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert len(page.images) == len(DRAWN)
    assert all("Synthetic H200" in (image["alt"] or "") for image in page.images)
    assert page.data["views"] == []
    assert page.tags.count("script") == 2
    assert "interactive charts need the Python package bokeh" in page.text
    assert not [link for link in page.links if not link.startswith("#")]


def test_more_records_than_charts_can_hold_are_drawn_as_pictures(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlabench.report.page.MOST_ROWS", 23)
    write_report([run], tmp_path, ["html"])
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert len(page.images) == len(DRAWN)
    assert "interactive charts are drawn of at most 23 records" in page.text


def test_only_failures_make_a_page_with_their_reasons(tmp_path: Path) -> None:
    record = make_record(make_case(kv_len=1024), status="unavailable", reason="needs a GPU")
    (only,) = write_report([make_run(None, [record])], tmp_path, ["html"])
    page = Page(only.read_text("utf-8"))
    assert "needs a GPU" in page.cells
    assert "0 measured of 1 records" in page.text


def test_the_same_runs_give_the_same_files(tmp_path: Path) -> None:
    small = make_run(None, make_sweep(variant=("mha", "mla"), form=("absorbed",), batch=(1,), kv_len=(1024,)))
    first, second = (write_report([small], tmp_path / name, ["html", "svg"]) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_only_the_formats_asked_for_are_written(tmp_path: Path) -> None:
    written = write_report([make_run(None, [make_record(make_case(kv_len=1024))])], tmp_path, ["svg"])
    assert {path.suffix for path in written} == {".svg"}
    assert "latency.svg" in {path.name for path in written}


def test_a_long_table_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlabench.report.dataset.MOST_ROWS", 10)
    monkeypatch.setattr("mlabench.report.page.MOST_ROWS", 10)
    failed = [make_record(make_case(kv_len=1024 * place), status="oom") for place in range(1, 25)]
    (only,) = write_report([make_run(None, failed)], tmp_path, ["html"])
    page = Page(only.read_text("utf-8"))
    assert "10 shown" in page.text
    assert "14 more are in the run: mlabench export writes them all" in page.text
    assert page.data["records"]["rows"] == 10


@pytest.mark.parametrize(
    ("formats", "message"),
    [(["html", "pdf"], "unknown format 'pdf'"), ([], "no format is asked for"), (["pgn"], "did you mean png")],
)
def test_formats_that_cannot_be_are_refused(run: Run, tmp_path: Path, formats: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        write_report([run], tmp_path, formats)
    assert list(tmp_path.iterdir()) == []


def test_runs_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no records to report"):
        write_report([make_run(tmp_path / "bare", [])], tmp_path)


def test_a_folder_that_cannot_be_made_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot make .*; choose another -o"):
        write_report([run], tmp_path / "file" / "report", ["html"])


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(report_command.report)
    return app


def test_the_command_writes_into_the_run_and_prints_the_paths(app: typer.Typer, tmp_path: Path) -> None:
    stored = write_run(tmp_path / "first", make_run(None, [make_record(make_case(kv_len=1024))]))
    done = CliRunner().invoke(app, [str(stored), "--format", "html"])
    assert (done.exit_code, done.stdout.strip()) == (0, str(stored / "report" / "report.html"))
    assert (stored / "report" / "report.html").is_file()


def test_the_command_takes_the_newest_run_by_default(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, [])
    assert isinstance(refused.exception, UsageError)
    (tmp_path / "results/runs").mkdir(parents=True)
    for name in ("20260101-a", "20260102-b"):
        write_run(tmp_path / "results/runs" / name, make_run(None, [make_record(make_case(kv_len=1024))]))
    done = CliRunner().invoke(app, ["--format", "html"])
    assert done.stdout.strip() == "results/runs/20260102-b/report/report.html"
