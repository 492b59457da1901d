"""The sweep's side of a worker: start it, ask it with a time limit, and start a fresh one when it dies."""

import contextlib
import json
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

REQUESTS_A_WORKER = 250
"""A worker that has answered so many gives way to a fresh one: libraries keep what they compiled for each new shape."""


class WorkerDied(Exception):  # noqa: N818
    """The worker gave no answer; the message says why."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker is started with, as plain values. `log_path` takes what it and the kernels print."""

    device: str
    method: str
    seed: int
    budget: Mapping[str, Any]
    log_path: Path | None = None


class Worker:
    """A worker process, started when first asked and again after it died."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = 0
        self.fingerprint: Mapping[str, Any] | None = None

    def start(self, timeout_s: float = 300) -> Mapping[str, Any]:
        """Start the process unless it runs, and return its machine's fingerprint. Raises `WorkerDied`."""
        if self._process is None:
            with self._log() as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "mlabench.measure.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
            setup = self._setup
            request = {name: getattr(setup, name) for name in ("device", "method", "seed", "budget")}
            self.fingerprint = self._exchange(request, timeout_s)["fingerprint"]
        assert self.fingerprint is not None
        return self.fingerprint

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """The worker's answer. Raises `WorkerDied` when it crashed or gave none in time; the next call starts anew."""
        self.start()
        answer = self._exchange(request, timeout_s)
        self._answered += 1
        if answer.get("spoiled") or self._answered >= REQUESTS_A_WORKER:
            self.stop()
        return answer

    @property
    def process_id(self) -> int | None:
        """The running process; None where there is none."""
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """End the process."""
        process, self._process, self._answered = self._process, None, 0
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _exchange(self, request: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise WorkerDied(self._end("the worker process was gone")) from None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                raise WorkerDied(self._end(f"no answer within {timeout_s:g} s"))
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise WorkerDied(self._end("the worker process died"))
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def _end(self, what: str) -> str:
        process = self._process
        code = None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=2 if what.startswith("the worker") else 0)
        self.stop()
        if code is not None and code < 0:
            return f"{what} ({signal.Signals(-code).name}){self._last_words()}"
        return what + ("" if code is None else f" (exit code {code}){self._last_words()}")

    def _last_words(self) -> str:
        path = self._setup.log_path
        if path is None or not path.exists():
            return ""
        lines = [
            line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        return f": {lines[-1][:300]}" if lines else ""

    @contextlib.contextmanager
    def _log(self) -> Iterator[IO[bytes] | int]:
        if self._setup.log_path is None:
            yield subprocess.DEVNULL
            return
        with self._setup.log_path.open("ab") as log:
            yield log
