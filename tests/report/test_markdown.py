"""The report as Markdown."""

import re
from pathlib import Path

import pytest

from mlabench.cli.report_steps import moved_between
from mlabench.report.write import write_report
from tests.factories import make_case, make_record, make_run, make_sweep

HOSTILE = "a|b <img src=x> *c*\n# d"


def written(runs: list[object], out: Path, formats: list[str], **options: object) -> str:
    write_report(runs, out, formats, **options)  # type: ignore[arg-type]
    return (out / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    runs = [make_run(None, make_sweep(batch=(1, 8), kv_len=(1024, 4096)))]
    out = tmp_path_factory.mktemp("markdown")
    told = written(list(runs), out, ["md", "png"])
    assert all((out / name).is_file() for name in re.findall(r"\]\((.+?)\)", told))
    return told


def test_it_tells_the_findings_the_warnings_and_the_environment(text: str) -> None:
    assert text.startswith("## What attention costs on Synthetic H200\n")
    assert "- MLA absorbed caches 1,152 B per token and layer in bfloat16 at 128 heads: 56.9x fewer than MHA" in text
    assert "- machine: Synthetic H200" in text
    assert "measured matmul 788 TFLOP/s bfloat16" in text
    assert text.count("### Synthetic H200, bfloat16, timing method graph, cold cache") == 1


def test_times_stand_in_a_table_whose_fastest_is_bold(text: str) -> None:
    lines = [line for line in text.splitlines() if line.startswith("| batch ")]
    assert lines[0] == "| batch | kv_len | MHA | GQA-8 | MQA | MLA absorbed | MLA recompute | MLA expanded |"
    assert [line.split(" | ")[:2] for line in lines[1:]] == [
        [f"| batch {batch}", length] for batch in (1, 8) for length in ("1k", "4k")
    ]
    assert all(line.count("**") == 2 for line in lines[1:])


def test_it_links_the_pictures_that_are_written_and_no_others(text: str, tmp_path: Path) -> None:
    assert "](latency.png)" in text
    run = make_run(None, [make_record(make_case(kv_len=1024))])
    assert "](latency.svg)" in written([run], tmp_path / "svg", ["svg", "md"])
    bare = written([run], tmp_path / "bare", ["md"])
    assert "](" not in bare
    assert [path.name for path in (tmp_path / "bare").iterdir()] == ["report.md"]


def test_text_that_looks_like_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    run = make_run(None, [make_record(make_case(kv_len=1024))], warnings=[HOSTILE])
    assert r"- a\|b \<img src=x\> \*c\* # d" in written([run], tmp_path, ["md"])


def test_what_moved_stands_first(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, [make_record(make_case(kv_len=1024), latency_us=us, noise=0.001)])
        for name, us in (("before", 100.0), ("now", 150.0))
    ]
    told = written(list(runs), tmp_path / "out", ["md", "png"], moved=moved_between(runs))
    assert told.index("### What moved: now against before") < told.index("### Synthetic H200")
    assert "1 points" not in told
    assert "1 point timed in both: 1 slower." in told
    (row,) = [line for line in told.splitlines() if line.startswith("| MLA absorbed (128 heads), batch 1, kv_len 1k |")]
    assert "| synthetic_torch | slower | 100 us | 150 us | 1.500x" in row
    assert "](moved.png)" in told
