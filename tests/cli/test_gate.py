import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import parse

import pytest
import typer
from typer.testing import CliRunner, Result

from mlabench.cli.device_state import INTERPRETED, device_warnings, worker_fingerprint
from mlabench.cli.gate import gate
from mlabench.errors import ExitCode, UsageError
from mlabench.machine.fingerprint import cpu_name
from mlabench.measure.config import SweepConfig
from mlabench.records.record import Record
from tests.factories import FINGERPRINTS, make_case, make_record, make_run, write_run

CASES = [make_case(kv_len=1024 * step, num_q_heads=heads) for step in (4, 8) for heads in (16, 128)]


def records(factor: float = 1.0, **fields: Any) -> list[Record]:
    return [make_record(case, "mla_decode_triton", 200 * factor, **fields) for case in CASES]


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    return write_run(tmp_path / "before", make_run(None, records()))


def run(*arguments: str | Path) -> Result:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(gate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def exit_code(result: Result) -> int:
    """The code after the command line's `main`, which turns a `UsageError` into its own."""
    return result.exception.exit_code if isinstance(result.exception, UsageError) else result.exit_code


def store(tmp_path: Path, current: list[Record]) -> Path:
    return write_run(tmp_path / "now", make_run(None, current))


@pytest.mark.parametrize(
    ("current", "code", "words"),
    [
        (records(1.02), 0, "gate: PASS (0): 4 points compared, none slower by more than 5.0% and 1 us"),
        (records(0.5), 0, "gate: PASS (0): 4 points compared, none slower by more than 5.0% and 1 us, 4 faster"),
        (records(2.0), 1, "gate: FAIL (1): 4 of 4 points slower"),
        (records()[1:], 1, "gate: FAIL (1): 1 of 4 points missing"),
        (records(1.05), 3, "gate: INCONCLUSIVE (3): 4 of 4 points inconclusive"),
        (records(cache="warm"), 3, "gate: INCONCLUSIVE (3): 4 of 4 points not comparable"),
        (records(status="incorrect"), 5, "gate: FAIL (5): 4 of 4 points incorrect"),
        (records(status="oom"), 6, "gate: FAIL (6): nothing was measured in the current run"),
        ([], 6, "gate: FAIL (6): nothing was measured in the current run"),
    ],
)
def test_the_last_line_and_the_exit_code_agree(
    tmp_path: Path, baseline: Path, current: list[Record], code: int, words: str
) -> None:
    result = run(store(tmp_path, current), "--baseline", baseline)
    assert result.exit_code == code
    assert result.stdout.rstrip().splitlines()[-1].rstrip() == words


def test_usage_errors_and_missing_baselines_have_their_own_codes(tmp_path: Path, baseline: Path) -> None:
    current = store(tmp_path, records())
    assert exit_code(run(tmp_path / "nowhere", "--baseline", baseline)) == 2
    assert exit_code(run(current, "--baseline", baseline, "--min-effect", "5")) == 2
    assert exit_code(run(current, "--baseline", baseline, "--min-effect", "much")) == 2
    assert exit_code(run(current, "--baseline", tmp_path / "nowhere")) == 4
    other = write_run(tmp_path / "other", make_run(None, records(), device_name="Other GPU"))
    refused = run(current, "--baseline", other)
    assert exit_code(refused) == 4
    assert "device_name" in str(refused.exception)


def test_the_table_lists_what_moved_with_the_worst_first(tmp_path: Path, baseline: Path) -> None:
    same, slow, slower, lost = records()
    current = [
        same,
        make_record(slow.case, slow.kernel, 240, throttled=True),
        make_record(slower.case, slower.kernel, 400),
        make_record(lost.case, lost.kernel, status="error", reason="[odd] text"),
    ]
    result = run(store(tmp_path, current), "--baseline", baseline)
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert [row[0] for row in rows[2:5]] == ["lost", "slower", "slower"]
    assert "2.000x" in rows[3] and "1.200x" in rows[4]
    assert "[odd] text" in result.stdout
    assert "clocks were held down now" in result.stdout
    assert "1 the same (--all lists every point)" in result.stdout


def test_all_lists_every_point(tmp_path: Path, baseline: Path) -> None:
    current = store(tmp_path, records())
    assert "mla_decode_triton" not in run(current, "--baseline", baseline).stdout
    assert run(current, "--baseline", baseline, "--all").stdout.count("mla_decode_triton") == 4


def test_changed_counts_are_shown_to_the_last_digit(tmp_path: Path, baseline: Path) -> None:
    lines = (baseline / "records.jsonl").read_text().splitlines()
    plain = json.loads(lines[0])
    plain["arithmetic"]["flops"] += 1
    (baseline / "records.jsonl").write_text("\n".join([json.dumps(plain), *lines[1:]]) + "\n")
    result = run(store(tmp_path, records()), "--baseline", baseline)
    flops = records()[0].case.flops
    assert result.exit_code == 1
    assert f"flops {flops + 1:,} is now {flops:,}" in result.stdout


def test_output_to_a_pipe_is_plain(tmp_path: Path, baseline: Path) -> None:
    assert "\x1b" not in run(store(tmp_path, records(2.0)), "--baseline", baseline).output


def test_a_narrow_screen_breaks_no_word(tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr("mlabench.cli.gate_table.console", lambda: Console(width=80, highlight=False))
    kernel = "a_kernel_with_a_name_that_fills_the_column"
    current = [*records(2.0), *(make_record(case, kernel) for case in CASES)]
    lines = run(store(tmp_path, current), "--baseline", baseline).stdout.splitlines()
    words = {word for line in lines for word in line.split()}
    assert {kernel, "mla_decode_triton", "absorbed", "kv_len", "bfloat16", "2.000x"} <= words


def test_missing_points_can_be_allowed(tmp_path: Path, baseline: Path) -> None:
    result = run(store(tmp_path, records()[1:]), "--baseline", baseline, "--allow-missing")
    assert result.exit_code == 0
    assert "missing" in result.stdout


def test_json_goes_to_a_file(tmp_path: Path, baseline: Path) -> None:
    target = tmp_path / "gate.json"
    result = run(store(tmp_path, records(2.0)), "-b", baseline, "--json", target)
    plain = json.loads(target.read_text())
    assert result.exit_code == plain["exit_code"] == 1
    assert len(plain["points"]) == 4
    assert "gate: FAIL (1)" in result.stdout


def test_json_alone_goes_to_standard_output(tmp_path: Path, baseline: Path) -> None:
    result = run(store(tmp_path, records()), "--baseline", baseline, "--json", "-")
    assert json.loads(result.stdout)["outcome"] == "pass"
    assert "gate: PASS (0)" in result.stderr


def test_a_json_file_that_cannot_be_written_is_a_usage_error(tmp_path: Path, baseline: Path) -> None:
    result = run(store(tmp_path, records()), "--baseline", baseline, "--json", tmp_path / "no" / "gate.json")
    assert exit_code(result) == 2


@pytest.mark.parametrize(
    "others",
    [
        ("run",),
        ("--min-effect", "0"),
        ("--allow-missing",),
        ("--all",),
        ("--dry-run",),
        ("--junit", "j"),
        ("-b", "a", "-b", "b"),
    ],
)
def test_the_static_gate_refuses_what_it_does_not_use(others: tuple[str, ...]) -> None:
    result = run("--static", *others)
    assert exit_code(result) == 2
    assert str(result.exception).startswith("--static ")


def test_the_static_gate_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path | None, Mapping[str, str | None], bool]] = []

    def stand_in(baseline: Path | None, *, targets: Mapping[str, str | None], quiet: bool) -> ExitCode:
        asked.append((baseline, {name: target for name, target in targets.items() if target}, quiet))
        return ExitCode.REGRESSION

    monkeypatch.setattr("mlabench.cli.static_gate.run_static", stand_in)
    assert run("--static").exit_code == 1
    outputs = ("--json", "j.json", "--markdown", "s.md", "--github")
    assert run("--static", "--baseline", "b.json", *outputs, "--quiet").exit_code == 1
    assert asked == [
        (None, {}, False),
        (Path("b.json"), {"json": "j.json", "markdown": "s.md", "github": "-"}, True),
    ]


