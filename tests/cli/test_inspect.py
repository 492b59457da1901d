"""`mlabench inspect` and the static gate, with real compilations of one configuration."""

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mlabench.cli.inspect import inspect
from mlabench.cli.static_gate import run_static
from mlabench.errors import MissingBaselineError, UsageError
from mlabench.machine_code import inspect as inspecting
from mlabench.machine_code.archs import Arch, find_archs
from mlabench.machine_code.configurations import Configuration
from mlabench.machine_code.inspect import Job
from mlabench.machine_code.rows import Inspection
from mlabench.measure.kernels import Kernel
from mlabench.verdict.outputs.github import MOST_A_LEVEL

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

KERNEL = "grouped_decode_triton"
ONLY = {"kernels": [KERNEL], "archs": ["sm_90"]}

Compile = Callable[..., None]


def seeded(**tunables: int) -> tuple[Configuration, ...]:
    """One configuration, which stands for a kernel whose defaults are those tunables."""
    return (Configuration("GQA-8, bf16", {"variant": "gqa"}, tunables),)


@pytest.fixture(autouse=True)
def compile_with(monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Leaves that configuration alone to be compiled; a test may choose other tunables."""
    make_jobs = inspecting.make_jobs

    def choose(**tunables: int) -> None:
        only = seeded(**tunables)
        monkeypatch.setattr(inspecting, "make_jobs", lambda kernels, archs: make_jobs(kernels, archs, only))

    choose()
    return choose


@pytest.fixture(scope="module")
def stored() -> Inspection:
    (arch,) = find_archs(["sm_90"])
    return Inspection(*inspecting.compiler_versions([arch]), inspecting.inspect_one(Job(KERNEL, *seeded(), arch)))


@pytest.fixture
def baseline(tmp_path: Path, stored: Inspection) -> Path:
    path = tmp_path / "stored.json"
    path.write_text(stored.to_text())
    return path


def run(*arguments: str) -> Result:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(inspect)
    return CliRunner().invoke(app, arguments)


def test_json_is_what_the_gate_takes(stored: Inspection) -> None:
    result = run("--kernel", KERNEL, "--arch", "sm_90", "--json")
    assert result.exit_code == 0
    assert result.stdout == stored.to_text()


def test_the_table_has_what_was_compiled() -> None:
    result = run("--kernel", KERNEL, "--arch", "sm_90")
    assert result.exit_code == 0
    (row,) = [line.split("  ") for line in result.stdout.splitlines() if KERNEL in line]
    cells = [cell.strip() for cell in row if cell.strip()]
    assert cells[:3] == [f"{KERNEL}: grouped_decode_kernel", "GQA-8, bf16", "sm_90"]
    assert "0 + 0" in cells
    assert any("HGMMA" in cell for cell in cells) and any("UTMALDG" in cell for cell in cells)
    assert f"{KERNEL}, GQA-8, bf16, sm_90: ok" in result.stderr


def test_inspecting_nothing_that_compiles_is_told() -> None:
    result = run("--kernel", "grouped_decode_torch", "--arch", "sm_90")
    assert result.exit_code == 6
    assert "it reads a tensor's values" in " ".join(result.stdout.split())


def test_a_kernel_that_compiles_nothing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_jobs(kernels: Sequence[Kernel], archs: Sequence[Arch]) -> list[Job]:
        return [Job(kernels[0].name, *one, archs[0]) for one in (seeded(), seeded())]

    monkeypatch.setattr(inspecting, "make_jobs", make_jobs)
    result = run("--kernel", "grouped_decode_torch", "--kernel", KERNEL, "--arch", "sm_90")
    assert result.exit_code == 0
    assert "mlabench: grouped_decode_torch compiles nothing that could be shown: it reads a tensor's" in result.stderr
    finished = [line for line in result.stderr.splitlines() if line.startswith("[")]
    assert [KERNEL in line for line in finished].count(True) == 2
    assert ["grouped_decode_torch" in line for line in finished].count(True) == 1


@pytest.mark.parametrize(("option", "name"), [("--kernel", "grouped"), ("--arch", "sm_9")])
def test_unknown_names_are_refused(option: str, name: str) -> None:
    result = run(option, name)
    assert isinstance(result.exception, UsageError)
    assert f"{name!r}: did you mean" in str(result.exception)


def test_an_unchanged_kernel_passes(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_static(baseline, **ONLY) == 0
    last = " ".join(capsys.readouterr().out.split())
    assert last == f"static gate: PASS (0): 1 configurations, the same as {baseline}"


def test_a_seeded_change_fails_and_is_named(
    baseline: Path, compile_with: Compile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compile_with(swap=0)
    assert run_static(baseline, **ONLY, targets={"json": str(tmp_path / "gate.json")}) == 1
    output = capsys.readouterr().out
    assert output.index("HGMMA") < output.index("HMMA ")
    assert f"hint: if the change is meant, store it: mlabench inspect --json > {baseline}\n" in output
    assert "static gate: FAIL (1): 1 of 1 configurations differ" in output
    plain = json.loads((tmp_path / "gate.json").read_text())
    (lost,) = [each for each in plain["differences"] if each["name"] == "HGMMA"]
    assert (lost["verdict"], lost["current"], plain["exit_code"]) == ("worse", 0, 1)
    (registers,) = [each for each in plain["differences"] if each["name"] == "registers"]
    assert registers["current"] >= registers["baseline"] + 16


def test_json_alone_goes_to_standard_output(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_static(baseline, **ONLY, targets={"json": "-"}) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["differences"] == []
    assert "static gate: PASS (0)" in captured.err


def test_no_baseline_is_told_before_anything_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingBaselineError, match="has none\\): make one with `mlabench inspect --json") as refused:
        run_static(targets={"json": "gate.json"})
    assert json.loads(Path("gate.json").read_text())["exit_code"] == 4
    assert refused.value.exit_code == 4
    assert capsys.readouterr().err == ""


def test_a_gate_that_compiled_nothing_does_not_pass(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_static(baseline, ["grouped_decode_torch"], ["sm_90"]) == 6
    assert "static gate: FAIL (6): nothing was compiled in 1 configurations" in capsys.readouterr().out


def test_a_json_file_that_cannot_be_written_is_a_usage_error(baseline: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose another --json"):
        run_static(baseline, ["grouped_decode_torch"], ["sm_90"], targets={"json": str(tmp_path / "no" / "gate.json")})


def test_every_output_of_the_static_gate(
    baseline: Path, compile_with: Compile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    markdown = tmp_path / "summary.md"
    targets = {"markdown": str(markdown), "github": "-", "json": None}
    assert run_static(baseline, **ONLY, targets=targets) == 0
    assert capsys.readouterr().out.startswith("::notice title=mlabench gate --static::static gate: PASS (0): ")
    assert markdown.read_text().startswith("### static gate: PASS (0): ") and "| verdict |" not in markdown.read_text()
    compile_with(swap=0)
    assert run_static(baseline, **ONLY, targets=targets) == 1
    first, *others = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert first.startswith("::error title=mlabench gate --static::static gate: FAIL (1): 1 of 1 configurations")
    assert 1 < 1 + len(others) <= MOST_A_LEVEL
    assert any("HGMMA" in line and "is now 0" in line for line in others)
    assert "| verdict | kernel | configuration | arch | value | baseline | current |" in markdown.read_text()


def test_the_recipe_names_the_file_of_every_triton(
    baseline: Path, compile_with: Compile, capsys: pytest.CaptureFixture[str]
) -> None:
    (baseline.parent / "triton-3.6.0.json").write_text("{}")
    compile_with(swap=0)
    assert run_static(baseline, **ONLY) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert f"> {baseline}; then with Triton 3.6.0, into {baseline.parent}/triton-3.6.0.json" in shown
