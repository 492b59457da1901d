"""The guides: every command in them is taken, and their figures are the committed run's."""

import re
import shlex
from pathlib import Path

import pytest

from mlabench.errors import ExitCode
from mlabench.machine.ceilings import ridge_flops_per_byte
from mlabench.measure.check import REFERENCES
from mlabench.units import format_bandwidth, format_flop_rate, format_latency, format_percent
from tests.bench.markdown import table
from tests.bench.tradeoff import LARGEST, core, one, run
from tests.cli.commands import ROOT, call

DOCS = ROOT / "docs"
STARTING, ROOFLINE, ADDING = (
    (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("getting-started", "roofline", "adding-a-kernel")
)
DECODE = ROOT / "results" / "baselines" / "nvidia-h200" / "decode"


def commands(text: str) -> list[list[str]]:
    """The arguments of each indented `mlabench` line, without its comment."""
    lines = re.findall(r"^    (?:[A-Z_]+=\S+ )?mlabench (.*)$", re.sub(r"\\\n *", " ", text), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_getting_started_works_from_its_first_line_to_its_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = commands(STARTING)
    assert [arguments[0] for arguments in found].count("sweep") == 3
    for arguments in found:
        quick = ["--device", "cpu", "--sampling-s", "0.02"] if arguments[0] == "sweep" else []
        allowed = {ExitCode.PASS, ExitCode.REGRESSION, ExitCode.INCONCLUSIVE} if arguments[0] == "gate" else {0}
        assert call(monkeypatch, *arguments, *quick) in allowed, arguments
    assert (tmp_path / "report" / "report.html").exists()
    assert {path.name for path in (tmp_path / "first").iterdir()} >= {"manifest.json", "records.jsonl"}


def test_every_contract_is_listed_with_its_tensors() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", ADDING, re.MULTILINE))
    assert list(listed) == list(REFERENCES)
    assert listed["mla_absorbed"] == "`q, kv_cache, block_table, kv_lens, out, lse`"


def test_commands_of_adding_a_kernel_are_taken_with_a_kernel_that_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--out", "run", "--dry-run"]
    for arguments in commands(ADDING):
        known = ["mla_decode_torch" if word == "my_decode" else word for word in arguments]
        if arguments[0] == "sweep":
            assert call(monkeypatch, *known, *quick) == 0
        elif arguments[0] == "list":
            assert call(monkeypatch, *known) == 0
    assert {arguments[0] for arguments in commands(ADDING)} == {"list", "sweep", "ab"}


def test_the_roofline_page_has_the_runs_ceilings_and_points() -> None:
    ceilings = run("decode").manifest.ceilings
    assert ceilings is not None
    rate = format_flop_rate(ceilings.matmul_flops_per_s["bfloat16"])
    text = " ".join(ROOFLINE.split())
    assert f"they are {format_bandwidth(ceilings.bandwidth_bytes_per_s)} and {rate} in bfloat16" in text
    assert f"the **ridge**, at {ridge_flops_per_byte(ceilings, 'bfloat16'):.0f} FLOP a byte" in text
    shapes = [("mha", 128), ("gqa", 128), ("mqa", 128), ("mla", 16), ("mla", 128)]
    rows = [core(variant, heads, **LARGEST) for variant, heads in shapes]
    cells = [
        [row["label"], f"{row['arithmetic_intensity_flops_per_byte']:.0f}", format_latency(row["floor_us"]),
         format_latency(row["latency_us"]), format_percent(row["fraction_of_floor"]), row["bound"]]
        for row in rows
    ]  # fmt: skip
    headings = ["", "FLOP a byte", "floor", "measured", "share of the roofline's speed", "bound"]
    assert table(headings, cells).replace("|  |", "| |") in ROOFLINE
    short = core("mla", 128, batch=1, kv_len=1024)
    floor, taken = format_latency(short["floor_us"]), format_latency(short["latency_us"])
    assert f"is {floor} of work and takes {taken}" in text


def test_recomputing_has_the_highest_intensity_and_is_the_slowest() -> None:
    recompute = one("decode", variant="mla", form="recompute", num_q_heads=128, **LARGEST)
    others = [core(variant, 128, **LARGEST) for variant in ("mha", "gqa", "mqa", "mla")]
    for column in ("arithmetic_intensity_flops_per_byte", "latency_us"):
        assert recompute[column] > max(row[column] for row in others)
