"""Which committed runs a gate takes when none is named."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlabench.errors import ExitCode, MissingBaselineError, UsageError
from mlabench.records.record import Record
from mlabench.records.store import load_run
from mlabench.verdict.baselines import committed_baselines
from mlabench.verdict.gate import run_gate
from tests.factories import FINGERPRINTS, make_case, make_record, make_run, write_run

SLUG = FINGERPRINTS["cuda"].slug

CONFIG: dict[str, Any] = {
    "axes": {"variant": ["mla", "gqa"], "kv_len": [1024, 4096], "dtype": ["bfloat16"]},
    "model": [],
    "kernel": ["triton", "torch"],
    "device": "cuda",
    "method": "graph",
    "where": "batch < 8",
    "seed": 0,
    "sampling_s": 1.0,
}


def records(method: str = "graph", **fields: Any) -> list[Record]:
    return [make_record(make_case(kv_len=1024 * step), "kernel", 200, method=method, **fields) for step in (1, 4)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def current() -> Path:
    return store(Path("now"))


def store(path: Path, stored: Sequence[Record] | None = None, **config: Any) -> Path:
    device = config.pop("device_name", None)
    named = {"device_name": device} if device else {}
    run = make_run(None, records() if stored is None else stored, config={**CONFIG, **config}, **named)
    return write_run(path, run)


def keep(name: str, stored: Sequence[Record] | None = None, **config: Any) -> Path:
    return store(Path("results/baselines") / SLUG / name, stored, **config)


def chosen(current: Path) -> list[str]:
    return [run.name for run in committed_baselines(load_run(current))]


def test_all_runs_of_the_same_sweep_are_taken(current: Path) -> None:
    for name in ("decode-2", "decode", "decode-3"):
        keep(name)
    keep("other", where="batch < 16")
    assert chosen(current) == ["decode", "decode-2", "decode-3"]
    result = run_gate(current, ())
    assert {point.ratio.baseline_runs for point in result.points if point.ratio} == {3}
    assert result.baselines == tuple(f"results/baselines/{SLUG}/{name}" for name in chosen(current))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 7},
        {"sampling_s": 9.0},
        {"where": " batch  <  8 "},
        {"kernel": ["torch", "triton"]},
        {"axes": {"kv_len": [4096, 1024], "dtype": ["bfloat16"], "variant": ["gqa", "mla"]}},
    ],
)
def test_what_does_not_change_the_cases_does_not_matter(current: Path, change: dict[str, Any]) -> None:
    keep("same", **change)
    keep("exact")
    assert chosen(current) == ["exact", "same"]


@pytest.mark.parametrize(
    "change",
    [
        {"where": ""},
        {"kernel": ["triton"]},
        {"model": ["deepseek-v3"]},
        {"axes": {**CONFIG["axes"], "dtype": ["float16"]}},
        {"axes": {**CONFIG["axes"], "batch": [1]}},
        {"axes": {**CONFIG["axes"], "kv_len": [1024]}},
    ],
)
def test_another_sweep_is_not_taken_beside_the_same_one(current: Path, change: dict[str, Any]) -> None:
    keep("other", **change)
    keep("same")
    assert chosen(current) == ["same"]


def test_the_only_run_of_the_method_is_taken_though_it_asked_for_other_points(current: Path) -> None:
    keep("wide", where="")
    keep("eager", records("events"), method="events")
    assert chosen(current) == ["wide"]


def test_a_warm_run_is_not_taken_beside_a_cold_one(current: Path) -> None:
    keep("warm", records(cache="warm"))
    keep("cold")
    assert chosen(current) == ["cold"]
    empty = store(Path("oom"), records(status="oom"))
    assert chosen(empty) == ["cold", "warm"]


def test_several_other_sweeps_are_the_users_choice(current: Path) -> None:
    keep("wide", where="")
    keep("narrow", kernel=["triton"], axes={**CONFIG["axes"], "kv_len": [1024], "batch": [1]})
    with pytest.raises(UsageError) as caught:
        committed_baselines(load_run(current))
    assert str(caught.value).endswith(
        "holds narrow (another kv_len and kernel and batch), wide (another where), none of them of this run's cases: "
        "choose one with --baseline, and add --allow-missing where this run is a part of it"
    )
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_folder_of_runs_is_no_baseline_but_names_those_in_it(current: Path) -> None:
    folder = keep("decode").parent
    keep("decode-2")
    with pytest.raises(UsageError, match=r"is a folder of runs \(decode, decode-2\): give each that counts") as caught:
        run_gate(current, [folder])
    assert caught.value.exit_code is ExitCode.USAGE


def test_the_first_baseline_is_told_how_to_be_made(current: Path) -> None:
    with pytest.raises(MissingBaselineError) as caught:
        committed_baselines(load_run(current))
    assert str(caught.value).endswith(f"mlabench sweep --config FILE --out results/baselines/{SLUG}/NAME")


def test_without_a_run_of_the_method_there_is_no_baseline(current: Path) -> None:
    keep("eager", records("events"), method="events")
    with pytest.raises(MissingBaselineError, match=r"eager, none of them timed as this run \(cold/graph\)"):
        committed_baselines(load_run(current))


def test_an_empty_run_is_held_against_the_baselines_of_the_method_it_asked_for() -> None:
    keep("graph")
    empty = store(Path("empty"), [])
    assert chosen(empty) == ["graph"]
    assert run_gate(empty, ()).exit_code is ExitCode.NOTHING_MEASURED


def test_a_baseline_is_not_held_against_itself() -> None:
    first = keep("first")
    with pytest.raises(MissingBaselineError, match="there is no baseline"):
        committed_baselines(load_run(first))
    keep("second")
    assert chosen(first) == ["second"]


def test_another_device_has_a_folder_of_its_own() -> None:
    keep("same")
    with pytest.raises(MissingBaselineError, match="results/baselines/other-gpu"):
        committed_baselines(load_run(store(Path("elsewhere"), device_name="Other GPU")))


def test_a_chosen_baseline_of_other_software_is_refused(current: Path) -> None:
    keep("good")
    old = replace(FINGERPRINTS["cuda"], torch="2.0.0")
    write_run(Path("results/baselines") / SLUG / "old", make_run(None, records(), config=CONFIG, fingerprint=old))
    with pytest.raises(
        MissingBaselineError, match=r"old was measured on other terms .*torch '2\.13\.0' against '2\.0\.0'"
    ):
        run_gate(current, ())


def test_a_damaged_baseline_is_not_passed_over(current: Path) -> None:
    keep("good")
    (keep("damaged") / "manifest.json").write_text("[]")
    with pytest.raises(MissingBaselineError, match=r"no baseline: .*damaged"):
        run_gate(current, ())
