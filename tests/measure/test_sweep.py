"""A run knows the code of the other packages' kernels in it, and does not go on with another."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlabench.errors import UsageError
from mlabench.measure.config import SweepConfig
from mlabench.measure.plan import make_points
from mlabench.measure.sources import sources_digest
from mlabench.measure.sweep import open_sweep, run_sweep
from mlabench.records.store import load_run
from tests.cli.commands import PLUGIN
from tests.faults.sweeps import NearWorker

pytestmark = pytest.mark.usefixtures("faulty_kernels")


@pytest.fixture(autouse=True)
def near_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlabench.measure.sweep.Worker", NearWorker)


def sweep(path: Path, *kernels: str, resume: bool = False) -> Mapping[str, Any] | None:
    """Measures a point a kernel, and gives what the manifest says of other packages' kernels."""
    axes = {"num_q_heads": (4,), "kv_len": (70,)}
    config = SweepConfig(axes, kernel=kernels, device="cpu", method="cpu", cache="warm")
    with open_sweep(path, config, make_points(config, "cpu"), resume=resume) as opened:
        run_sweep(opened, lambda _: None, lambda _point, _record: None)
    return load_run(path).manifest.kernel_sources


def edit(path: Path, **changed: Any) -> None:
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def test_the_manifest_names_the_kernels_of_other_packages(tmp_path: Path) -> None:
    digest = sources_digest("faulty_kernels", PLUGIN)
    own = {"distribution": "faulty-kernels", "version": "1.0", "source_digest": digest}
    assert sweep(tmp_path / "run", "torch", "slow") == {"slow": own}
    assert sweep(tmp_path / "own", "torch") == {}


def test_a_run_goes_on_with_the_same_kernels_and_takes_up_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "run"
    sources = sweep(path, "slow")
    assert sweep(path, "slow", resume=True) == sources
    assert set(sweep(path, "slow", "switchable", resume=True) or {}) == {"slow", "switchable"}
    assert [record.status for record in load_run(path).records] == ["ok", "ok"]


def test_a_run_of_another_version_does_not_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run"
    (source,) = (sweep(path, "slow") or {}).values()
    edit(path, kernel_sources={"slow": {**source, "version": "0.9"}})
    with pytest.raises(UsageError) as refused:
        sweep(path, "slow", resume=True)
    assert str(refused.value) == (
        f"{path} cannot go on: slow is of faulty-kernels 1.0 (sources {source['source_digest']}), and was of "
        f"faulty-kernels 0.9 (sources {source['source_digest']}): measure into another --out"
    )


def test_a_run_that_is_older_than_kernels_sources_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run"
    sweep(path, "slow")
    edit(path, kernel_sources=None)
    assert sweep(path, "slow", "switchable", resume=True) is None
    assert len(load_run(path).records) == 2
