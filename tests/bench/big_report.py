"""How long a report of 10,000 records takes to write, and how large its page is: `python -m tests.bench.big_report`."""

import tempfile
import time
from pathlib import Path

from mlabench.report.write import write_report
from tests.factories import make_run, make_sweep

LENGTHS = tuple(1024 * k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128))


def main() -> None:
    """Write the report and print what it took."""
    records = make_sweep(num_q_heads=tuple(range(16, 144, 16)), batch=tuple(range(4, 68, 4)), kv_len=LENGTHS)
    with tempfile.TemporaryDirectory() as folder:
        wall_start, start = time.perf_counter(), time.process_time()
        page, *_ = write_report([make_run(None, records)], Path(folder))
        wall_s, cpu_s = time.perf_counter() - wall_start, time.process_time() - start
        size_mb = page.stat().st_size / 1e6
    print(f"{len(records)} records: {wall_s:.1f} s, {cpu_s:.1f} s of it on the processor; a page of {size_mb:.2f} MB")


if __name__ == "__main__":
    main()
