"""A worker that crashes, hangs or chatters does not take the sweep along."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlabench.cases.grid import make_cases
from mlabench.measure.config import SweepConfig
from mlabench.measure.isolation import Worker, WorkerSetup, last_words
from mlabench.measure.kernels import find_kernel
from mlabench.measure.plan import Point
from mlabench.measure.sweep import measure_point
from mlabench.records.record import Record

pytestmark = pytest.mark.usefixtures("faulty_kernels")

CASE = make_cases({"num_q_heads": (4,), "kv_len": (70,)})[0]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    budget = {"max_s": 0.01, "precision": 0.5}
    worker = Worker(WorkerSetup("cpu", "cpu", "warm", 0, budget, tmp_path / "worker.log"))
    yield worker
    worker.stop()


def measure(worker: Worker, kernel: str, timeout_s: float = 120) -> Record:
    config = SweepConfig(device="cpu", method="cpu", timeout_s=timeout_s)
    return measure_point(worker, Point(CASE, find_kernel(kernel)), config)


def test_a_crash_is_an_error_and_the_next_point_is_measured(worker: Worker) -> None:
    crashed, next_one = measure(worker, "crashing"), measure(worker, "mla_decode_torch")
    assert crashed.status == "error"
    assert "the worker process died (SIGABRT)" in crashed.reason
    assert next_one.status == "ok"


def test_a_crash_is_told_with_what_it_was_and_where(worker: Worker) -> None:
    reason = measure(worker, "segmented").reason
    assert reason.startswith("the worker process died (SIGSEGV): Segmentation fault in string_at (__init__.py, line ")
    assert ", called by <lambda> (faulty_kernels.py, line " in reason
    assert "Extension modules" not in reason


def test_another_checkout_in_the_working_directory_does_not_run(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlabench").mkdir()
    (tmp_path / "mlabench" / "__init__.py").write_text("raise ImportError('another checkout')")
    monkeypatch.chdir(tmp_path)
    assert measure(worker, "mla_decode_torch").status == "ok"


def test_last_words_are_those_of_the_last_crash() -> None:
    other = 'Thread 0x1 (most recent call first):\n  File "a.py", line 1 in other\n\n'
    current = 'Current thread 0x2 (most recent call first):\n  File "/x/b.py", line 2 in f'
    crash = f"Fatal Python error: Aborted\n\n{other}{current}"
    modules = "\n\nExtension modules: numpy, torch._C (total: 2)\n"
    assert last_words(f"noise\n{crash}\n{modules}") == "Aborted in f (b.py, line 2)"
    assert last_words(f"{crash}{modules}Fatal Python error: Bus error\n") == "Bus error"
    assert last_words("first\n  ImportError: the last line  \n\n") == "ImportError: the last line"
    assert last_words("") == ""


def test_an_earlier_workers_words_are_not_the_laters(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("Fatal Python error: of another run\n")
    assert "of another run" not in measure(worker, "killed").reason


def test_a_hang_is_an_error_within_the_time_limit(worker: Worker) -> None:
    worker.start()
    hung, next_one = measure(worker, "hanging", timeout_s=5), measure(worker, "mla_decode_torch")
    assert hung.status == "error"
    assert "no answer within 5 s" in hung.reason
    assert next_one.status == "ok"


def test_what_kernels_print_goes_to_the_log(worker: Worker, tmp_path: Path) -> None:
    assert measure(worker, "chatty").status == "ok"
    assert "a line on standard output" in (tmp_path / "worker.log").read_text()


def test_the_end_of_standard_input_ends_the_worker(worker: Worker) -> None:
    worker.start()
    process = worker._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=30) == 0


def test_a_worker_gives_way_to_a_fresh_one(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlabench.measure.isolation.REQUESTS_A_WORKER", 2)
    worker.start()
    first = worker._process
    assert measure(worker, "mla_decode_torch").status == "ok"
    assert worker._process is first is not None
    assert measure(worker, "mla_decode_torch").status == "ok"
    assert worker._process is None
    assert measure(worker, "mla_decode_torch").status == "ok"
    assert worker._process not in (None, first)
