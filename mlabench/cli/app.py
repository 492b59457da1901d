"""The `mlabench` command."""

import errno
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from mlabench import __version__
from mlabench.cli.ab import ab
from mlabench.cli.claims import claims
from mlabench.cli.compare import compare
from mlabench.cli.config import config
from mlabench.cli.doctor import doctor
from mlabench.cli.export import export
from mlabench.cli.gate import gate
from mlabench.cli.history import history
from mlabench.cli.inspect import inspect
from mlabench.cli.list import list_things
from mlabench.cli.plan import plan
from mlabench.cli.predict import predict
from mlabench.cli.profile import profile
from mlabench.cli.report import report
from mlabench.cli.sweep import sweep
from mlabench.errors import ExitCode, UsageError

app = typer.Typer(
    name="mlabench",
    no_args_is_help=True,
    # Plain help text: the marked-up one doubles the start-up time.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
# What each is for in one line that fits the list of commands; its own help says more.
app.command("sweep", short_help="Measure cases on kernels, and store each point.")(sweep)
app.command("predict", short_help="What attention costs at least, from arithmetic alone.")(predict)
app.command("plan", short_help="What fits on GPUs beside a model's weights, and how fast.")(plan)
app.command("claims", short_help="What is said of MLA, put to the test.")(claims)
app.command("report", short_help="Figures and a page from stored runs.")(report)
app.command("compare", short_help="How the times of two runs differ.")(compare)
app.command("history", short_help="How times went over many runs, and where they stepped.")(history)
app.command("ab", short_help="Two kernels, or one at two commits, measured in turns.")(ab)
app.command("gate", short_help="Fail if something is slower, wrong, or cannot be judged.")(gate)
app.command("export", short_help="A run's records as CSV, JSON, Parquet or Markdown.")(export)
app.command("profile", short_help="A trace of one case on one kernel.")(profile)
app.command("doctor", short_help="Whether this machine can measure, with a timer self-test.")(doctor)
app.command("inspect", short_help="What the kernels compile to; no GPU needed.")(inspect)
app.command("list", short_help="Axes, kernels, models, GPUs, metrics, runs.")(list_things)
app.command("config", short_help="Which defaults are in force, and where from.")(config)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mlabench {__version__}")
        raise typer.Exit


@app.callback()
def mlabench(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure what an attention mechanism costs: MLA against MHA, GQA and MQA.

    Example: mlabench sweep && mlabench report
    """


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where nothing more can be written."""

JSON_FILE_COMMANDS = ("compare", "ab", "gate", "doctor")
"""Commands whose --json takes a file; all others print theirs."""


def main() -> None:
    """Run the command line; what the user can mend is one line on standard error and an exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, who wants nothing of it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    try:
        try:
            _refuse_named_resume(sys.argv[1:])
            app(args=_with_json_target(sys.argv[1:]), prog_name="mlabench")
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        if end.code == ExitCode.USAGE:
            _tell_of_axes(sys.argv[1:])
        raise
    except UsageError as error:
        print(f"mlabench: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"mlabench: error: cannot write: {error.strerror}; make room, or choose another place", file=sys.stderr)
        # what is left in the buffer would fail again at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.USAGE)


def _tell_of_axes(arguments: Sequence[str]) -> None:
    """One line for each option that there is none of, where an axis has its name."""
    from mlabench.cases.axes import AXES

    if "--axis" not in (options := _options(_command(arguments))):
        return
    for word in arguments:
        option, _, value = word.partition("=")
        axis = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and option not in options and axis in AXES:
            print(f"mlabench: {axis} is an axis: -a {axis}={value or 'VALUES'}", file=sys.stderr)


def _options(command: str) -> set[str]:
    """What a command's options are called."""
    found = getattr(typer.main.get_command(app), "commands", {}).get(command)
    return {name for parameter in found.params for name in parameter.opts} if found else set()


def _refuse_named_resume(arguments: Sequence[str]) -> None:
    """Raise `UsageError` for `sweep --resume RUN`, of which typer says no more than that RUN is unexpected."""
    for word, following in pairwise(arguments):
        if word == "--resume" and not following.startswith("-") and _command(arguments) == "sweep":
            raise UsageError(f"--resume takes no value: name the run with --out, as in --resume --out {following}")


def _command(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if not word.startswith("-")), "")


def _with_json_target(arguments: Sequence[str]) -> list[str]:
    """The arguments, where `--json` that no file follows is `--json -`: typer has no option with an optional value."""
    command = _command(arguments)
    if command not in JSON_FILE_COMMANDS:
        return list(arguments)
    words = []
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        words.append(word)
        if word == "--json" and following.startswith("-") and following != "-":
            words.append("-")
    return words
