"""What every command has in common: help, near names, completion, quiet and verbose, colour and width."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import SMALL_SWEEP, SOURCES, call
from tests.cli.test_app import COMMANDS

POINT = ("-a", "variant=mqa", "-a", "kv_len=8")

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_ends_with(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, command, "-h") == 0
    assert "Exit codes: 0 " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("80", 80), ("300", 100)])
def test_help_fits_the_screen(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for words in ([], ["history"], ["list"]):
        call(monkeypatch, *words, "--help")
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
    call(monkeypatch, "--help")
    assert columns == "60" or "..." not in capsys.readouterr().out.replace("[ARGS]...", "")


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["swep"], "Did you mean 'sweep'?"),
        (["histroy"], "Did you mean 'history'?"),
        (["sweep", "--kernal", "torch"], "--kernel"),
        (["sweep", "-a", "bacth=1"], "unknown axis 'bacth': did you mean batch?"),
        (["sweep", "-a", "variant=mka"], "variant=mka is unknown: did you mean m"),
        (["sweep", "--kernel", "mla_decod"], "unknown kernel 'mla_decod': did you mean mla_decode"),
        (["sweep", "--model", "deepseekv3"], "unknown model 'deepseekv3': did you mean deepseek-v3"),
        (["ab", "mla_decode_torc", "mla_decode"], "did you mean mla_decode_torch"),
        (["inspect", "--kernel", "mla_decode_trito"], "did you mean mla_decode_triton"),
        (["predict", "--gpu", "h20-sxm"], "did you mean h200-sxm"),
        (["plan", "--model", "deepseekv3"], "did you mean deepseek-v3"),
        (["profile", "-a", "kv_ln=1"], "unknown axis 'kv_ln': did you mean kv_len"),
        (["list", "model"], "there is no list of 'model': did you mean models"),
        (["report", "--format", "htm"], "did you mean html"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_near_one(
    arguments: list[str],
    near: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "report":
        assert call(monkeypatch, *SMALL_SWEEP, *POINT, "--quiet") == 0
    assert call(monkeypatch, *arguments) == 2
    assert near in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("mlabench hist", {"history"}),
        ("mlabench list ", {"axes", "kernels", "models", "gpus", "metrics", "runs"}),
        ("mlabench sweep --kernel mla_decode_t", {"mla_decode_triton", "mla_decode_torch"}),
        ("mlabench sweep --kernel peer", {"peers"}),
        ("mlabench inspect -k mla_decode_tr", {"mla_decode_triton"}),
        ("mlabench ab mla_decode_tr", {"mla_decode_triton"}),
        ("mlabench predict --model deepseek-v3", {"deepseek-v3", "deepseek-v3.2"}),
        ("mlabench plan --gpu h200", {"h200-sxm"}),
        ("mlabench gate --ju", {"--junit"}),
    ],
)
def test_the_shell_is_offered_names(words: str, offered: set[str]) -> None:
    place = len(words.split()) - (not words.endswith(" "))
    asked = {"_MLABENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
    done = subprocess.run(
        [sys.executable, "-m", "mlabench"],
        env={**os.environ, "PYTHONPATH": SOURCES, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_each_shell(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlabench", "--show-completion", shell],
        env={**os.environ, "PYTHONPATH": SOURCES, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_MLABENCH_COMPLETE" in done.stdout


def test_quiet_tells_only_what_came_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    assert call(monkeypatch, *SMALL_SWEEP, *POINT, "--out", str(tmp_path / "run"), "--quiet") == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert output.splitlines() == [f"{tmp_path / 'run'}: 1 ok", f"next: mlabench report {tmp_path / 'run'}"]


def test_verbose_tells_all_about_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *SMALL_SWEEP, *POINT, "--out", str(tmp_path / "run"), "--verbose") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[1/1]")]
    assert re.search(r"95% from .* to .*, \d+ samples, ended by \w+, error .*, inputs .*, reference .*, bind ", line)


def test_quiet_and_verbose_contradict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "sweep", "-q", "-v") == 2
    assert "--quiet and --verbose contradict each other" in capsys.readouterr().err


def test_quiet_comparisons_and_examinations_show_no_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ("-a", "num_q_heads=4", "-a", "kv_len=8", "--device", "cpu", "--max-s", "0.2")
    sides = ("mla_decode_torch", "mla_decode_torch")
    assert call(monkeypatch, "ab", *sides, *axes, "--out", str(tmp_path / "ab"), "-q") == 0
    assert "[1/1]" not in capsys.readouterr().err
    assert call(monkeypatch, "ab", *sides, *axes, "--out", str(tmp_path / "loud")) == 0
    assert "[1/1]" in capsys.readouterr().err


def test_quiet_is_refused_where_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "gate", "results/runs/one", "--quiet") == 2
    assert "--quiet goes with --ab COMMIT" in capsys.readouterr().err


def test_a_pipe_gets_neither_colour_nor_control(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "list", "kernels")
    call(monkeypatch, "config")
    output, errors = capsys.readouterr()
    assert "\x1b" not in output + errors


@pytest.mark.parametrize("no_colour", [False, True])
def test_a_terminal_gets_colour_unless_it_wants_none(no_colour: bool, tmp_path: Path) -> None:
    from tests.factories import make_case, make_record, make_run, write_run

    slow, fast = (make_record(make_case(), latency_us=level, noise=0.001) for level in (200.0, 100.0))
    for name, record in (("now", slow), ("before", fast)):
        write_run(tmp_path / name, make_run(None, [record]))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"PYTHONPATH": SOURCES, "TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if no_colour else {})
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mlabench", "gate", "now", "--baseline", "before"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=tmp_path, env=environment) as process:
        os.close(theirs)
        output = b""
        while chunk := _read(ours):
            output += chunk
    os.close(ours)
    assert process.returncode == 1
    assert b"FAIL" in output
    assert bool(COLOUR.search(output.decode())) != no_colour


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""
