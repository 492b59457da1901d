"""Kernels of another commit: its sources checked out beside the current ones."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from mlabench.errors import UsageError

GIT_TIMEOUT_S = 300

_REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
"""Set inside a git hook; they would turn `git -C` away from the folder that it is given."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a package of another commit lies: `folder` holds it, as an entry of `sys.path` would."""

    package: str
    commit: str
    folder: Path


def folder_of(package: str) -> Path:
    """The folder that a top-level package would be imported from now. Raises `UsageError` where there is none."""
    spec = find_spec(package)
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise UsageError(f"the package {package} is not importable here, so no commit of it can be found")
    locations = list(spec.submodule_search_locations or [])
    return Path(locations[0] if locations else str(spec.origin)).resolve().parent


def root_of(folder: Path) -> Path:
    """The working tree of git that a folder lies in; without one the folder itself."""
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)


def sources_digest(package: str, folder: Path) -> str:
    """Sixteen hexadecimal digits over the names and contents of every file of a package that is no byte code."""
    digest = hashlib.sha256()
    single = folder / f"{package}.py"
    for path in [single] if single.is_file() else sorted((folder / package).rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def package_of(target: str) -> str:
    """The top-level package of a kernel's `module:function`."""
    return target.partition(":")[0].partition(".")[0]


@contextlib.contextmanager
def checked_out(package: str, commit: str) -> Iterator[Source]:
    """Check a commit of the package's repository out into a temporary worktree, and remove that afterwards.

    The repository is the one that holds the package as it would be imported now. Raises `UsageError` where there is
    none, it has no such commit, or the commit lacks the package.
    """
    folder = folder_of(package)
    top, full = _find_commit(folder, package, commit)
    temporary = Path(tempfile.mkdtemp(prefix="mlabench-"))
    tree = temporary / "tree"
    with _termination_as_exit():
        try:
            # Without hooks: what a repository runs after a checkout is not meant for this one.
            _git(top, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--quiet", str(tree), full)
            yield Source(package, full, _package_folder(tree / folder.relative_to(top), package, commit))
        finally:
            with contextlib.suppress(UsageError):
                _git(top, "worktree", "remove", "--force", str(tree))
            shutil.rmtree(temporary, ignore_errors=True)


def _find_commit(folder: Path, package: str, commit: str) -> tuple[Path, str]:
    try:
        top = Path(_git(folder, "rev-parse", "--show-toplevel")).resolve()
    except UsageError as error:
        raise UsageError(
            f"{package} was imported from {folder}, which is in no git repository ({error}): "
            "install it editable from a checkout, or leave its kernels out"
        ) from None
    if not _git(folder, "ls-files", "--", package, f"{package}.py"):
        raise UsageError(
            f"{package} was imported from {folder}, whose files git does not track in {top}: "
            "install it editable from a checkout, or leave its kernels out"
        )
    try:
        return top, _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    except UsageError:
        raise UsageError(
            f"{top} has no commit {commit!r}: name a commit, branch or tag that is there, or fetch it first"
        ) from None


def _package_folder(folder: Path, package: str, commit: str) -> Path:
    if not (folder / package).is_dir() and not (folder / f"{package}.py").is_file():
        raise UsageError(f"commit {commit!r} holds no {package} where the current one is: choose a later commit")
    return folder


def _git(folder: Path, *arguments: str) -> str:
    """What git says; raises `UsageError` with its last line where it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S, env=environment
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        raise UsageError(f"git: {lines[-1] if lines else f'exit code {error.returncode}'}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"git does not run: {error}") from None
    return done.stdout.strip()


@contextlib.contextmanager
def _termination_as_exit() -> Iterator[None]:
    """Let a request to terminate unwind the stack, so that what must be removed is."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread, which alone may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
