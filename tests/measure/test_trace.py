"""A trace of a point: on a GPU its kernels lie in it, and ncu's calls are made without one."""

import gzip
import json
import warnings
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from mlabench.errors import UsageError
from mlabench.measure.kernels import find_kernel
from mlabench.measure.trace import Job, _has_kernels, run_counted, trace_point
from tests.factories import make_case

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")

CASE = make_case(num_q_heads=16, kv_len=64)


def job(kernel: str, device: str) -> Job:
    return Job(CASE, find_kernel(kernel), device, calls=3)


def test_the_point_is_checked_as_in_a_sweep(tmp_path: Path) -> None:
    traced = trace_point(job("mla_decode_torch", "cpu"), tmp_path / "trace.json")
    assert traced.is_written
    assert not traced.lacks_kernels
    record = traced.record
    assert record.status == "ok"
    assert record.method == "traced"
    assert record.timing is not None
    assert len(record.timing.samples_us) == 1
    assert set(record.phases_s) == {"inputs", "reference", "bind", "check", "measure"}


class OlderProfile(AbstractContextManager["OlderProfile"]):
    """A torch's profiler that warns at every end."""

    def __init__(self, activities: object) -> None:
        del activities
        self.keeps = False

    def __exit__(self, *_: object) -> None:
        if not self.keeps:
            warnings.warn("Warning: Profiler clears events at the end of each cycle.", stacklevel=2)
        warnings.warn("another", stacklevel=2)

    def export_chrome_trace(self, path: str) -> None:
        Path(path).write_text("{}")


class Profile(OlderProfile):
    """One that can be told to keep them."""

    def __init__(self, activities: object, acc_events: bool = False) -> None:
        super().__init__(activities)
        self.keeps = acc_events


@pytest.mark.parametrize("kind", [OlderProfile, Profile])
def test_the_profilers_own_warning_of_cleared_events_alone_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[OlderProfile]
) -> None:
    monkeypatch.setattr("torch.profiler.profile", kind)
    with pytest.warns(UserWarning) as told:
        assert trace_point(job("mla_decode_torch", "cpu"), tmp_path / "trace.json").is_written
    assert [str(each.message) for each in told] == ["another"]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose another --out"):
        trace_point(job("mla_decode_torch", "cpu"), tmp_path / "absent" / "trace.json")


def test_a_kernel_that_breaks_the_device_has_a_record_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Profile(AbstractContextManager[None]):
        def __init__(self, activities: object) -> None:
            del activities

        def __exit__(self, *_: object) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def bind(**_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("torch.profiler.profile", Profile)
    monkeypatch.setattr("mlabench.measure.kernel.Kernel.load", lambda _: bind)
    traced = trace_point(job("mla_decode_torch", "cpu"), tmp_path / "trace.json")
    assert (traced.record.status, traced.is_written) == ("error", False)
    assert not (tmp_path / "trace.json").exists()


def test_a_trace_without_kernels_is_told_from_one_with(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"traceEvents": [\n{"cat": "cpu_op", "name": "kernel"}\n]}')
    assert not _has_kernels(path)
    with gzip.open(tmp_path / "trace.json.gz", "wt") as file:
        file.write('{"traceEvents": [\n{"ph": "X", "cat": "kernel", "name": "mla_decode_kernel"}\n]}')
    assert _has_kernels(tmp_path / "trace.json.gz")


@pytest.mark.gpu
@NO_GPU
def test_a_gpus_kernels_are_in_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    traced = trace_point(job("mla_decode_triton", "cuda"), path)
    assert (traced.record.status, traced.lacks_kernels) == ("ok", False)
    events = json.loads(path.read_text())["traceEvents"]
    assert any("mla_decode" in event["name"] for event in events if event.get("cat") == "kernel")
    assert sum(event["name"] == "call" for event in events if event.get("cat") == "user_annotation") == 3


@pytest.mark.gpu
@NO_GPU
def test_the_calls_for_ncu_are_checked_too() -> None:
    record = run_counted(job("mla_decode_triton", "cuda"))
    assert (record.status, record.reason) == ("ok", "")