def test_several_baselines_are_taken(tmp_path: Path, baseline: Path) -> None:
    others = [write_run(tmp_path / name, make_run(None, records(seed=3))) for name in ("b", "c")]
    arguments = [item for path in (baseline, *others) for item in ("--baseline", path)]
    result = run(store(tmp_path, records()), *arguments, "--json", "-")
    assert {point["baseline_runs"] for point in json.loads(result.stdout)["points"]} == {3}


def test_the_committed_baselines_of_the_device_are_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    current = store(tmp_path, records())
    slug = make_run(None, []).manifest.fingerprint.slug
    nothing = run(current)
    assert exit_code(nothing) == 4
    assert f"there is no baseline under results/baselines/{slug}" in str(nothing.exception)
    for name in ("first", "second"):
        write_run(tmp_path / "results" / "baselines" / slug / name, make_run(None, records()))
    result = run(current)
    assert result.exit_code == 0
    folder = f"results/baselines/{slug}"
    assert f"{current} against {folder}/first, {folder}/second" in result.stdout


def test_one_gate_writes_every_output(tmp_path: Path, baseline: Path) -> None:
    names = {"--json": "g.json", "--markdown": "g.md", "--junit": "g.xml"}
    options = [item for option, name in names.items() for item in (option, tmp_path / name)]
    result = run(store(tmp_path, records(2.0)), "--baseline", baseline, *options, "--github")
    assert result.exit_code == 1
    assert json.loads((tmp_path / "g.json").read_text())["exit_code"] == 1
    assert "### gate: FAIL (1)" in (tmp_path / "g.md").read_text()
    assert parse(tmp_path / "g.xml").getroot().get("failures") == "4"
    lines = result.stdout.rstrip().splitlines()
    assert lines[0] == "::error title=mlabench gate::gate: FAIL (1): 4 of 4 points slower"
    assert lines[-1].rstrip() == "gate: FAIL (1): 4 of 4 points slower"


