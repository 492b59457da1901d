import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlabench.errors import ExitCode, MissingBaselineError, UsageError
from mlabench.machine.fingerprint import Fingerprint
from mlabench.records.record import Record
from mlabench.records.store import RECORDS_NAME
from mlabench.verdict.comparison import WORDS, settings_of
from mlabench.verdict.gate import OUTCOMES, GateResult, run_gate
from mlabench.verdict.noise import NOISE
from mlabench.verdict.point import Verdict
from tests.factories import FINGERPRINTS, make_case, make_record, make_run, write_run

CASES = [make_case(kv_len=1024 * step) for step in (4, 8, 16, 32)]


def records(factor: float = 1.0, cases: Sequence[Any] = CASES, **fields: Any) -> list[Record]:
    seed = fields.pop("seed", 0)
    return [
        make_record(case, "kernel", 200 * factor, noise=0.005, seed=seed + index, **fields)
        for index, case in enumerate(cases)
    ]


def store(path: Path, stored: Sequence[Record], **fields: Any) -> Path:
    return write_run(path, make_run(None, stored, **fields))


def judge(tmp_path: Path, current: Sequence[Record], baseline: Sequence[Record], **options: Any) -> GateResult:
    now, before = store(tmp_path / "now", current), store(tmp_path / "before", baseline)
    return run_gate(now, [before], **options)


def one_changed(**fields: Any) -> list[Record]:
    first, *rest = records(seed=50)
    return [make_record(first.case, first.kernel, 200, **fields), *rest]


