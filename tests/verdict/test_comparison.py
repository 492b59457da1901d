from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlabench.errors import ExitCode, UsageError
from mlabench.records.record import Record
from mlabench.verdict.comparison import Comparison, compare_two
from mlabench.verdict.gate import run_gate
from mlabench.verdict.point import Verdict
from tests.factories import make_case, make_record, make_run, write_run

CASES = [make_case(kv_len=1024 * step) for step in (4, 8, 16)]


def records(factor: float = 1.0, **fields: Any) -> list[Record]:
    return [make_record(case, "kernel", 200 * factor, **fields) for case in CASES]


def compare(tmp_path: Path, base: Sequence[Record], current: Sequence[Record], **fields: Any) -> Comparison:
    before = write_run(tmp_path / "before", make_run(None, base))
    return compare_two(before, write_run(tmp_path / "now", make_run(None, current, **fields)))


def test_slower_points_are_told_and_not_judged(tmp_path: Path) -> None:
    result = compare(tmp_path, records(), [*records(2.0)[:2], *records()[2:]])
    assert result.exit_code is ExitCode.PASS
    assert result.summary == "compare: 3 points: 2 slower, 1 the same"
    assert [point.ratio.value for point in result.points if point.ratio] == pytest.approx([2, 2, 1])


def test_other_terms_are_a_warning_that_names_them(tmp_path: Path) -> None:
    result = compare(tmp_path, records(), records(), device_name="Other GPU")
    assert result.exit_code is ExitCode.PASS
    assert result.warnings == (
        "measured on other terms (base against current): device_name 'Synthetic H200' against 'Other GPU'",
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"method": "events"}, "methods differ: graph against events"),
        ({"cache": "warm"}, "caches differ: cold against warm"),
    ],
)
def test_times_taken_differently_are_not_compared(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    result = compare(tmp_path, records(), [*records(**fields)[:2], *records()[2:]])
    assert result.exit_code is ExitCode.PASS
    assert result.counts == {Verdict.INVALID: 2, Verdict.SAME: 1}
    assert {point.reason for point in result.points if point.verdict is Verdict.INVALID} == {reason}


@pytest.mark.parametrize(
    ("base", "current"),
    [
        ([], []),
        (records(), []),
        ([], records()),
        (records()[:1], records()[1:]),
        (records(), records(method="events")),
        (records(), records(status="oom")),
    ],
)
def test_nothing_compared_has_its_own_code(tmp_path: Path, base: list[Record], current: list[Record]) -> None:
    result = compare(tmp_path, base, current)
    assert result.exit_code is ExitCode.NOTHING_MEASURED
    assert result.summary.startswith("compare: nothing was compared")


def test_points_of_one_side_are_told(tmp_path: Path) -> None:
    other = replace(records()[1], kernel="another")
    result = compare(tmp_path, records()[:2], [records()[0], other])
    assert result.summary == "compare: 3 points: 1 missing, 1 new, 1 the same"


def test_a_run_held_against_itself_warns(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_run(None, records()))
    assert compare_two(run, run).warnings == ("run is compared with itself",)


def test_another_source_of_a_packages_kernel_is_told(tmp_path: Path) -> None:
    source = {"distribution": "own-decode", "version": "1.2", "source_digest": "aa"}

    def stored(name: str, digest: str) -> Path:
        run = make_run(None, records())
        sources = {"own": {**source, "source_digest": digest}, "same": source}
        return write_run(tmp_path / name, replace(run, manifest=replace(run.manifest, kernel_sources=sources)))

    paths = stored("before", "aa"), stored("now", "bb")
    changed = (
        "kernels of other packages changed since before: "
        "own is of own-decode 1.2 (sources bb), and was of own-decode 1.2 (sources aa)"
    )
    assert changed in compare_two(*paths).warnings
    assert changed in run_gate(paths[1], [paths[0]]).warnings
    assert not any("other packages" in line for line in compare_two(paths[0], paths[0]).warnings)


def test_what_is_no_run_is_a_usage_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_run(None, records()))
    for pair in ((run, tmp_path / "nowhere"), (tmp_path / "nowhere", run)):
        with pytest.raises(UsageError, match="not a run directory") as caught:
            compare_two(*pair)
        assert caught.value.exit_code is ExitCode.USAGE


def test_json_names_the_command(tmp_path: Path) -> None:
    plain = compare(tmp_path, records(), records(2.0)).to_json()
    assert (plain["command"], plain["exit_code"], plain["outcome"]) == ("compare", 0, "pass")
    assert plain["counts"]["slower"] == 3