@pytest.mark.parametrize("option", ["--json", "--markdown", "--junit"])
def test_each_output_alone_goes_to_standard_output(tmp_path: Path, baseline: Path, option: str) -> None:
    result = run(store(tmp_path, records()), "--baseline", baseline, option, "-")
    assert result.exit_code == 0
    assert result.stdout.startswith({"--json": "{", "--markdown": "### ", "--junit": "<?xml"}[option])
    assert "gate: PASS (0)" in result.stderr


@pytest.mark.parametrize("others", [("--markdown", "-"), ("--junit", "-"), ("--github",)])
def test_two_outputs_do_not_share_standard_output(tmp_path: Path, baseline: Path, others: tuple[str, ...]) -> None:
    result = run(store(tmp_path, records()), "--baseline", baseline, "--json", "-", *others)
    assert exit_code(result) == 2
    assert result.stdout == ""
    assert f"--json and {others[0]} cannot share standard output" in str(result.exception)


def test_the_summary_of_a_ci_step_is_appended_to_and_other_files_are_replaced(
    tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, other = tmp_path / "step.md", tmp_path / "other.md"
    step.write_text("# before\n")
    other.write_text("# before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    current = store(tmp_path, records())
    for target in (step, step, other, other):
        run(current, "--baseline", baseline, "--markdown", target)
    assert step.read_text().startswith("# before\n### gate: PASS (0)")
    assert step.read_text().count("### gate: PASS (0)") == 2
    assert other.read_text().startswith("### gate: PASS (0)")
    assert other.read_text().count("### gate: PASS (0)") == 1


def test_a_gate_that_cannot_judge_is_annotated_too(tmp_path: Path) -> None:
    result = run(store(tmp_path, records()), "--baseline", tmp_path / "nowhere", "--github")
    assert exit_code(result) == 4
    assert result.stdout.startswith("::error title=mlabench gate::no baseline: ")


def test_a_reason_cannot_pose_as_a_workflow_command(tmp_path: Path, baseline: Path) -> None:
    reason = "boom\n::error title=x::y\r\n::add-mask::z\x1b[31m\ud800"
    first, *rest = records()
    current = [make_record(first.case, first.kernel, status="error", reason=reason), *rest]
    result = run(store(tmp_path, current), "-b", baseline, "--github", "--markdown", tmp_path / "g.md")
    assert result.exit_code == 1
    commands = [line for line in result.stdout.splitlines() if line.lstrip().startswith("::")]
    assert [line.split("::")[1].split()[0] for line in commands] == ["error", "error"]
    assert "\x1b" not in result.stdout
    assert "boom ::error title=x::y" in (tmp_path / "g.md").read_text()


def test_a_refusal_replaces_what_a_gate_that_passed_has_written(tmp_path: Path, baseline: Path) -> None:
    names = {"--json": "g.json", "--markdown": "g.md", "--junit": "g.xml"}
    options = [item for option, name in names.items() for item in (option, tmp_path / name)]
    current = store(tmp_path, records())
    assert run(current, "--baseline", baseline, *options).exit_code == 0
    assert exit_code(run(current, "--baseline", tmp_path / "nowhere", *options)) == 4
    plain = json.loads((tmp_path / "g.json").read_text())
    assert {name: plain[name] for name in ("schema_version", "command", "exit_code", "outcome", "points")} == {
        "schema_version": 1,
        "command": "gate",
        "exit_code": 4,
        "outcome": "no_baseline",
        "points": [],
    }
    assert plain["error"].startswith("no baseline: ")
    assert (tmp_path / "g.md").read_text().startswith("### gate: REFUSED (4): no baseline: ")
    root = parse(tmp_path / "g.xml").getroot()
    assert [(root.get("tests"), root.get("errors"))] == [("1", "1")]
    error = root.find("testsuite/testcase/error")
    assert error is not None
    assert error.get("type") == "no_baseline"


def test_a_refusal_on_standard_output_is_all_of_it(tmp_path: Path) -> None:
    refused = run(store(tmp_path, records()), "--baseline", tmp_path / "nowhere", "--json", "-")
    assert json.loads(refused.stdout)["exit_code"] == exit_code(refused) == 4


@pytest.mark.parametrize(
    ("target", "words"),
    [("no/gate.json", "its folder is not there"), (".", "it is a folder"), ("held.json", "permission denied")],
)
def test_an_output_that_cannot_be_written_is_told_before_anything_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, words: str
) -> None:
    monkeypatch.setattr("mlabench.verdict.gate.run_gate", lambda *_: pytest.fail("judged"))
    monkeypatch.setattr("mlabench.machine_code.static_gate.load_baseline", lambda *_: pytest.fail("judged"))
    monkeypatch.setattr("mlabench.cli.outputs.os.access", lambda *_: False)
    for arguments in (("a run",), ("--static",)):
        result = run(*arguments, "--json", tmp_path / target)
        assert exit_code(result) == 2
        assert f"{words}; choose another --json" in str(result.exception)


def test_what_was_judged_is_shown_even_if_a_file_fails_at_last(
    tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlabench.cli.outputs.check_targets", lambda _targets: None)
    result = run(store(tmp_path, records()), "--baseline", baseline, "--json", tmp_path / "no" / "gate.json")
    assert exit_code(result) == 2
    assert "gate: PASS (0)" in result.stdout


def test_two_outputs_do_not_share_a_file(tmp_path: Path, baseline: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    options = ("--json", tmp_path / "gate", "--junit", tmp_path / "link" / "gate")
    result = run(store(tmp_path, records()), "--baseline", baseline, *options)
    assert exit_code(result) == 2
    assert "--json and --junit cannot share" in str(result.exception)
    assert not (tmp_path / "gate").exists()


def test_a_gate_that_passes_lists_the_fastest_alone(tmp_path: Path) -> None:
    cases = [make_case(kv_len=1024 * step) for step in range(1, 31)]
    before = write_run(tmp_path / "many", make_run(None, [make_record(case, "kernel", 200) for case in cases]))
    latencies = [*(150 - step for step in range(20)), *([200] * 10)]
    current = [make_record(*each, throttled=True) for each in zip(cases, ["kernel"] * 30, latencies, strict=True)]
    shown = run(store(tmp_path, current), "--baseline", before).stdout
    assert shown.count("faster ") - shown.count("faster (") == 10
    assert "131 us" in shown and "150 us" not in shown
    assert "10 faster, 10 the same (--all lists every point)" in shown
    assert "warning: 20 points with warnings, all of them: clocks were held down now" in shown
    assert "gate: PASS (0): 30 points compared" in shown


DRY = ("--dry-run", "--device", "cpu")


def test_a_dry_run_looks_for_baselines_of_this_machine_before_any_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlabench.cli.gate_plan.worker_fingerprint", lambda _: FINGERPRINTS["cpu"])
    monkeypatch.setattr("os.getloadavg", lambda: (64.0, 0.0, 0.0), raising=False)
    folder = Path("results/baselines") / FINGERPRINTS["cpu"].slug
    nothing = run(*DRY, "-a", "kv_len=64", "--github")
    assert exit_code(nothing) == 4
    assert f"mlabench sweep --config FILE --out {folder}/NAME" in str(nothing.exception)
    assert nothing.stdout.startswith("::error title=mlabench gate::there is no baseline under")
    config = {"axes": {"kv_len": [64]}, "model": [], "kernel": [], "device": "cpu", "method": "cpu", "where": ""}
    stored = [make_record(make_case(kv_len=64), "kernel", 200, method="cpu", device="cpu")]
    for name in ("small", "small-2"):
        write_run(folder / name, make_run(None, stored, "cpu", config=config))
    found = run(*DRY, "-a", "kv_len=64")
    assert found.exit_code == 0
    assert found.stdout.splitlines() == [
        f"{folder}/small",
        f"{folder}/small-2",
        "2 baselines of this machine (Synthetic CPU) and its software; three or more show how far unchanged runs lie "
        "apart",
    ]
    assert "warning: load average of the last minute" in found.stderr
    monkeypatch.setattr(
        "mlabench.cli.gate_plan.worker_fingerprint", lambda _: replace(FINGERPRINTS["cpu"], torch="2.0.0")
    )
    refused = run(*DRY, "-a", "kv_len=64")
    assert exit_code(refused) == 4
    assert "torch '2.0.0' against '2.13.0'" in str(refused.exception)


def test_the_fingerprint_of_a_dry_run_is_that_of_a_sweep() -> None:
    config = SweepConfig(device="cpu", method="cpu", cache="warm")
    taken = worker_fingerprint(config)
    assert taken.device == "cpu"
    assert taken.device_name == cpu_name()


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (("run",), "--dry-run does not take a run"),
        (("--json", "j"), "--dry-run does not take --json"),
        (("--all",), "--dry-run does not take --all"),
        (("--max-s", "1"), "--max-s goes with --ab COMMIT"),
        (("--ab", "HEAD", "--baseline", "b"), "--ab does not take --baseline"),
    ],
)
def test_a_dry_run_refuses_what_it_does_not_use(others: tuple[str, ...], words: str) -> None:
    result = run(*DRY, *others)
    assert exit_code(result) == 2
    assert words in str(result.exception)


def test_an_interpreted_triton_is_remarked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert device_warnings("cuda") == (INTERPRETED,)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert device_warnings("cuda") == ()


def test_a_busy_cpu_is_remarked_and_a_gpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0.0, 0.0), raising=False)
    (line,) = device_warnings("cpu")
    assert line.endswith("stop what else computes here, or expect wide intervals")
    assert device_warnings("cuda") == ()
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    assert device_warnings("cpu") == ()


@pytest.mark.parametrize(("now", "before", "code"), [(0.5, 0.0, 3), (0.0, 0.5, 3), (0.0, 0.0, 1), (None, None, 1)])
def test_a_slow_point_beside_others_on_the_processors_is_inconclusive(
    tmp_path: Path, now: float | None, before: float | None, code: int
) -> None:
    def stored(name: str, latency_us: float, share: float | None) -> Path:
        telemetry = {"others_share": [share]}
        point = make_record(CASES[0], "kernel", latency_us, method="cpu", device="cpu", telemetry=telemetry)
        return write_run(tmp_path / name, make_run(None, [point], "cpu"))

    result = run(stored("now", 2110, now), "--baseline", stored("before", 1000, before))
    assert result.exit_code == code
    shown = " ".join(result.stdout.split())
    assert ("sweep what the notes name again on an idle machine" in shown) == (code == 3)
    assert ("others computed on the processors" in shown) == (code == 3)