SITUATIONS: dict[str, tuple[list[Record], list[Record], ExitCode]] = {
    "unchanged": (records(seed=50), records(), ExitCode.PASS),
    "twice as slow": (records(2.0), records(), ExitCode.REGRESSION),
    "slower by 3%, under the least effect": (records(1.03, seed=50), records(), ExitCode.PASS),
    "slower by 5%, on the edge": (records(1.05, seed=50), records(), ExitCode.INCONCLUSIVE),
    "faster": (records(0.5), records(), ExitCode.PASS),
    "one point incorrect": (one_changed(status="incorrect"), records(), ExitCode.INCORRECT),
    "incorrect as in the baseline": (
        one_changed(status="incorrect"),
        one_changed(status="incorrect"),
        ExitCode.INCORRECT,
    ),
    "all points incorrect": (records(status="incorrect"), records(), ExitCode.INCORRECT),
    "incorrect beside a slower one": (
        [*one_changed(status="incorrect")[:1], *records(2.0)[1:]],
        records(),
        ExitCode.INCORRECT,
    ),
    "a missing point": (records()[1:], records(), ExitCode.REGRESSION),
    "a point out of memory": (one_changed(status="oom"), records(), ExitCode.REGRESSION),
    "a new point": (records(), records()[1:], ExitCode.PASS),
    "a new point that is unsupported": (one_changed(status="unsupported"), records()[1:], ExitCode.PASS),
    "a new point that crashes": (one_changed(status="error"), records()[1:], ExitCode.INCONCLUSIVE),
    "only new points that crash": (records(status="error"), records()[:0], ExitCode.NOTHING_MEASURED),
    "another cache": (records(cache="warm"), records(), ExitCode.INCONCLUSIVE),
    "too few samples": (records(samples=4), records(), ExitCode.INCONCLUSIVE),
    "slower beside too few samples": ([*records(2.0)[:1], *records(samples=4)[1:]], records(), ExitCode.REGRESSION),
    "no overlap": (records()[:2], records()[2:], ExitCode.NOTHING_MEASURED),
    "an empty run": ([], records(), ExitCode.NOTHING_MEASURED),
    "an empty baseline": (records(), [], ExitCode.NOTHING_MEASURED),
    "two empty runs": ([], [], ExitCode.NOTHING_MEASURED),
    "all unsupported": (records(status="unsupported"), records(), ExitCode.NOTHING_MEASURED),
    "unsupported in both": (
        records(status="unsupported"),
        records(status="unsupported"),
        ExitCode.NOTHING_MEASURED,
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_exit_code_of_each_situation(tmp_path: Path, name: str) -> None:
    current, baseline, expected = SITUATIONS[name]
    result = judge(tmp_path, current, baseline)
    assert result.exit_code is expected, result.summary
    assert result.summary.startswith(f"gate: {OUTCOMES[expected]} ({expected.value}): ")


def test_exit_codes_are_stable_and_agree_with_the_errors() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "PASS": 0,
        "REGRESSION": 1,
        "USAGE": 2,
        "INCONCLUSIVE": 3,
        "NO_BASELINE": 4,
        "INCORRECT": 5,
        "NOTHING_MEASURED": 6,
        "INTERRUPTED": 130,
    }
    assert (UsageError.exit_code, MissingBaselineError.exit_code) == (ExitCode.USAGE, ExitCode.NO_BASELINE)
    assert WORDS.keys() == set(Verdict)


@pytest.mark.parametrize("verdict", Verdict)
def test_no_verdict_alone_passes_but_those_that_are_not_slower(tmp_path: Path, verdict: Verdict) -> None:
    (point, *_) = judge(tmp_path, records(), records()).points
    result = GateResult("now", (), settings_of(NOISE["cuda"]), (replace(point, verdict=verdict),))
    assert (result.exit_code is ExitCode.PASS) == (verdict in (Verdict.SAME, Verdict.NOT_SLOWER, Verdict.FASTER))
    assert result.summary


def test_missing_points_are_only_reported_where_that_is_allowed(tmp_path: Path) -> None:
    result = judge(tmp_path, records(seed=50)[1:], records(), allow_missing=True)
    assert result.exit_code is ExitCode.PASS
    assert result.summary.endswith("3 points compared, none slower by more than 5.0% and 1 us, 1 missing")


def test_allowing_missing_points_does_not_allow_lost_ones(tmp_path: Path) -> None:
    assert judge(tmp_path, one_changed(status="oom"), records(), allow_missing=True).exit_code is ExitCode.REGRESSION


def test_the_least_effect_can_be_set(tmp_path: Path) -> None:
    assert judge(tmp_path, records(2.0), records(), min_effect=0.95).exit_code is not ExitCode.PASS
    now, before = store(tmp_path / "a", records(1.1)), store(tmp_path / "b", records())
    assert run_gate(now, [before]).exit_code is ExitCode.REGRESSION
    assert run_gate(now, [before], min_effect=0.2).exit_code is ExitCode.PASS
    assert run_gate(now, [before], min_effect=0.001).exit_code is ExitCode.REGRESSION


@pytest.mark.parametrize("min_effect", [0.0, -0.1, 1.0, 5.0, float("nan"), float("inf")])
def test_an_effect_that_is_no_fraction_is_refused(tmp_path: Path, min_effect: float) -> None:
    with pytest.raises(UsageError, match=r"write 0\.05 for 5%"):
        judge(tmp_path, records(), records(), min_effect=min_effect)


def test_current_that_is_no_run_is_a_usage_error(tmp_path: Path) -> None:
    baseline = store(tmp_path / "before", records())
    with pytest.raises(UsageError, match="not a run") as caught:
        run_gate(tmp_path / "nowhere", [baseline])
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("damage", ["absent", "a folder", "a file", "manifest", "another schema", "a record", "NaN"])
def test_a_baseline_that_cannot_be_read_is_missing(tmp_path: Path, damage: str) -> None:
    current, baseline = store(tmp_path / "now", records()), tmp_path / "before"
    if damage == "a folder":
        baseline.mkdir()
    elif damage == "a file":
        baseline.write_text("{}")
    elif damage != "absent":
        store(baseline, records())
        lines = (baseline / RECORDS_NAME).read_text().splitlines(keepends=True)
        broken = {"a record": "[]\n", "NaN": lines[0].replace('"samples_us":[', '"samples_us":[NaN,')}.get(damage)
        manifest = {"manifest": "[]", "another schema": json.dumps({"schema_version": 99})}.get(damage)
        if broken:
            (baseline / RECORDS_NAME).write_text(broken)
        if manifest:
            (baseline / "manifest.json").write_text(manifest)
    with pytest.raises(MissingBaselineError, match="no baseline: "):
        run_gate(current, [baseline])


def test_another_machine_or_software_is_refused_naming_every_field(tmp_path: Path) -> None:
    plain = FINGERPRINTS["cuda"].to_json() | {"device_name": "Other GPU", "power_limit_w": 350.0, "torch": "2.0.0"}
    current = store(tmp_path / "now", records())
    baseline = store(tmp_path / "before", records(), fingerprint=Fingerprint.from_json(plain))
    with pytest.raises(MissingBaselineError) as caught:
        run_gate(current, [baseline])
    for clause in ("device_name 'Synthetic H200' against 'Other GPU'", "power_limit_w 700.0 against 350.0", "torch"):
        assert clause in str(caught.value)


def test_another_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingBaselineError, match="method 'events' against 'graph'"):
        judge(tmp_path, records(method="events"), records())


def test_each_of_several_baselines_must_fit(tmp_path: Path) -> None:
    current, good = store(tmp_path / "now", records(seed=50)), store(tmp_path / "good", records())
    other = store(tmp_path / "other", records(), device_name="Other GPU")
    with pytest.raises(MissingBaselineError, match=r"other .*Other GPU"):
        run_gate(current, [good, other])
    with pytest.raises(UsageError, match="each run once"):
        run_gate(current, [good, tmp_path / "now" / ".." / "good"])


def test_several_baselines_are_judged_together(tmp_path: Path) -> None:
    current = store(tmp_path / "now", records(seed=50))
    baselines = [store(tmp_path / f"before{seed}", records(seed=seed)) for seed in (1, 2, 3)]
    result = run_gate(current, baselines)
    assert result.exit_code is ExitCode.PASS
    assert {point.ratio.baseline_runs for point in result.points if point.ratio} == {3}


