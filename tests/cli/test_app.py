"""The command as a whole: help, version, and that every command has an example that is true."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlabench import __version__
from mlabench.cli.app import app
from mlabench.errors import ExitCode
from tests.cli.commands import SOURCES, call

COMMANDS = sorted(command.name or "" for command in app.registered_commands)


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"mlabench {__version__}\n"


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == 0
    output = capsys.readouterr().out
    assert all(f"  {command} " in output for command in COMMANDS)
    assert "Example: mlabench sweep" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text_with_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, command, "--help") == 0
    assert f"Example: mlabench {command}" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["axes", "kernels", "models", "gpus", "metrics"])
def test_list(what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "list", what) == 0
    expected = {
        "axes": "kv_len",
        "kernels": "mla_decode_triton",
        "models": "deepseek-v3",
        "gpus": "h200-sxm",
        "metrics": "latency_us",
    }
    assert expected[what] in capsys.readouterr().out


def test_list_models_computes_the_cache(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "list", "models")
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("deepseek-v3 ")]
    assert "1,152 B" in row
    assert "70.27 kB" in row


def test_help_names_every_format(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from mlabench.records import export
    from mlabench.report import write

    for command, formats in (("export", export.FORMATS), ("report", write.FORMATS)):
        call(monkeypatch, command, "--help")
        output = capsys.readouterr().out
        assert all(name in output for name in formats)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "arguments", [("list", "models"), ("list", "models", "--json"), ("predict", "--model", "deepseek-v3")]
)
def test_a_full_disk_is_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mlabench", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": SOURCES}, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    (line,) = done.stderr.splitlines()
    assert line == "mlabench: error: cannot write: No space left on device; make room, or choose another place"


def test_closed_output_is_no_error() -> None:
    command = f"exec {sys.executable} -m mlabench list models >&-"
    done = subprocess.run(
        ["bash", "-c", command],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCES},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("sweep", "--kv-len", "64,128"), ["mlabench: kv_len is an axis: -a kv_len=VALUES"]),
        (("predict", "--kv_len=64"), ["mlabench: kv_len is an axis: -a kv_len=64"]),
        (("sweep", "--dtype", "float99"), []),  # an option of that name
        (("sweep", "--batch-size", "4"), []),  # no axis of that name
        (("report", "--batch", "4"), []),  # a command without axes
    ],
)
def test_an_axis_taken_for_an_option_is_told(
    arguments: tuple[str, ...], told: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == ExitCode.USAGE
    assert [line for line in capsys.readouterr().err.splitlines() if "is an axis" in line] == told
