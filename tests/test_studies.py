"""The committed studies of kernels beside their peers: settings, runs, and what is made and said of these."""

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mlabench.cases.case import Case
from mlabench.measure.config import load_config
from mlabench.measure.kernels import all_kernels
from mlabench.measure.plan import chosen_cases, make_points
from mlabench.records.pairs import load_pairs
from mlabench.records.store import load_run
from mlabench.report.figures.kernels import WIDTH_PIXELS
from mlabench.units import format_ratio
from tests.bench.peer_points import BEST, Row, study, totals
from tests.bench.peer_study import FIGURE_NAME, pages, picture, project_sentences, sentences
from tests.cli.commands import ROOT

STUDIES = ROOT / "results" / "studies"


@dataclass(frozen=True)
class Study:
    """What a study is of: each attention, with its head dim where it has one, at each batch and length, on each kernel.

    `paged` are the kernels of `paged.toml`, in pages of 64 tokens; with it a request of `study.toml` fills one page.
    """

    name: str
    attentions: tuple[tuple[str, int | None], ...]
    points: tuple[tuple[int, int], ...]
    kernels: tuple[str, ...]
    phase: str = "decode"
    paged: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return STUDIES / self.name

    def sides(self, name: str) -> tuple[str, ...]:
        return self.kernels if name == "study" else self.paged

    def expected(self, name: str) -> set[tuple[object, ...]]:
        has_whole_pages = name == "study" and self.paged
        return {
            (
                label,
                head_dim,
                batch,
                kv_len if self.phase == "prefill" else 1,
                kv_len,
                kv_len if has_whole_pages else 64,
            )
            for label, head_dim in self.attentions
            for batch, kv_len in self.points
        }


ALL = (
    Study(
        "mla-decode",
        tuple((f"MLA absorbed ({heads} heads)", None) for heads in (16, 64, 128)),
        (
            *((1, 1024), (1, 4096), (1, 32768), (1, 131072), (8, 8192)),
            *((32, 1024), (32, 4096), (64, 4096), (128, 4096), (128, 8192)),
        ),
        ("mla_decode", "mla_decode_flash_mla", "mla_decode_flashinfer_fa3", "mla_decode_flash_attn_3"),
    ),
    Study(
        "grouped-decode",
        (
            *(("MHA (128 heads)", 128), ("GQA-8 (128 heads)", 128), ("GQA-8 (64 heads)", 128)),
            *(("GQA-8 (32 heads)", 128), ("MQA (128 heads)", 128), ("MQA (71 heads)", 64)),
        ),
        ((1, 32768), (16, 4096), (64, 4096), (128, 8192)),
        tuple(f"grouped_decode_{name}" for name in ("triton", "flashinfer", "flash_attn_3", "torch_cudnn")),
        paged=tuple(f"grouped_decode_{name}" for name in ("triton", "flashinfer", "flash_attn_3")),
    ),
    Study(
        "prefill",
        (("MHA (128 heads)", 128), ("GQA-8 (64 heads)", 128), ("MLA expanded (128 heads)", None)),
        ((4, 2048), (1, 8192), (1, 16384)),
        (
            "grouped_prefill",
            *(f"grouped_prefill_{name}" for name in ("flashinfer", "flash_attn_3", "torch_cudnn", "torch_flash")),
        ),
        phase="prefill",
        paged=("grouped_prefill", "grouped_prefill_flashinfer", "grouped_prefill_flash_attn_3"),
    ),
)

SETTINGS = [(one, name) for one in ALL for name in ("study", *(("paged",) if one.paged else ()))]

each_study = pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
each_setting = pytest.mark.parametrize(("one", "name"), SETTINGS, ids=lambda value: getattr(value, "name", value))


def fields_of(case: Case) -> tuple[object, ...]:
    head_dim = case.to_fields().get("head_dim")
    return case.variant.label, head_dim, case.batch, case.q_len, case.kv_len, case.page_size


@each_setting
def test_the_settings_are_the_points_of_the_study(one: Study, name: str) -> None:
    config = load_config(one.folder / f"{name}.toml")
    cases = chosen_cases(config)
    assert {fields_of(case) for case in cases} == one.expected(name)
    assert len(cases) == len(one.expected(name))
    assert {(case.phase, case.scope, case.dtype, case.kv_len_dist) for case in cases} == {
        (one.phase, "core", "bfloat16", "uniform")
    }
    points = make_points(config, "cuda")
    assert {point.kernel.name for point in points if point.kernel} == set(one.sides(name))
    assert len(points) == len(cases) * len(one.sides(name))


