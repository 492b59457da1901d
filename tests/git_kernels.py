"""A small git repository with two versions of a package of kernels, which an entry point joins to the suite."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

PACKAGE = "versioned_kernels"

_TABLE = """
from mlabench.measure.kernels import Kernel


def _kernel(name):
    return Kernel(name, "versioned", "mla_absorbed", f"versioned_kernels.{name}:bind", ("cpu",), writes_lse=False)


REPEATED = _kernel("repeated")
ADDED = _kernel("added")
MENDED = _kernel("mended")
"""

_REPEATED = """
import versioned_kernels.amount
from mla_kernels.mla_decode_torch import bind as bind_once


def bind(**tensors):
    launch = bind_once(**tensors)

    def run():
        # Imported in the call, so that a call outside of its own copy would see the other's number.
        from versioned_kernels.amount import CALLS

        assert CALLS == versioned_kernels.amount.CALLS
        for _ in range(CALLS):
            launch()

    return run
"""

_RIGHT = """
from mla_kernels.mla_decode_torch import bind as bind_once


def bind(**tensors):
    return bind_once(**tensors)
"""

_WRONG = """
from mla_kernels.mla_decode_torch import bind as bind_once


def bind(**tensors):
    launch = bind_once(**tensors)

    def run():
        launch()
        tensors["out"].mul_(1.02)

    return run
"""

_ENTRY_POINTS = "\n".join(
    f"{name} = versioned_kernels.table:{name.upper()}" for name in ("repeated", "added", "mended")
)


@dataclass(frozen=True, slots=True)
class Repository:
    """`first` and `second` are commits: the second does the work four times, adds a kernel and mends another."""

    path: Path
    first: str
    second: str

    @property
    def folder(self) -> Path:
        """What goes on `sys.path`."""
        return self.path / "kernels"


@dataclass(frozen=True)
class EditableFinder:
    """What an editable install puts on `sys.meta_path`: it knows folders by the names of packages."""

    folders: Mapping[str, Path]

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """As setuptools' finder: a package itself, and what lies right in it."""
        parent = name.rpartition(".")[0]
        if name in self.folders:
            return PathFinder.find_spec(name, [str(self.folders[name].parent)])
        return PathFinder.find_spec(name, [str(self.folders[parent])]) if parent in self.folders else None


def make_repository(path: Path) -> Repository:
    """Make the repository, with the second version checked out."""
    package = path / "kernels" / PACKAGE
    package.mkdir(parents=True)
    info = path / "kernels" / f"{PACKAGE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: versioned-kernels\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mlabench.kernels]\n{_ENTRY_POINTS}\n")
    (package / "__init__.py").write_text("")
    (package / "table.py").write_text(_TABLE)
    (package / "repeated.py").write_text(_REPEATED)
    (package / "amount.py").write_text("CALLS = 1\n")
    (package / "mended.py").write_text(_WRONG)
    git(path, "init", "--quiet", "--initial-branch", "main")
    first = _commit(path, "first")
    (package / "amount.py").write_text("CALLS = 4\n")
    (package / "added.py").write_text(_RIGHT)
    (package / "mended.py").write_text(_RIGHT)
    return Repository(path, first, _commit(path, "second"))


def git(path: Path, *arguments: str) -> str:
    """Run git there, as nobody in particular."""
    names = {f"GIT_{role}_{what}": "nobody" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(path), *arguments], capture_output=True, text=True, check=True, env={**os.environ, **names}
    )
    return done.stdout.strip()


def worktrees(path: Path) -> int:
    """How many working trees the repository knows, its own among them."""
    return git(path, "worktree", "list", "--porcelain").count("worktree ")


def _commit(path: Path, message: str) -> str:
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--no-gpg-sign", "-m", message)
    return git(path, "rev-parse", "HEAD")
