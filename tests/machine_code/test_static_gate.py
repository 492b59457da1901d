"""The outcome of a comparison, and which stored inspection is taken."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.errors import ExitCode, MissingBaselineError, UsageError
from mlabench.machine_code.archs import ARCHS
from mlabench.machine_code.inspect import BACKENDS, make_jobs
from mlabench.machine_code.rows import Row, load_inspection
from mlabench.machine_code.static_gate import StaticResult, load_baseline, select_rows
from mlabench.measure.kernels import KERNELS
from tests.machine_code.rows import ROW, inspection

ROOT = Path(__file__).parents[2]
COMMITTED = sorted((ROOT / "results" / "baselines" / "machine-code").glob("triton-*.json"))
STORED = Path("stored.json")
TRITON, PTXAS = "9.9.9", {"sm_90": "12.8.93"}


def result(*rows: Row) -> StaticResult:
    return StaticResult(STORED, (ROW,), inspection(rows))


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (ROW, 0, "static gate: PASS (0): 1 configurations, the same as stored.json"),
        (
            replace(ROW, instructions=999),
            0,
            "static gate: PASS (0): 1 configurations, the same as stored.json but for the number of instructions in 1",
        ),
        (
            replace(ROW, registers=184, spill_loads=2),
            1,
            "static gate: FAIL (1): 1 of 1 configurations differ from stored.json (2 worse)",
        ),
        (
            replace(ROW, registers=160),
            1,
            "static gate: FAIL (1): no regression, but 1 of 1 configurations differ from stored.json (1 better)",
        ),
        (
            Row(*ROW.key[:3], "", "error", "PTXASError: no"),
            6,
            "static gate: FAIL (6): nothing was compiled in 1 configurations",
        ),
    ],
)
def test_the_summary_and_the_exit_code_agree(row: Row, code: int, words: str) -> None:
    assert result(row).exit_code == code
    assert result(row).summary == words


def test_nothing_looked_at_does_not_pass() -> None:
    assert result().exit_code == ExitCode.NOTHING_MEASURED


def test_json_has_every_difference() -> None:
    plain = result(replace(ROW, matrix_instructions={"HMMA": 44})).to_json()
    assert (plain["schema_version"], plain["exit_code"], plain["outcome"]) == (1, 1, "regression")
    assert plain["counts"]["worse"] == 1
    assert plain["differences"][0] == {
        "verdict": "worse",
        "kernel": "mla_decode_triton",
        "configuration": "MLA 128 heads, bf16",
        "arch": "sm_90",
        "function": "mla_decode_kernel",
        "name": "HGMMA",
        "baseline": 32,
        "current": 0,
    }


def test_an_inspection_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = (ROW, Row(*ROW.key[:3], "", "error", "why"), replace(ROW, function="f", config={}))
    path = tmp_path / "stored.json"
    path.write_text(inspection(rows).to_text())
    assert load_inspection(path) == inspection(rows)
    assert len(path.read_text().splitlines()) == len(rows) + 5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[]", ""),
        ('{"schema_version": 1}', "it has no 'rows'"),
        ('{"schema_version": 1, "rows": [1]}', ""),
    ],
)
def test_what_is_no_inspection_is_a_usage_error(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "stored.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_inspection(path)
    assert f"was not written by `mlabench inspect --json`: {why}" in str(caught.value)
    assert "Error(" not in str(caught.value)


def test_the_baseline_of_the_triton_version_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("results/baselines/machine-code")
    folder.mkdir(parents=True)
    (folder / "triton-9.9.9.json").write_text(inspection().to_text())
    assert load_baseline(None, TRITON, PTXAS) == (folder / "triton-9.9.9.json", inspection())
    with pytest.raises(MissingBaselineError) as refused:
        load_baseline(None, "9.10.0", PTXAS)
    assert "there is no baseline results/baselines/machine-code/triton-9.10.0.json" in str(refused.value)
    assert "has Triton 9.9.9" in str(refused.value)
    assert "mlabench inspect --json > results/baselines/machine-code/triton-9.10.0.json" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (inspection(triton="9.9.8").to_text(), "was made with Triton 9.9.8, this is 9.9.9"),
        (inspection(ptxas="13.0.1").to_text(), "was made with ptxas 13.0.1 for sm_90, this is 12.8.93"),
        ('{"schema_version": 99}', "has schema version 99"),
        ("nonsense", "was not written by"),
    ],
)
def test_a_baseline_on_other_terms_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "stored.json"
    path.write_text(text)
    with pytest.raises(MissingBaselineError, match=reason):
        load_baseline(path, TRITON, PTXAS)


def test_only_rows_of_what_is_inspected_are_held_against() -> None:
    stored = inspection([ROW, replace(ROW, kernel="other"), replace(ROW, arch="sm_80")])
    assert select_rows(stored, ["mla_decode_triton"], ["sm_90"]) == (ROW,)
    assert [row.kernel for row in select_rows(stored, [], ["sm_90"])] == ["mla_decode_triton", "other"]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_baseline_has_every_configuration_and_kernel(path: Path) -> None:
    stored = load_inspection(path)
    assert path.stem == f"triton-{stored.triton_version}"
    assert stored.ptxas_versions.keys() == {arch.name for arch in ARCHS}
    kernels = [kernel for kernel in KERNELS if kernel.backend in BACKENDS]
    expected = {(job.kernel, job.configuration.name, job.arch.name) for job in make_jobs(kernels, ARCHS)}
    assert {row.key[:3] for row in stored.rows} == expected
    for row in stored.rows:
        assert row.compiled or ("_gluon" in row.kernel and row.status == "unsupported"), row.key


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_baseline_has_the_gluon_kernels_on_their_own_architecture(path: Path) -> None:
    rows = [row for row in load_inspection(path).rows if "_gluon" in row.kernel]
    assert {row.kernel for row in rows} == {kernel.name for kernel in KERNELS if kernel.backend == "gluon"}
    assert {row.arch for row in rows if row.compiled} == {"sm_90"}
    assert {row.reason for row in rows if row.arch != "sm_90"} == {"needs a GPU of compute capability 9.0"}


def test_baselines_are_committed() -> None:
    assert [path.stem for path in COMMITTED] == ["triton-3.6.0", "triton-3.7.1"]
