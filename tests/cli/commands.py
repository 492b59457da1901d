"""Running the command in this process, and as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlabench.cli.app import main

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"
SOURCES = f"{ROOT}:{ROOT / 'kernels'}"

QUICK = ("sweep", "--device", "cpu", "--sampling-s", "0.01", "--precision", "0.5", "-a", "num_q_heads=4")
"""The start of a sweep whose points take little time."""

SMALL_SWEEP = (*QUICK, "--kernel", "torch")
"""The same on the suite's own kernels, whatever packages with others are installed."""


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `mlabench ARGUMENTS` in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["mlabench", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def run(*arguments: str, faulty_kernels: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run `mlabench ARGUMENTS` as a process, if asked with the faulty kernels installed."""
    process = start(*arguments, faulty_kernels=faulty_kernels)
    try:
        output, errors = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def start(*arguments: str, faulty_kernels: bool = False) -> "subprocess.Popen[str]":
    """Start `mlabench ARGUMENTS` as a process."""
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES}:{PLUGIN}" if faulty_kernels else SOURCES}
    command = [sys.executable, "-m", "mlabench", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
