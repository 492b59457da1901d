"""The `mlabench` command."""

import sys
from typing import Annotated

import typer

from mlabench import __version__
from mlabench.cli.ab import ab
from mlabench.cli.claims import claims
from mlabench.cli.compare import compare
from mlabench.cli.doctor import doctor
from mlabench.cli.export import export
from mlabench.cli.gate import gate
from mlabench.cli.inspect import inspect
from mlabench.cli.list import list_things
from mlabench.cli.plan import plan
from mlabench.cli.predict import predict
from mlabench.cli.report import report
from mlabench.cli.sweep import sweep
from mlabench.errors import UsageError

app = typer.Typer(
    name="mlabench",
    no_args_is_help=True,
    # Plain help text: the marked-up one doubles the start-up time.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("sweep")(sweep)
app.command("predict")(predict)
app.command("plan")(plan)
app.command("claims")(claims)
app.command("report")(report)
app.command("compare")(compare)
app.command("ab")(ab)
app.command("gate")(gate)
app.command("export")(export)
app.command("doctor")(doctor)
app.command("inspect")(inspect)
app.command("list")(list_things)


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


def main() -> None:
    """Run the command line; what the user can mend is one line on standard error and an exit code."""
    try:
        app()
    except UsageError as error:
        print(f"mlabench: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