def test_a_record_that_was_cut_short_is_warned_about_and_missing(tmp_path: Path) -> None:
    current, baseline = store(tmp_path / "now", records(seed=50)), store(tmp_path / "before", records())
    content = (current / RECORDS_NAME).read_bytes()
    (current / RECORDS_NAME).write_bytes(content[:-40])
    result = run_gate(current, [baseline])
    assert result.exit_code is ExitCode.REGRESSION
    assert result.counts[Verdict.MISSING] == 1
    assert any("cut short" in warning for warning in result.warnings)


def test_nan_cannot_enter_a_run(tmp_path: Path) -> None:
    current, baseline = store(tmp_path / "now", records()), store(tmp_path / "before", records())
    content = (current / RECORDS_NAME).read_text()
    (current / RECORDS_NAME).write_text(content.replace('"samples_us":[', '"samples_us":[NaN,', 1))
    with pytest.raises(UsageError, match="line 1: not a record"):
        run_gate(current, [baseline])


def test_a_changed_formula_is_a_regression(tmp_path: Path) -> None:
    before = [replace(r, stored_arithmetic={**r.arithmetic, "bytes_moved": 1}) for r in records()]
    result = judge(tmp_path, records(seed=50), before)
    assert result.exit_code is ExitCode.REGRESSION
    assert result.counts == {Verdict.CHANGED: 4}


def test_a_run_is_no_baseline_of_itself_nor_of_its_copy_that_went_on(tmp_path: Path) -> None:
    run, copy = store(tmp_path / "run", records()), tmp_path / "copy"
    shutil.copytree(run, copy)
    with (copy / RECORDS_NAME).open("a") as file:
        file.write(json.dumps(make_record(make_case(kv_len=99), "kernel", 200).to_json()) + "\n")
    for baseline in (run, copy):
        with pytest.raises(UsageError, match="which say nothing of themselves"):
            run_gate(run, [baseline])


def test_a_cpu_has_its_own_least_effect(tmp_path: Path) -> None:
    now = store(tmp_path / "now", records(1.1, seed=50, method="cpu"), device="cpu")
    before = store(tmp_path / "before", records(method="cpu"), device="cpu")
    result = run_gate(now, [before])
    assert result.exit_code is ExitCode.PASS
    assert result.settings == settings_of(NOISE["cpu"])


def test_json_holds_every_point_and_what_it_was_judged_by(tmp_path: Path) -> None:
    current = [*records(2.0)[:1], *records(seed=50)[1:3]]
    plain = json.loads(json.dumps(judge(tmp_path, current, records()).to_json(), allow_nan=False))
    assert (plain["schema_version"], plain["command"]) == (1, "gate")
    assert (plain["exit_code"], plain["outcome"]) == (1, "regression")
    assert plain["summary"] == "gate: FAIL (1): 1 of 4 points slower, 1 missing"
    assert plain["settings"]["min_effect"] == 0.05
    assert plain["counts"] == {verdict.value: plain["counts"][verdict.value] for verdict in Verdict}
    assert [point["verdict"] for point in plain["points"]] == ["slower", "same", "same", "missing"]
    slower, *_, missing = plain["points"]
    assert slower["ratio"] == pytest.approx(2, rel=0.01)
    assert slower["ratio_low"] < slower["ratio"] < slower["ratio_high"]
    assert missing["ratio"] is None and missing["reason"] == "no record of it now"


def test_a_least_effect_under_the_devices_own_is_warned_of(tmp_path: Path) -> None:
    assert judge(tmp_path / "own", records(), records(), min_effect=0.05).warnings == ()
    assert judge(tmp_path / "less", records(), records(), min_effect=0.01).warnings == (
        "--min-effect 0.01 is under 0.05, the least on cuda that unchanged code stays below",
    )


@pytest.mark.parametrize(("count", "hint"), [(1, "give three or more runs as --baseline"), (3, "with --ab COMMIT")])
def test_the_hint_asks_for_no_baselines_that_are_there(tmp_path: Path, count: int, hint: str) -> None:
    case = make_case()
    names = [f"before-{number}" for number in range(count)]
    before = [write_run(tmp_path / name, make_run(None, [make_record(case, "kernel", 200)])) for name in names]
    current = write_run(tmp_path / "now", make_run(None, [make_record(case, "kernel", 210)]))
    result = run_gate(current, before)
    assert result.exit_code is ExitCode.INCONCLUSIVE
    assert hint in result.hint


def test_the_hint_of_a_slow_down_tells_how_to_tell_the_machine_from_the_code(tmp_path: Path) -> None:
    result = judge(tmp_path, [make_record(make_case(), "kernel", 400)], [make_record(make_case(), "kernel", 200)])
    assert result.exit_code is ExitCode.REGRESSION
    assert "--ab COMMIT" in result.hint


def test_the_hint_of_what_cannot_be_compared_asks_for_no_longer_sampling(tmp_path: Path) -> None:
    case = make_case()
    before = write_run(tmp_path / "before", make_run(None, [make_record(case, "kernel", 200, cache="warm")]))
    current = write_run(tmp_path / "now", make_run(None, [make_record(case, "kernel", 200, cache="cold")]))
    assert "the points say what cannot be compared" in run_gate(current, [before]).hint