@each_setting
def test_the_runs_are_whole(one: Study, name: str) -> None:
    path = one.folder / ("ab" if name == "study" else name)
    pairs = load_pairs(path)
    assert {fields_of(pair.case) for pair in pairs} == one.expected(name)
    base, *others = one.sides(name)
    assert {pair.base.kernel for pair in pairs} == {base}
    assert sorted(pair.candidate.kernel for pair in pairs) == sorted(others * len(one.expected(name)))
    assert set(one.sides(name)) <= {kernel.name for kernel in all_kernels()}
    assert {pair.base.status for pair in pairs} == {"ok"}
    assert {pair.candidate.status for pair in pairs} <= {"ok", "unsupported"}
    assert all(row.ours_us and row.floor_us and row.best for row in study(path, one.folder / "sweep"))
    compared, swept = (load_run(run).manifest for run in (path, one.folder / "sweep"))
    assert compared.provenance["source_digest"] == swept.provenance["source_digest"]
    assert compared.fingerprint.device_name == "NVIDIA H200"
    assert not compared.provenance["dirty"]


@each_study
def test_the_commands_are_those_that_made_the_runs(one: Study) -> None:
    text = (one.folder / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    told = {run: float(limit) for limit, run in re.findall(r"mlabench ab [^\n]*--max-s ([\d.]+) --out (\w+)", text)}
    runs = {path.parent.name: path.parent for path in one.folder.glob("*/pairs.jsonl")}
    stored = {name: load_run(path).manifest.config["interleaved"]["plan"]["max_s"] for name, path in runs.items()}
    assert told == stored


@each_study
def test_the_pages_are_the_runs(one: Study) -> None:
    made = pages(one.folder)
    assert {"points.md", *(("paged.md",) if one.paged else ())} <= set(made)
    assert {name: (one.folder / name).read_text(encoding="utf-8").strip() for name in made} == made


@each_study
def test_the_figure_is_what_the_report_draws_of_every_point(one: Study) -> None:
    drawn = picture(one.folder)
    assert f"of {len(one.attentions) * len(one.points)} points" in drawn.heading
    stored = Image.open(one.folder / FIGURE_NAME)
    assert stored.info["Title"] == drawn.heading
    assert stored.width == WIDTH_PIXELS
    assert stored.size == Image.open(BytesIO(drawn.files["png"])).size


@each_study
def test_the_readme_shows_the_figure_and_says_what_the_runs_show(one: Study) -> None:
    text = plain(one.folder / "README.md")
    assert f"!Time over the roofline's least time at {len(one.expected('study'))} points" in text
    assert [said for said in sentences(one.folder) if said not in text] == []


def test_the_projects_readme_says_what_the_runs_show() -> None:
    text = plain(ROOT / "README.md")
    assert [said for said in project_sentences(ALL[0].folder) if said not in text] == []
    assert str(study(ALL[0].folder / "ab", ALL[0].folder / "sweep")[0].binds).startswith(("latency", "launch"))


def test_grouped_decode_comes_near_the_floor_where_its_readme_says_so() -> None:
    def farthest(row: Row) -> float:
        assert row.ours_us
        assert row.floor_us
        return row.ours_us / row.floor_us * max(1.0, *(ratio.value for ratio in row.ratios.values()))

    folder = STUDIES / "grouped-decode"
    assert "In MHA, and in large batches of GQA, all kernels come near the floor" in plain(folder / "README.md")
    rows = study(folder / "ab", folder / "sweep")
    near = [row for row in rows if "MHA" in row.label or ("GQA" in row.label and row.case.batch >= 64)]
    assert max(farthest(row) for row in near) < 1.2
    assert min(farthest(row) for row in rows if row not in near) > 1.2


def plain(path: Path) -> str:
    """The text of a README in one line, without code marks and the addresses of links."""
    text = path.read_text(encoding="utf-8").replace("`", "")
    return " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).split())


def test_the_project_says_how_strong_the_baselines_are() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    means = [
        next(total for total in reversed(totals(study(STUDIES / name / "ab"))) if total.peer == BEST).mean
        for name in ("grouped-decode", "prefill")
    ]
    grouped, prefill = (format_ratio(1 / mean) for mean in means)
    assert f"(results/studies/grouped-decode) takes {grouped} the time in geometric mean of 24 points" in text
    assert f"(results/studies/prefill) {prefill} that of nine" in text
