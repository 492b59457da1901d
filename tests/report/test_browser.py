"""The page in a headless Chromium: that it draws, answers, asks nothing of a network, and can be used by all."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlabench.cli.report_steps import moved_between
from mlabench.records.store import load_run
from mlabench.report.interleaved import load_measured
from mlabench.report.write import write_report
from tests.cli.commands import QUICK, run
from tests.factories import make_case, make_record, make_run, make_sweep

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
pytest.importorskip("bokeh", reason="needs the Python package bokeh")

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "results" / "baselines" / "nvidia-h200" / "decode"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")

CASE = make_case(kv_len=1024)

LATENCY = "report.views[0].charts.find((chart) => chart.id === 'view0-latency').plots[0]"


@dataclass
class Opened:
    """A page, with what went wrong on it and what it asked for beside itself."""

    page: Any
    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of the committed baseline, one of a run on a CPU, and one of two such runs."""
    out = tmp_path_factory.mktemp("reports")
    small, later = (
        make_run(
            Path(name), make_sweep("cpu", noise=noise, batch=(1, 2), kv_len=(256, 1024), num_q_heads=(8, 16)), "cpu"
        )
        for name, noise in (("small", 0.01), ("later", 0.2))
    )
    runs = {"baseline": load_measured([BASELINE]), "cpu": [small], "two": [small, later]}
    return {name: write_report(run, out / name, ["html"], moved=moved_between(run))[0] for name, run in runs.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def open_page(browser: Any, path: Path, scheme: str = "light", width: int = 1440) -> Opened:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = Opened(context.new_page())
    opened.page.on("pageerror", lambda error: opened.troubles.append(str(error)))
    opened.page.on(
        "console",
        lambda message: opened.troubles.append(message.text) if message.type in ("error", "warning") else None,
    )
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.goto(path.as_uri())
    opened.page.wait_for_selector(f"body[data-drawn={scheme}]", timeout=60_000)
    return opened


@pytest.fixture(scope="module")
def opened(browser: Any, reports: dict[str, Path]) -> Opened:
    return open_page(browser, reports["baseline"])


def drawn_pixels(page: Any) -> list[int]:
    """How many pixels of each plot's canvas are not blank."""
    count = """(place) => {
        const canvases = [];
        const walk = (root) => root.querySelectorAll("*").forEach((one) => {
            if (one.tagName === "CANVAS") canvases.push(one);
            if (one.shadowRoot) walk(one.shadowRoot);
        });
        walk(place);
        return Math.max(...canvases.filter((one) => one.width && one.height).map((one) => {
            const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
            return data.filter((value, at) => at % 4 === 3 && value > 0).length;
        }));
    }"""
    return [place.evaluate(count) for place in page.query_selector_all(".plot")]


def points_drawn(page: Any) -> list[float]:
    return [float(value) for value in page.evaluate(f"Array.from({LATENCY}.points.data.y)")]


@pytest.mark.parametrize("name", ["baseline", "cpu", "two"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_it_opens_without_a_complaint_or_a_request(
    browser: Any, reports: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    opened = open_page(browser, reports[name], scheme, width)
    assert opened.troubles == []
    assert opened.requests == [reports[name].as_uri()]
    pixels = drawn_pixels(opened.page)
    assert len(pixels) == opened.page.locator(".plot").count() >= 8
    assert min(pixels) > 500
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", ["baseline", "two"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, reports: dict[str, Path], scheme: str, name: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = open_page(browser, reports[name], scheme).page
    page.locator("details summary").first.click()
    page.locator("#records .reveal").first.click()
    found = axe.run(page).response["violations"]
    serious = {one["id"]: [node["html"][:200] for node in one["nodes"]] for one in found
               if one["impact"] in ("serious", "critical")}  # fmt: skip
    assert serious == {}, json.dumps(serious, indent=1)


def test_the_filter_keeps_rows_with_all_its_words(opened: Opened) -> None:
    page = opened.page
    page.fill("#filter", "mla 128k absorbed")
    rows = page.locator("#records tbody tr").all_inner_texts()
    assert rows
    assert all("MLA absorbed" in row and "128k" in row for row in rows)
    assert page.inner_text("#count") == f"{len(rows)} of 451 shown"
    page.fill("#filter", "")
    assert page.inner_text("#count") == "451 shown"


def test_a_heading_sorts_by_what_the_numbers_are(opened: Opened) -> None:
    page = opened.page
    heading = page.locator("#records th", has_text="latency")
    place = heading.evaluate("(one) => one.cellIndex") + 1
    cells = page.locator(f"#records tbody tr td:nth-child({place})")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert cells.first.inner_text().endswith(" us")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert cells.first.inner_text() == page.evaluate("report.data.records.columns.latency_us.texts.at(-1)")


def test_more_rows_come_when_asked_for(opened: Opened) -> None:
    before = opened.page.locator("#records tbody tr").count()
    opened.page.click("#more")
    assert opened.page.locator("#records tbody tr").count() > before


def test_the_controls_change_every_chart(opened: Opened) -> None:
    page = opened.page
    many = points_drawn(page)
    page.select_option("select[name=num_q_heads]", "16")
    few = points_drawn(page)
    assert few != many
    assert "16 heads, batch 8" in page.inner_text("#view0-latency h3")
    assert "16 heads" in page.inner_text("#view0-crossover h3")
    assert "16 heads, batch 8" in (page.get_attribute("#view0-latency-0", "aria-label") or "")
    page.select_option("select[name=batch]", "1")
    assert points_drawn(page) != few
    page.select_option("select[name=num_q_heads]", "128")
    page.select_option("select[name=batch]", "8")
    assert points_drawn(page) == many


def test_a_click_in_the_legend_hides_a_variant_and_shows_it_again(opened: Opened) -> None:
    page = opened.page
    before = points_drawn(page)
    button = page.locator(".legend button", has_text="MLA absorbed")
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert len(points_drawn(page)) < len(before)
    assert page.evaluate(f"{LATENCY}.lines.data.xs.length") == 4
    button.press("Enter")
    assert points_drawn(page) == before


def test_hovering_tells_the_case(opened: Opened) -> None:
    page = opened.page
    place = page.locator("#view0-crossover-0")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    tip = page.locator("table:not(.claims)", has_text="as fast as MHA")
    tip.wait_for(state="visible", timeout=10_000)
    assert re.search(r"MLA absorbed: [\d.]+x as fast as MHA", tip.inner_text())
    assert "mla_decode" in tip.inner_text()
    page.mouse.move(0, 0)


def test_the_numbers_behind_a_chart_are_its_points(opened: Opened) -> None:
    page = opened.page
    page.click("#view0-latency summary")
    rows = page.locator("#view0-latency details tbody tr")
    assert rows.count() == len(points_drawn(page))
    assert "MLA absorbed" in " ".join(rows.all_inner_texts())


def test_a_change_of_scheme_draws_anew(browser: Any, reports: dict[str, Path]) -> None:
    opened = open_page(browser, reports["cpu"])
    colours = f"Array.from({LATENCY}.lines.data.colour)"
    light = opened.page.evaluate(colours)
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_selector("body[data-drawn=dark]")
    assert opened.page.evaluate(colours) != light
    assert opened.troubles == []


def test_the_line_of_a_rows_samples_tells_what_it_spans(opened: Opened) -> None:
    line = opened.page.locator("#records .samples").first
    told = line.get_attribute("aria-label") or ""
    assert re.fullmatch(r"\d+ samples: least [\d.]+ [um]s, median [\d.]+ [um]s, greatest [\d.]+ [um]s", told)
    assert line.locator("title").text_content() == told
    assert len((line.locator("polyline").get_attribute("points") or "").split()) > 10


def test_words_are_not_looked_for_in_the_lines(opened: Opened) -> None:
    shape = opened.page.evaluate("report.data.records.columns.samples_shape.texts[0]")
    opened.page.fill("#filter", shape)
    assert opened.page.inner_text("#count") == "0 of 451 shown"
    opened.page.fill("#filter", "")


def test_a_long_reason_takes_few_lines(browser: Any, tmp_path: Path) -> None:
    reason = "not timed: on a small ragged batch (kv_lens 193, 1, 33) " + "ValueError: what went wrong " * 3
    records = [make_record(CASE, device="cpu"), make_record(CASE, "other", status="error", reason=reason)]
    (path,) = write_report([make_run(tmp_path, records, "cpu")], tmp_path / "report", ["html"])
    rows = "Array.from(document.querySelectorAll('#records tbody tr'), (row) => row.offsetHeight)"
    measured, failed = open_page(browser, path).page.evaluate(rows)
    assert measured < failed < 4 * measured


def test_what_makes_a_record_doubtful_stands_in_its_row(browser: Any, tmp_path: Path) -> None:
    records = [
        make_record(make_case(kv_len=1024), throttled=True),
        make_record(make_case(kv_len=2048), latency_us=0.5),
        make_record(make_case(kv_len=4096), noise=0.4),
    ]
    (path,) = write_report([make_run(None, records)], tmp_path, ["html"])
    notes = open_page(browser, path).page.locator("#records tbody tr td:last-child").all_inner_texts()
    assert notes[0] == "clocks were held down"
    assert notes[1].endswith("x as fast as the roofline allows")
    assert re.match(r"known to ±\d+% only", notes[2])


@pytest.mark.parametrize(
    "axes",
    [
        ("variant=mla", "form=absorbed", "kv_len=130", "kv_len_dist=ragged", "batch=2", "kv_lora_rank=64"),
        ("variant=gqa", "num_kv_heads=2", "kv_len=48", "phase=prefill", "dtype=float32", "page_size=16"),
    ],
)
def test_the_command_of_a_row_measures_it_again(browser: Any, tmp_path: Path, axes: tuple[str, ...]) -> None:
    given = [word for axis in axes for word in ("-a", axis)]
    first, again = tmp_path / "first", tmp_path / "again"
    assert run(*QUICK, "--kernel", "torch", *given, "--seed", "7", "--out", str(first)).returncode == 0
    assert run("report", str(first), "--format", "html").returncode == 0
    page = open_page(browser, first / "report" / "report.html").page
    page.locator("#records .reveal").click()
    program, *words = shlex.split(page.inner_text("#records .command code"))
    assert program == "mlabench"
    assert run(*words, "--sampling-s", "0.01", "--precision", "0.5", "--out", str(again)).returncode == 0
    (one,), (other,) = load_run(first).records, load_run(again).records
    assert (one.key, one.seed, one.case) == (other.key, other.seed, other.case)
    page.locator("#records .reveal").click()
    assert page.locator("#records .command").count() == 0


def test_a_kernel_of_another_commit_is_measured_again_in_its_checkout(browser: Any, tmp_path: Path) -> None:
    records = [make_record(make_case(kv_len=1024), "mla_decode_triton@1a2b3c4")]
    (path,) = write_report([make_run(None, records)], tmp_path, ["html"])
    page = open_page(browser, path).page
    page.locator("#records .reveal").click()
    command = page.inner_text("#records .command code")
    assert "--kernel mla_decode_triton --device cuda --method graph --cache cold" in command
    assert command.endswith("# in a checkout of 1a2b3c4")


def test_the_chart_of_what_moved_is_filled_and_its_legend_hides_verdicts(
    browser: Any, reports: dict[str, Path]
) -> None:
    page = open_page(browser, reports["two"]).page
    drawn = "report.views[0].charts[0].plots[0]"
    assert page.evaluate(f"{drawn}.points.data.name.length") == page.evaluate(f"{drawn}.bars.data.low.length") == 20
    page.click("#moved0 summary")
    rows = page.locator("#moved0 details tbody tr")
    assert rows.count() == page.evaluate("report.views[0].tables.moved.rows") == 44
    button = page.locator("#moved0 .legend button").first
    button.click()
    assert rows.count() < 44
    assert page.evaluate(f"{drawn}.points.data.name.length") < 20
    button.click()
    assert rows.count() == 44


def test_the_crossing_of_two_forms_is_marked_under_the_chosen_conditions(browser: Any, tmp_path: Path) -> None:
    times = {
        (8, "absorbed"): (1.0, 1.0),
        (8, "recompute"): (0.5, 2.0),
        (1, "absorbed"): (1.0, 1.0),
        (1, "recompute"): (2.0, 4.0),
    }
    records = [
        make_record(make_case(form=form, batch=batch, kv_len=kv_len), latency_us=100 * factor)
        for (batch, form), factors in times.items()
        for kv_len, factor in zip((1024, 4096), factors, strict=True)
    ]
    (path,) = write_report([make_run(None, records)], tmp_path, ["html"])
    page = open_page(browser, path).page
    marks = "report.views[0].charts.find((chart) => chart.id === 'view0-forms').plots[0].marks.data"
    page.select_option("select[name=batch]", "8")
    assert page.evaluate(f"[...{marks}.x, ...{marks}.y, ...{marks}.text]") == [2048, 1, "2k"]
    page.select_option("select[name=batch]", "1")
    assert page.evaluate(f"{marks}.x.length") == 0
