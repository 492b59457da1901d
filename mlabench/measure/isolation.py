"""The sweep's side of a worker: start it, ask it with a time limit, and start a fresh one when it dies."""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

REQUESTS_A_WORKER = 250
"""A worker that has answered so many gives way to a fresh one: libraries keep what they compiled for each new shape."""

FATAL = "Fatal Python error: "

FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)')


class WorkerDied(Exception):  # noqa: N818
    """The worker gave no answer; the message says why."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker is started with, as plain values. `log_path` takes what it and the kernels print."""

    device: str
    method: str
    cache: str
    seed: int
    budget: Mapping[str, Any]
    log_path: Path | None = None


class Worker:
    """A worker process, started when first asked and again after it died.

    `at` is the step of the current or last request that the worker announced last.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = 0
        self._unread = b""
        self._log_start = 0
        self.at = ""
        self.fingerprint: Mapping[str, Any] | None = None
        self.gpu_state: Mapping[str, Any] | None = None

    def start(self, timeout_s: float = 300) -> Mapping[str, Any]:
        """Start the process unless it runs, and return its machine's fingerprint. Raises `WorkerDied`."""
        if self._process is None:
            with self._log() as log:
                self._process = subprocess.Popen(
                    [sys.executable, *_path_options(), "-m", "mlabench.measure.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
            setup = self._setup
            request = {name: getattr(setup, name) for name in ("device", "method", "cache", "seed", "budget")}
            answer = self._exchange(request, timeout_s)
            self.fingerprint, self.gpu_state = answer["fingerprint"], answer["gpu_state"]
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

    def stop(self) -> None:
        """End the process."""
        process, self._process, self._answered, self._unread = self._process, None, 0, b""
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
        self.at = ""
        deadline = time.monotonic() + timeout_s
        while True:
            answer: Mapping[str, Any] = json.loads(self._line(process.stdout, deadline, timeout_s))
            if "at" not in answer:
                return answer
            self.at = answer["at"]

    def _line(self, pipe: IO[bytes], deadline: float, timeout_s: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise WorkerDied(self._end(f"no answer within {timeout_s:g} s"))
                part = os.read(pipe.fileno(), 1 << 20)
                if not part:
                    raise WorkerDied(self._end("the worker process died"))
                self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line

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
        text = path.read_bytes()[self._log_start :].decode(errors="replace")
        return f": {told}" if (told := last_words(text)) else ""

    @contextlib.contextmanager
    def _log(self) -> Iterator[IO[bytes] | int]:
        if self._setup.log_path is None:
            yield subprocess.DEVNULL
            return
        with self._setup.log_path.open("ab") as log:
            self._log_start = log.tell()
            yield log


def _path_options() -> list[str]:
    """Python puts the working directory on a module's path: another checkout there would run in place of this one."""
    return [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]


def last_words(log: str) -> str:
    """What a process that ended said last; of a crash that Python told of, what it was, where, and from where called.

    After the place Python lists every extension module, which says nothing.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    crashes = [number for number, line in enumerate(lines) if line.startswith(FATAL)]
    if not crashes:
        return lines[-1][:300] if lines else ""
    told = lines[crashes[-1] :]
    current = next((number for number, line in enumerate(told) if line.startswith("Current thread")), len(told))
    frames = [FRAME.match(line) for line in told[current + 1 :]]
    places = [f"{frame['function']} ({Path(frame['file']).name}, line {frame['line']})" for frame in frames if frame]
    where = f" in {', called by '.join(places[:2])}" if places else ""
    return told[0].removeprefix(FATAL) + where
