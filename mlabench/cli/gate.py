"""`mlabench gate`: hold a run against a stored baseline and answer with an exit code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mlabench.cli import options
from mlabench.errors import UsageError
from mlabench.verdict.noise import NOISE

if TYPE_CHECKING:
    from mlabench.cli.ab_steps import Asked
    from mlabench.verdict.gate import GateResult

_STORED_EFFECTS = ", ".join(f"{noise.min_effect} on {device}" for device, noise in NOISE.items())
_DEFAULT_EFFECTS = f"{_STORED_EFFECTS}; with --ab 0.01 on cuda, 0.05 on cpu"


def gate(
    current: Annotated[
        Path | None, typer.Argument(help="The run directory to judge.", show_default="newest in results/runs")
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            "--baseline",
            "-b",
            help="A run to compare with; repeat it for several.",
            show_default="those of the same sweep under results/baselines/DEVICE",
        ),
    ] = None,
    min_effect: Annotated[
        float | None,
        typer.Option(help="Least change of a time that counts, as a fraction.", show_default=_DEFAULT_EFFECTS),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Only report the baseline's points that the run does not hold.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Also list the points that did not change.")] = False,
    json_path: options.JsonPath = None,
    markdown_path: Annotated[
        str | None,
        typer.Option(
            "--markdown", metavar="FILE", help="Write what moved as Markdown; to $GITHUB_STEP_SUMMARY it is appended."
        ),
    ] = None,
    junit_path: Annotated[
        str | None, typer.Option("--junit", metavar="FILE", help="Write a JUnit test case for each point.")
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Print annotations for GitHub Actions, the worst first.")
    ] = False,
    ab_commit: Annotated[
        str | None,
        typer.Option(
            "--ab",
            metavar="COMMIT",
            help="Measure the kernels now against those of this commit, in turns, instead of judging a stored run.",
        ),
    ] = None,
    axis: Annotated[
        list[str] | None, typer.Option("--axis", "-a", help="With --ab: NAME=VALUES, as in `mlabench sweep`.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="With --ab: a model preset.", autocompletion=options.model_names)
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option("--kernel", "-k", help="With --ab: a kernel or backend.", autocompletion=options.kernel_names),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="With --ab: a sweep's TOML file.")] = None,
    device: Annotated[str | None, typer.Option(help="With --ab: auto, cpu or cuda.", show_default="auto")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="With --ab: short for -a dtype=...", show_default="bfloat16")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="With --ab: graph or events on a GPU, cpu on a CPU.", show_default="auto")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="With --ab: last-level cache, cold or warm.", show_default="auto")
    ] = None,
    where: Annotated[str | None, typer.Option(help="With --ab: keep cases for which this holds.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="With --ab: seed of the inputs and of the order.", show_default="0")
    ] = None,
    allow_new: Annotated[
        bool, typer.Option("--allow-new", help="With --ab: a kernel that the commit lacks is new, and not renamed.")
    ] = False,
    max_s: Annotated[
        float | None, typer.Option(help="With --ab: longest alternating of one case, in seconds.", show_default="5")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --ab: run directory to make.", show_default="results/runs/ab/DATE-TIME-DEVICE"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="With --ab or --static: show no progress.")] = False,
    static: Annotated[
        bool,
        typer.Option(
            "--static",
            help="Compare what the kernels compile to instead of a run; takes --baseline and outputs but --junit.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Measure nothing: of --ab show the points; else whether a sweep to come, named as with --ab, has "
            "baselines of this machine and software.",
        ),
    ] = False,
) -> None:
    """Fail if a run is slower than its baseline, wrong, or cannot be judged.

    A run is held against stored ones; with --ab the kernels are measured in turns with those of another commit, which
    on a GPU finds slow-downs of 2%; with --static their machine code is compared, without a GPU.

    Exit codes: 0 pass; 1 regression (slower, missing, no longer measured, or an exact count changed); 2 usage error;
    3 inconclusive, a kernel without a baseline fails, or no point runs what differs from the commit of --ab;
    4 baseline missing, or of another machine, software or method; 5 a kernel is incorrect; 6 nothing was measured.
    Where several apply, the first of 2, 4, 5, 6, 1, 3, 0.

    Example: mlabench gate results/runs/today --baseline results/baselines/nvidia-h200/decode
    """
    stored = {"a run": current, "--baseline": baseline, "--allow-missing": allow_missing}
    cases = {
        "--axis": axis,
        "--model": model,
        "--kernel": kernel,
        "--config": config,
        "--device": device,
        "--dtype": dtype,
        "--method": method,
        "--cache": cache,
        "--where": where,
        "--seed": seed,
    }
    turns = {"--allow-new": allow_new, "--max-s": max_s, "--out": out, "--quiet": quiet}
    ab = {**cases, **turns}
    outputs = {"--all": show_all, "--json": json_path, "--markdown": markdown_path, "--junit": junit_path}
    targets = {"json": json_path, "markdown": markdown_path, "junit": junit_path, "github": "-" if github else None}
    if static:
        others = {**stored, **ab, **outputs, "--min-effect": min_effect, "--ab": ab_commit, "--dry-run": dry_run}
        others |= dict.fromkeys(("--baseline", "--json", "--markdown", "--quiet"))
        _refuse(others, "--static does not take {}: it compares machine code and no times")
        _gate_static(baseline or (), targets, quiet=quiet)
    if dry_run:
        _refuse({"a run": current, **outputs}, "--dry-run does not take {}: it judges nothing")
    if ab_commit is not None:
        _refuse(stored, "--ab does not take {}: it measures both sides itself")
    elif dry_run:
        _refuse(turns, "{} goes with --ab COMMIT, which takes turns")
    else:
        _refuse(ab, "{} goes with --ab COMMIT: a stored run has been measured already")
    # Here, so that the help of any command stays quick.
    from mlabench.cli.outputs import check_targets, deliver, refusals_to
    from mlabench.cli.project import find_project
    from mlabench.records.store import newest_run
    from mlabench.verdict.gate import run_gate
    from mlabench.verdict.outputs import GATE_FORMATS, GATE_REFUSALS

    check_targets(targets)
    with refusals_to(targets, GATE_REFUSALS):
        project = find_project()
        against = baseline or project.values.get("baseline", ())
        if dry_run:
            _plan(ab_commit, ab, against)
            return
        if ab_commit is None:
            result = run_gate(current or newest_run(project.runs_folder), against, min_effect, allow_missing)
        else:
            result = _measure(ab_commit, ab, min_effect)
    deliver(result, GATE_FORMATS, targets, show_all)
    raise typer.Exit(result.exit_code.value)


def _refuse(options: Mapping[str, object], complaint: str) -> None:
    if given := [name for name, value in options.items() if value is not None and value is not False]:
        raise UsageError(complaint.format(" and ".join(given)))


def _measure(commit: str, options: Mapping[str, Any], min_effect: float | None) -> "GateResult":
    from mlabench.cli.ab_steps import run_ab

    return run_ab(commit, _asked(options, min_effect))


def _plan(commit: str | None, options: Mapping[str, Any], baselines: Sequence[Path]) -> None:
    from mlabench.cli.gate_plan import plan_ab, plan_stored

    if commit is None:
        plan_stored(_asked(options), baselines)
    else:
        plan_ab(commit, _asked(options))


def _asked(options: Mapping[str, Any], min_effect: float | None = None) -> "Asked":
    from mlabench.cli.ab_steps import Asked
    from mlabench.verdict.interleaved import MAX_S

    given = {name: tuple(options[f"--{name}"]) for name in ("model", "kernel") if options[f"--{name}"]}
    given |= {name: options[f"--{name}"] for name in ("device", "method", "cache", "where", "seed")}
    dtype = [f"dtype={options['--dtype']}"] if options["--dtype"] else []
    return Asked(
        (*(options["--axis"] or ()), *dtype),
        {name: value for name, value in given.items() if value is not None},
        options["--config"],
        min_effect,
        MAX_S if options["--max-s"] is None else options["--max-s"],
        options["--out"],
        options["--allow-new"],
        quiet=options["--quiet"],
    )


def _gate_static(baselines: Sequence[Path], targets: Mapping[str, str | None], *, quiet: bool) -> NoReturn:
    from mlabench.cli.static_gate import run_static

    if len(baselines) > 1:
        raise UsageError("--static takes one --baseline")
    raise typer.Exit(run_static(baselines[0] if baselines else None, targets=targets, quiet=quiet).value)
