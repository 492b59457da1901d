"""A run directory: `manifest.json`, `records.jsonl` with one record a line, synced after each, and `worker.log`."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mlabench.errors import UsageError
from mlabench.records.manifest import Manifest
from mlabench.records.record import Record
from mlabench.units import format_some

MANIFEST_NAME = "manifest.json"
RECORDS_NAME = "records.jsonl"
WORKER_LOG_NAME = "worker.log"
PARTIAL_NAME = "manifest.json.part"
LOCK_NAME = "sweep.lock"

RUNS_FOLDER = Path("results/runs")
"""Where a sweep puts a run that is given no other place."""

BASELINES_FOLDER = Path("results/baselines")
"""Where runs are kept to be compared with, in a folder for each device."""

GO_ON = "add --resume to go on with it, or choose another --out"
"""What a sweep may do about a directory that holds a run."""

MOST_NAMED = 3
"""Runs within a folder that a complaint names."""


class StoreError(UsageError):
    """A record could not be written; those before it are safe."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read back. `warnings` are lines that travel with its numbers."""

    path: Path
    manifest: Manifest
    records: tuple[Record, ...]
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.resolve().name


def is_run(path: Path) -> bool:
    """Whether the directory holds a manifest."""
    return (path / MANIFEST_NAME).is_file()


def newest_run(folder: Path = RUNS_FOLDER) -> Path:
    """The run in the folder that was begun last. Raises `UsageError` where there is none."""
    runs = [path for path in folder.glob("*") if is_run(path)]
    if not runs:
        raise UsageError(f"there is no run under {folder}: name one, or make one with `mlabench sweep`")
    return max(runs, key=lambda path: (path / MANIFEST_NAME).stat().st_mtime_ns)


def find_runs(folder: Path) -> tuple[Path, ...]:
    """Every run directory in the folder and below it, by path. Raises `UsageError` for what is no folder."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: name one that holds runs, or make one with `mlabench sweep`")
    return tuple(sorted(path.parent for path in folder.rglob(MANIFEST_NAME)))


def load_run(path: Path) -> Run:
    """Read a run. Raises `UsageError` for what is none; a truncated last line is left out with a warning."""
    if not is_run(path):
        raise UsageError(f"{path} is not a run directory: {_no_run(path)}")
    try:
        manifest = read_manifest(path)
        lines, truncated = _complete_lines(path / RECORDS_NAME)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    records = [_parse_record(path, number, line) for number, line in enumerate(lines, start=1)]
    warnings = [f"{path.name}: the last line of {RECORDS_NAME} was cut short and is left out"] if truncated else []
    unique = {record.key: record for record in records}
    # That a kernel was wrong is not taken back by measuring it again.
    unique |= {record.key: record for record in records if record.status == "incorrect"}
    if len(unique) < len(records):
        count = len(records) - len(unique)
        warnings.append(f"{path.name}: {count} repeated records; the last of each counts, or an incorrect one")
    return Run(path, manifest, tuple(unique.values()), tuple(warnings))


def _no_run(path: Path) -> str:
    """Why, with the way to mend it: the runs within the folder or, of a name like this, beside it, if there are any."""
    if path.is_file():
        return "it is a file; name the folder of a run"
    if within := find_runs(path) if path.is_dir() else ():
        return f"it has no {MANIFEST_NAME}; within it are {format_some(within, MOST_NAMED, word='or')}: name one"
    folder = path.parent
    near = get_close_matches(path.name, [each.name for each in folder.glob("*") if is_run(each)], cutoff=0.75)
    if near and not path.exists():
        return f"did you mean {' or '.join(str(folder / name) for name in near)}?"
    return f"it has no {MANIFEST_NAME}; `mlabench sweep --out {path}` makes one"


def refuse_used(path: Path, mend: str = GO_ON) -> None:
    """Raise `UsageError` for a directory in which no run can be begun, as `claim_directory` does; makes none.

    `mend` is what to do about one that holds a run.
    """
    try:
        if (path / LOCK_NAME).exists():
            with (path / LOCK_NAME).open("ab") as lock:
                _lock(lock, path)
        if path.exists():
            _refuse_content(path, mend)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --out") from None


def claim_directory(path: Path) -> None:
    """Make the directory of a run to come. Raises `UsageError` if it holds a run or other files, or is read-only."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        _refuse_content(path, GO_ON)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --out") from None


def _refuse_content(path: Path, mend: str) -> None:
    if is_run(path):
        raise UsageError(f"{path} already holds a run: {mend}")
    if any(item.name not in (WORKER_LOG_NAME, LOCK_NAME, PARTIAL_NAME) for item in path.iterdir()):
        raise UsageError(f"{path} is not empty and holds no run: choose another --out")


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, whole or not at all. Raises `UsageError`."""
    partial = path / PARTIAL_NAME
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(manifest.to_json(), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path / MANIFEST_NAME)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --out") from None


@contextlib.contextmanager
def hold_directory(path: Path) -> Iterator[None]:
    """Make a run directory where there is none, and hold it against a second sweep.

    Raises `UsageError` if another sweep has it, or it cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK_NAME).open("ab")
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}; choose another --out") from None
    with lock:
        _lock(lock, path)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (path / LOCK_NAME).unlink(missing_ok=True)


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path} is being written by another sweep: wait for it, or choose another --out") from None


class RecordWriter:
    """Appends records to a run, one synced line each."""

    def __init__(self, path: Path) -> None:
        self._path = path / RECORDS_NAME
        try:
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise UsageError(f"cannot write to {self._path}: {error.strerror or error}") from None
        self.repaired = self._repair()

    def append(self, record: Record) -> None:
        """Write one record. On a full disk the partial line is taken back and `StoreError` raised."""
        line = json.dumps(record.to_json(), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        start = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError("the disk took only part of the record")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(start)
            raise StoreError(
                f"cannot append to {self._path}: {error.strerror or error}; the records before are safe: "
                "make room, then go on with --resume"
            ) from None

    def close(self) -> None:
        """Let go of the run."""
        self._file.close()

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _repair(self) -> bool:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole == len(content):
            return False
        self._file.truncate(whole)
        self._file.seek(whole)
        return True


def read_manifest(path: Path) -> Manifest:
    """The manifest of a run directory. Raises `UsageError` for one that is damaged, and `OSError`."""
    try:
        plain = json.loads((path / MANIFEST_NAME).read_text(encoding="utf-8"))
        return Manifest.from_json(plain)
    except UsageError as error:
        raise UsageError(f"{path / MANIFEST_NAME}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path / MANIFEST_NAME} is damaged ({error}): it cannot be read as a run") from None


def _complete_lines(path: Path) -> tuple[Sequence[bytes], bool]:
    if not path.exists():
        return (), False
    *lines, rest = path.read_bytes().split(b"\n")
    return lines, bool(rest)


def _parse_record(path: Path, number: int, line: bytes) -> Record:
    try:
        plain: dict[str, Any] = json.loads(line, parse_constant=_refuse_constant)
        return Record.from_json(plain)
    except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path / RECORDS_NAME}, line {number}: not a record ({error})") from None


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no measurement")
