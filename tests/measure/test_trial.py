"""The trial of kernels that are not the suite's: small ragged batches, and no time for what fails them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.measure.config import SweepConfig
from mlabench.measure.isolation import Worker, WorkerSetup
from mlabench.measure.kernels import PEERS, find_kernel, kernels_for
from mlabench.measure.plan import make_points
from mlabench.measure.runner import Runner
from mlabench.measure.sides import AskedSide
from mlabench.measure.sweep import open_sweep, run_sweep
from mlabench.measure.timing.fake import FakeTimer
from mlabench.measure.trial import EMPTY, LENGTHS, MAX_PAGE_SIZE, attempt, find_fault, make_trials
from mlabench.records.record import Record
from mlabench.records.store import load_run
from tests.factories import make_case
from tests.faults.sweeps import NearWorker

CASE = make_case(num_q_heads=4, kv_len=70)

TORCH = find_kernel("mla_decode_torch")


class AskedWorker(NearWorker):
    """Keeps what it was asked to do, and for which kernel."""

    asked: list[tuple[str, str]]

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        kernel = request["side"]["kernel"] if request["do"] == "trial" else request.get("kernel", "")
        self.asked.append((request["do"], kernel))
        return super().ask(request, timeout_s)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, faulty_kernels: None) -> list[tuple[str, str]]:
    del faulty_kernels
    monkeypatch.setattr(AskedWorker, "asked", [], raising=False)
    monkeypatch.setattr("mlabench.measure.sweep.Worker", AskedWorker)
    return AskedWorker.asked


@pytest.fixture
def worker(tmp_path: Path, faulty_kernels: None) -> Iterator[Worker]:
    del faulty_kernels
    worker = Worker(WorkerSetup("cpu", "cpu", "warm", 0, {"max_s": 0.01}, tmp_path / "worker.log"))
    yield worker
    worker.stop()


def sweep(path: Path, *kernels: str, **axes: tuple[int | str, ...]) -> tuple[Record, ...]:
    config = SweepConfig({"num_q_heads": (4,), **axes}, kernel=kernels, device="cpu", method="cpu", cache="warm")
    with open_sweep(path, config, make_points(config, "cpu"), resume=False) as opened:
        run_sweep(opened, lambda _: None, lambda _point, _record: None)
    return load_run(path).records


@pytest.mark.parametrize("q_len", [1, 5, 90])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_the_suites_own_kernels_pass_it(phase: str, q_len: int) -> None:
    axes = {"variant": ("gqa", "mla"), "form": ("absorbed", "recompute"), "phase": (phase,), "q_len": (q_len,)}
    for case in make_cases({**axes, "kv_len": (90,), "num_q_heads": (4,), "num_kv_heads": (2,)}):
        (kernel,) = kernels_for(case, "cpu")
        for trial in make_trials(case, kernel):
            runner = Runner("cpu", FakeTimer((1.0,)))
            assert attempt(runner, trial, AskedSide(kernel)) == {"status": "ok", "reason": ""}


def test_it_is_of_the_cases_kind_and_small() -> None:
    case = make_case(num_q_heads=16, kv_len=1 << 20, batch=64, page_size=1 << 20, dtype="float16")
    ragged, empty = make_trials(case, TORCH)
    assert (ragged.kv_lens, empty.kv_lens) == (LENGTHS, EMPTY)
    assert (ragged.variant, ragged.dtype, ragged.page_size) == (case.variant, "float16", MAX_PAGE_SIZE)
    assert ragged.memory_bytes < 1 << 20
    assert empty.num_pages == ragged.num_pages
    assert make_trials(make_case(num_q_heads=16, kv_len=99, dtype="float16", page_size=512), TORCH) == (ragged, empty)


def test_new_tokens_fit_their_requests() -> None:
    def new_tokens(**axes: int | str) -> list[tuple[int, ...]]:
        return [trial.q_lens for trial in make_trials(make_case(num_q_heads=4, kv_len=70, **axes), TORCH)]

    assert new_tokens(q_len=3) == [(3, 3, 3), (3, 3, 3, 3)]
    assert [min(trial.kv_lens) for trial in make_trials(make_case(num_q_heads=4, q_len=3), TORCH)] == [3, 0]
    assert new_tokens(phase="prefill", q_len=70) == [LENGTHS, EMPTY]
    assert new_tokens(phase="prefill", q_len=9) == [(97, 1, 17), (97, 0, 1, 17)]


def test_a_layers_trial_is_its_cores() -> None:
    layer = make_case(num_q_heads=4, kv_len=70, scope="layer", hidden_size=64, q_lora_rank=16)
    assert make_trials(layer, TORCH) == make_trials(CASE, TORCH)


def test_peers_are_given_no_empty_request() -> None:
    assert [trial.kv_lens for trial in make_trials(CASE, PEERS[0])] == [LENGTHS]


def test_a_peer_is_stopped_by_a_wrong_output_alone(worker: Worker) -> None:
    raising, uneven = (replace(find_kernel(name), peer=True) for name in ("raising", "uneven"))
    assert find_fault(worker, CASE, AskedSide(raising), 120) is None
    fault = find_fault(worker, CASE, AskedSide(uneven), 120)
    assert fault is not None
    assert fault.status == "incorrect"


@pytest.mark.parametrize(
    ("kernel", "lengths", "reason"),
    [("uneven", "193, 1, 33", "relative error"), ("hollow", "193, 0, 1, 33", "relative error is NaN")],
)
def test_a_kernel_that_is_wrong_there_is_not_timed(
    tmp_path: Path, asked: list[tuple[str, str]], kernel: str, lengths: str, reason: str
) -> None:
    records = sweep(tmp_path / "run", kernel, "torch", kv_len=(64, 128))
    assert [(record.kernel, record.status) for record in records] == [
        ("mla_decode_torch", "ok"),
        (kernel, "incorrect"),
    ] * 2
    for record in records[1::2]:
        assert record.reason.startswith(f"not timed: on a small ragged batch (kv_lens {lengths}) {reason}")
        assert record.timing is None
    assert ("measure", kernel) not in asked


@pytest.mark.parametrize("kernel", ["even_only", "full_only", "absent", "slow"])
def test_what_declines_or_passes_is_measured_and_tried_once(
    tmp_path: Path, asked: list[tuple[str, str]], kernel: str
) -> None:
    records = sweep(tmp_path / "run", kernel, kv_len=(64, 128))
    assert [record.status for record in records] == ["unavailable" if kernel == "absent" else "ok"] * 2
    assert asked[1:] == [("trial", kernel)] * 2 + [("measure", kernel)] * 2


def test_each_kind_of_case_has_its_own_trial(tmp_path: Path, asked: list[tuple[str, str]]) -> None:
    sweep(tmp_path / "run", "slow", kv_len=(64, 128), dtype=("float16", "bfloat16"))
    assert asked.count(("trial", "slow")) == 2 * 2
    assert asked.count(("measure", "slow")) == 4


def test_the_suites_own_are_not_tried(tmp_path: Path, asked: list[tuple[str, str]]) -> None:
    sweep(tmp_path / "run", "torch", kv_len=(64,))
    assert "trial" not in dict(asked)


def test_one_that_kills_its_process_is_not_timed(worker: Worker) -> None:
    fault = find_fault(worker, CASE, AskedSide(find_kernel("segmented")), 120)
    assert fault is not None
    assert fault.status == "error"
    assert "(kv_lens 193, 1, 33) the worker process died (SIGSEGV): Segmentation fault in string_at" in fault.reason
    assert find_fault(worker, CASE, AskedSide(find_kernel("slow")), 120) is None


@pytest.mark.gpu
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_the_suites_kernels_pass_it_on_a_gpu(phase: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    axes = {"variant": ("gqa", "mla"), "form": ("absorbed", "recompute"), "phase": (phase,), "page_size": (16, 64)}
    cases: tuple[Case, ...] = make_cases({**axes, "num_q_heads": (16,), "kv_len": (1000,)})
    for case in cases:
        for kernel in kernels_for(case, "cuda", ["triton", "gluon", "chosen", "torch"]):
            for trial in make_trials(case, kernel):
                found = attempt(Runner("cuda", FakeTimer((1.0,))), trial, AskedSide(kernel))
                assert found["status"] in ("ok", "unsupported"), f"{kernel.name}, {case.label}: {found}"
