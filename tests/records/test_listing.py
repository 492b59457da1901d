"""The list of runs: newest first, with what a person looks for, whatever state a run is in."""

from pathlib import Path

from mlabench.records.listing import list_runs
from tests.cli.commands import ROOT
from tests.history.runs import COMMITS, write_runs


def test_the_newest_comes_first_at_any_depth(tmp_path: Path) -> None:
    write_runs(tmp_path, [1.0, 1.0], first_day=2)
    write_runs(tmp_path / "deep" / "er", [1.0], first_day=9)
    runs, complaints = list_runs(tmp_path)
    assert [run.path.relative_to(tmp_path).as_posix() for run in runs] == ["deep/er/run-00", "run-01", "run-00"]
    assert complaints == ()


def test_a_run_tells_what_it_holds(tmp_path: Path) -> None:
    (path,) = write_runs(tmp_path, [1.0], first_day=3)
    (run,), _ = list_runs(tmp_path)
    plain = run.to_json()
    assert (plain["path"], plain["points"], plain["commit"], plain["made_by"]) == (
        path.as_posix(),
        1,
        COMMITS[3],
        "sweep",
    )
    with (path / "records.jsonl").open("a") as file:
        file.write('{"cut": "sho')
    assert list_runs(tmp_path)[0][0].points == 1


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    good, bad = write_runs(tmp_path, [1.0, 1.0])
    (bad / "manifest.json").write_text("no JSON")
    runs, (complaint,) = list_runs(tmp_path)
    assert [run.path for run in runs] == [good]
    assert f"{bad}/manifest.json is damaged" in complaint


def test_comparisons_in_turns_are_listed_as_such() -> None:
    runs, _ = list_runs(ROOT / "results" / "studies" / "prefill")
    made_by = {run.path.name: run.to_json()["made_by"] for run in runs}
    assert made_by == {"sweep": "sweep", "ab": "ab", "paged": "ab"}
    assert all(run.points > 0 for run in runs)
