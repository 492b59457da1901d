"""The defaults of a project: which file counts, what may stand in it, and what wins over it."""

from pathlib import Path

import pytest

from mlabench.cli.project import SETTINGS, SWEEP_NAMES, find_project
from mlabench.cli.sweep_steps import resolve
from mlabench.errors import UsageError
from mlabench.measure.config import SweepConfig
from mlabench.records.store import RUNS_FOLDER
from tests.cli.commands import SMALL_SWEEP, call
from tests.factories import make_case, make_record, make_run, write_run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in a repository of its own, with a folder below it; the working directory."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_file_nothing_is_set() -> None:
    project = find_project()
    assert (project.path, dict(project.values), project.runs_folder) == (None, {}, RUNS_FOLDER)


def test_a_parents_file_counts_up_to_the_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mlabench.toml").write_text('runs = "measured"\n')
    monkeypatch.chdir(folder / "below")
    assert find_project().runs_folder == folder / "measured"
    (folder / "below" / ".git").mkdir()
    assert find_project().path is None


def test_outside_a_repository_only_the_working_directory_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".git").rmdir()
    (folder / "mlabench.toml").write_text('device = "cpu"\n')
    assert find_project().values["device"] == "cpu"
    monkeypatch.chdir(folder / "below")
    assert find_project().path is None


def test_the_own_file_goes_before_a_shared_one_and_the_nearest_before_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "device"\n\n[tool.mlabench]\ndevice = "cuda"\n')
    project = find_project()
    assert (project.values["device"], project.place("device")) == ("cuda", "pyproject.toml, line 5")
    (folder / "mlabench.toml").write_text('device = "cpu"\n')
    assert find_project().values == {"device": "cpu"}
    (folder / "below" / "pyproject.toml").write_text('[tool.mlabench]\ncache = "warm"\n')
    monkeypatch.chdir(folder / "below")
    assert find_project().values == {"cache": "warm"}


@pytest.mark.parametrize("text", ["", 'tool = "mlabench"', "[tool.ruff]\nline-length = 120\n", "no TOML at all ["])
def test_a_shared_file_without_the_table_is_passed_over(
    text: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mlabench.toml").write_text('device = "cpu"\n')
    (folder / "below" / "pyproject.toml").write_text(text)
    monkeypatch.chdir(folder / "below")
    assert find_project().path == folder / "mlabench.toml"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('devise = "cpu"', "mlabench.toml, line 1: unknown key 'devise': did you mean device"),
        ('\ndevice = "gpu"', "mlabench.toml, line 2: device takes auto, cpu or cuda, not 'gpu'"),
        ("kernel = 3", "kernel takes a name or a list of names, not 3"),
        ("kernel = []", "kernel takes a name or a list of names, not []"),
        ("timeout_s = true", "timeout_s takes seconds above zero, not True"),
        ("timeout_s = 0", "timeout_s takes seconds above zero, not 0"),
        ("precision = inf", "precision takes a fraction above zero, not inf"),
        ('baseline = ["a", 1]', "baseline takes a path or a list of them, not ['a', 1]"),
        ("runs = 1", "runs takes a folder's path, not 1"),
        ("[sweep]\ndevice = 1", "mlabench.toml, line 1: unknown key 'sweep'"),
        ("device = ", "mlabench.toml: not TOML"),
    ],
)
def test_what_cannot_be_taken_is_one_line(text: str, complaint: str, folder: Path) -> None:
    (folder / "mlabench.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        find_project()
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_none_is_one_line(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool]\nmlabench = 1\n")
    with pytest.raises(UsageError, match=r"tool\.mlabench is a table"):
        find_project()


def test_what_a_sweep_takes_is_a_sweeps_setting() -> None:
    assert set(SWEEP_NAMES) <= set(SETTINGS) & set(SweepConfig.__dataclass_fields__)
    for name in ("device", "method", "cache", "sampling_s", "precision", "timeout_s"):
        assert SETTINGS[name].default == str(getattr(SweepConfig(), name))


def test_options_and_a_sweeps_file_win(folder: Path) -> None:
    (folder / "mlabench.toml").write_text('device = "cpu"\nkernel = "torch"\nmodel = "deepseek-v3"\ntimeout_s = 7\n')
    (folder / "sweep.toml").write_text('device = "cpu"\n[axes]\nbatch = 2\n')
    asked = resolve(None, {}, {"timeout_s": 9.0})
    assert (asked.kernel, asked.model, asked.timeout_s) == (("torch",), ("deepseek-v3",), 9.0)
    asked = resolve(Path("sweep.toml"), {}, {})
    assert (asked.kernel, asked.model, asked.timeout_s) == ((), (), 600.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('device = "cpu"\nmethod = "graph"', "choose cpu, or auto (device, method from mlabench.toml)"),
        ('\nkernel = "mla_decod"', "mlabench.toml, line 2: unknown kernel 'mla_decod': did you mean mla_decode"),
        ('model = "deepseekv3"', "mlabench.toml, line 1: unknown model 'deepseekv3': did you mean deepseek-v3"),
    ],
)
def test_a_setting_that_does_not_fit_is_told_with_its_file(text: str, complaint: str, folder: Path) -> None:
    (folder / "mlabench.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        resolve(None, {}, {})
    assert complaint in str(caught.value)


def test_a_sweep_goes_where_the_project_says_and_the_report_finds_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mlabench.toml").write_text('runs = "measured"\ndevice = "cpu"\nreport_format = ["svg"]\n')
    assert call(monkeypatch, *SMALL_SWEEP, "-a", "kv_len=8") == 0
    (run,) = (folder / "measured").iterdir()
    assert call(monkeypatch, "report") == 0
    written = {path.suffix for path in (run / "report").iterdir()}
    assert written == {".svg"}
    capsys.readouterr()


def test_the_gate_takes_the_projects_baseline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = make_record(make_case(), noise=0.01)
    write_run(folder / "kept", make_run(None, [record]))
    write_run(folder / "now", make_run(None, [record]))
    (folder / "mlabench.toml").write_text('baseline = "kept"\n')
    assert call(monkeypatch, "gate", "now") == 0
    assert "against kept" in capsys.readouterr().out


def test_predictions_take_the_projects_models_and_gpus(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mlabench.toml").write_text('model = "deepseek-v2-lite"\ngpu = ["b200", "h100"]\n')
    assert call(monkeypatch, "predict", "--format", "csv") == 0
    output = capsys.readouterr().out
    assert "deepseek-v2-lite,b200" in output
    assert "deepseek-v2-lite,h100" in output
    assert call(monkeypatch, "predict", "--model", "llama-3.1-8b", "--gpu", "a100", "--format", "csv") == 0
    output = capsys.readouterr().out
    assert "llama-3.1-8b,a100" in output
    assert "b200" not in output
