"""docs/cli.md: its keys are the settings, its file is taken, and its commands are."""

import re
import shlex
from pathlib import Path

import pytest

from mlabench.cli.project import SETTINGS, find_project
from mlabench.verdict.noise import NOISE
from tests.cli.commands import ROOT, call

TEXT = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_setting_is_documented_with_its_commands() -> None:
    rows = re.findall(r"^\| (`[^|]*) \| [^|]* \| ([^|]*) \|$", TEXT, re.MULTILINE)
    told = {
        name: re.findall(r"`([^`]+)`", commands) for names, commands in rows for name in re.findall(r"`(\w+)`", names)
    }
    assert {name: tuple(commands) for name, commands in told.items()} == {
        name: setting.commands for name, setting in SETTINGS.items()
    }


def test_the_example_is_taken_from_either_file(tmp_path: Path) -> None:
    block = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[0]
    (tmp_path / "mlabench.toml").write_text(block)
    own = find_project(tmp_path).values
    (tmp_path / "mlabench.toml").rename(tmp_path / "unused.toml")
    (tmp_path / "pyproject.toml").write_text(f"[tool.mlabench]\n{block}")
    assert find_project(tmp_path).values == own
    assert own["baseline"] == (tmp_path / "baselines/main", tmp_path / "baselines/main-2")
    assert len(own) == block.count("=")


def test_the_least_changes_are_the_gates() -> None:
    cuda, cpu = NOISE["cuda"], NOISE["cpu"]
    effects = f"{cuda.min_effect:.0%} and {cuda.min_effect_us:g} us on a GPU, {cpu.min_effect:.0%} and"
    assert f"{effects} {cpu.min_effect_us:g} us on a CPU" in " ".join(TEXT.split())


@pytest.mark.parametrize("line", re.findall(r"^    mlabench (.*)$", TEXT, re.MULTILINE))
def test_commands_are_taken(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *shlex.split(line, comments=True)) == 0
    assert capsys.readouterr().out


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\((?!https)([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
