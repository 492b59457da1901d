"""`mlabench claims`: what is said of MLA, each claim tested by arithmetic or by a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlabench.cli import options
from mlabench.cli.show import warn

if TYPE_CHECKING:
    from mlabench.records.store import Run


def claims(
    check: Annotated[
        list[Path] | None,
        typer.Option("--check", metavar="RUN...", help="Runs by which the claims on speed and energy are judged."),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="RUN", help="Further runs of --check.")] = None,
    kind: Annotated[
        Literal["table", "json", "md"], typer.Option("--format", "-f", help="How to write the ledger.")
    ] = "table",
    as_json: options.AsJson = False,
) -> None:
    """Put what articles and papers claim about MLA to the test, and say what is right.

    Each claim stands in the ledger with its words, its source and one or more readings. A reading's value is computed
    now, from the presets and the arithmetic that sweep and predict use, and compared with the claimed one: the claim
    holds if all readings do, holds with a qualifier if some do, and is wrong if none does. Claims on speed and energy
    take runs, each value the first one that holds it, and without --check are not checked. What nothing here can
    compute is not testable here.

    Exit codes: 0 done, whatever the verdicts; 2 bad input.

    Example: mlabench claims --check results/baselines/nvidia-h200/decode results/baselines/nvidia-h200/layer
    """
    from mlabench.claims.export import summary, to_json, to_markdown
    from mlabench.claims.judge import judge_all
    from mlabench.claims.ledger import load_ledger
    from mlabench.cli.show import print_table

    paths = [*(check or ()), *(more or ())]
    written = options.kind_of(kind, as_json)
    runs = [_load(path) for path in paths]
    judged = judge_all(load_ledger(), runs)
    told = {name for one in judged for name in one.runs}
    for path, run in zip(paths, runs, strict=True):
        if run.name not in told:
            warn(f"{path} tells nothing that a claim takes")
    if written == "json":
        typer.echo(to_json(judged), nl=False)
    elif written == "md":
        typer.echo(to_markdown(judged, paths), nl=False)
    else:
        print_table(
            ("id", "the words", "verdict", "what is right"),
            [(one.claim.id, one.claim.quote, one.verdict, one.finding) for one in judged],
        )
        print(f"{summary(judged)}.")


def _load(path: Path) -> "Run":
    from mlabench.records.store import load_run

    run = load_run(path)
    for warning in run.warnings:
        warn(warning)
    return run
