"""A report of 10,000 records: how long it takes to write, how large its page is, and how soon its filter answers.

`python -m tests.bench.big_report`; the filter needs playwright and Chromium.
"""

import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from mlabench.report.write import write_report
from tests.factories import make_run, make_sweep

LENGTHS = tuple(1024 * k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128))

FILTERS = ("m", "mla", "mla 128k", "mla 128k absorbed", "(16 heads) 8k", "nothing like it", "")
"""What is typed one after the other."""

TYPE = """(words) => {
  const box = document.getElementById("filter");
  const start = performance.now();
  box.value = words;
  box.dispatchEvent(new Event("input"));
  document.body.getBoundingClientRect();
  return performance.now() - start;
}"""


def main() -> None:
    """Write the report and print what it took."""
    records = make_sweep(num_q_heads=tuple(range(16, 144, 16)), batch=tuple(range(4, 68, 4)), kv_len=LENGTHS)
    with tempfile.TemporaryDirectory() as folder:
        wall_start, start = time.perf_counter(), time.process_time()
        page, *_ = write_report([make_run(None, records)], Path(folder))
        wall_s, cpu_s = time.perf_counter() - wall_start, time.process_time() - start
        size_mb = page.stat().st_size / 1e6
        filter_ms = slowest_filter_ms(page) if find_spec("playwright") else None
    print(f"{len(records)} records: {wall_s:.1f} s, {cpu_s:.1f} s of it on the processor; a page of {size_mb:.2f} MB")
    if filter_ms is not None:
        print(f"the slowest of {len(FILTERS)} filters answered in {filter_ms:.0f} ms")


def slowest_filter_ms(path: Path) -> float:
    """The longest time from typing words to the rows laid out."""
    from playwright.sync_api import sync_playwright

    from tests.report.test_browser import CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-drawn]", timeout=120_000)
        times_ms = [float(page.evaluate(TYPE, words)) for words in FILTERS]
        browser.close()
    return max(times_ms)


if __name__ == "__main__":
    main()
