"""Sources of another commit: found, checked out, loaded beside the current ones, and always removed."""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from mlabench.errors import UsageError
from mlabench.measure.copies import Copy
from mlabench.measure.sources import Source, checked_out, package_of, sources_digest
from tests.git_kernels import PACKAGE, EditableFinder, Repository, git, make_repository, worktrees

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    made = make_repository(tmp_path / "repository")
    monkeypatch.setattr(sys, "path", [str(made.folder), *sys.path])
    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def amount() -> int:
    calls: int = importlib.import_module(f"{PACKAGE}.amount").CALLS
    return calls


def test_the_package_of_a_target() -> None:
    assert package_of("mla_kernels.mla_decode_triton:bind") == "mla_kernels"
    assert package_of("alone:bind") == "alone"


def test_a_commit_is_checked_out_beside_the_current_sources_and_removed(repository: Repository) -> None:
    with checked_out(PACKAGE, repository.first) as source:
        assert source == Source(PACKAGE, repository.first, source.folder)
        assert (source.folder / PACKAGE / "amount.py").read_text() == "CALLS = 1\n"
        assert (repository.folder / PACKAGE / "amount.py").read_text() == "CALLS = 4\n"
        assert worktrees(repository.path) == 2
    assert not source.folder.exists()
    assert worktrees(repository.path) == 1
    assert not (repository.path / ".git" / "worktrees").exists()


def test_a_name_of_a_commit_is_resolved(repository: Repository) -> None:
    git(repository.path, "tag", "old", repository.first)
    for name in ("old", "main~1", repository.first[:8]):
        with checked_out(PACKAGE, name) as source:
            assert source.commit == repository.first


def test_what_goes_wrong_inside_does_not_leave_the_worktree(repository: Repository) -> None:
    with pytest.raises(KeyboardInterrupt), checked_out(PACKAGE, repository.first) as source:
        raise KeyboardInterrupt
    assert not source.folder.exists()
    assert worktrees(repository.path) == 1


def test_a_terminated_process_does_not_leave_the_worktree(repository: Repository) -> None:
    code = f"""
        import time
        from mlabench.measure.sources import checked_out
        with checked_out({PACKAGE!r}, {repository.first!r}) as source:
            print(source.folder, flush=True)
            time.sleep(60)
    """
    path = os.pathsep.join(map(str, (ROOT, repository.folder)))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert folder.is_dir()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert not folder.exists()
    assert worktrees(repository.path) == 1


def test_a_repositorys_hooks_do_not_run(repository: Repository, tmp_path: Path) -> None:
    hook = repository.path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'hook-ran'}\n")
    hook.chmod(0o755)
    with checked_out(PACKAGE, repository.first):
        pass
    assert not (tmp_path / "hook-ran").exists()


def test_inside_of_a_hook_the_packages_own_repository_counts(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "another.index"))
    with checked_out(PACKAGE, repository.first) as source:
        assert source.commit == repository.first


@pytest.mark.parametrize(
    ("commit", "message"),
    [("nothing-like-it", "has no commit 'nothing-like-it'"), ("--help", "has no commit '--help'")],
)
def test_an_unknown_commit_is_refused(repository: Repository, commit: str, message: str) -> None:
    with pytest.raises(UsageError, match=message), checked_out(PACKAGE, commit):
        pass
    assert worktrees(repository.path) == 1


def test_a_commit_without_the_package_is_refused_and_removed(repository: Repository) -> None:
    git(repository.path, "rm", "-r", "--quiet", "kernels/versioned_kernels")
    git(repository.path, "-c", "user.name=n", "-c", "user.email=n", "commit", "--quiet", "--no-gpg-sign", "-m", "none")
    git(repository.path, "tag", "empty")
    git(repository.path, "checkout", "--quiet", repository.second)
    with pytest.raises(UsageError, match="commit 'empty' holds no versioned_kernels"), checked_out(PACKAGE, "empty"):
        pass
    assert worktrees(repository.path) == 1


def test_a_package_outside_of_any_repository_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loose_kernels.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UsageError, match="which is in no git repository"), checked_out("loose_kernels", "HEAD"):
        pass


def test_a_package_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="not importable here"), checked_out("a_package_that_is_not_there", "HEAD"):
        pass


def test_a_copy_has_its_own_modules_and_gives_the_names_back(repository: Repository) -> None:
    with checked_out(PACKAGE, repository.first) as source:
        copy = Copy(PACKAGE, str(source.folder))
        path = list(sys.path)
        assert amount() == 4
        current = sys.modules[f"{PACKAGE}.amount"]
        with copy.imports():
            assert amount() == 1
            module = sys.modules[f"{PACKAGE}.amount"]
            assert Path(str(module.__file__)).is_relative_to(source.folder)
        assert sys.modules[f"{PACKAGE}.amount"] is current
        assert amount() == 4
        with pytest.raises(ValueError, match="once more"), copy.imports():
            assert sys.modules[f"{PACKAGE}.amount"] is module
            raise ValueError("once more")
        assert amount() == 4
        assert sys.path == path


def test_a_copy_leaves_no_modules_behind_where_there_were_none(repository: Repository) -> None:
    with checked_out(PACKAGE, repository.first) as source, Copy(PACKAGE, str(source.folder)).imports():
        assert amount() == 1
    assert not [name for name in sys.modules if name.partition(".")[0] == PACKAGE]


def test_modules_beside_the_package_are_of_the_copy_too(repository: Repository) -> None:
    """In the package's folder and in one that the path names apart; what measures and what is installed stay."""
    tools, beside = repository.path / "tools", repository.folder / "sibling_of_kernels.py"
    (tools / "kept_apart").mkdir(parents=True)
    installed = repository.path / "env" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "installed_module.py").write_text("")
    sys.path += [str(tools), str(installed)]
    modules = {"sibling_of_kernels": beside, "kept_apart.number": tools / "kept_apart" / "number.py"}
    for path in modules.values():
        path.write_text("VALUE = 1\n")
    git(repository.path, "add", "--all")
    git(repository.path, "-c", "user.name=n", "-c", "user.email=n", "commit", "-q", "--no-gpg-sign", "-m", "third")
    for path in modules.values():
        path.write_text("VALUE = 22\n")
    stays = importlib.import_module("installed_module")
    with checked_out(PACKAGE, "HEAD") as source:
        before, now = Copy(PACKAGE, str(source.folder)), Copy(PACKAGE, str(repository.folder))
        for copy, value in ((before, 1), (now, 22), (before, 1), (now, 22)):
            with copy.imports():
                assert [importlib.import_module(name).VALUE for name in modules] == [value] * 2
                assert importlib.import_module("installed_module") is stays
                assert importlib.import_module("tests.git_kernels").git is git
    assert not modules.keys() & sys.modules.keys()
    del sys.modules["installed_module"]


def test_what_a_copy_adds_to_the_path_is_its_own(repository: Repository) -> None:
    copy = Copy(PACKAGE, str(repository.folder))
    with copy.imports():
        sys.path.insert(0, "/added/by/a/kernel")
    assert "/added/by/a/kernel" not in sys.path
    with copy.imports():
        assert sys.path[0] == "/added/by/a/kernel"


def test_an_editable_install_does_not_give_a_copy_what_its_commit_lacks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = repository.folder / PACKAGE
    finder = EditableFinder({PACKAGE: package})
    monkeypatch.setattr(sys, "meta_path", before := [*sys.meta_path, finder])
    sys.path.remove(str(repository.folder))
    with checked_out(PACKAGE, repository.first) as source:
        copy = Copy(PACKAGE, str(source.folder))
        with copy.imports():
            assert amount() == 1
            assert importlib.util.find_spec(f"{PACKAGE}.added") is None
            with pytest.raises(ModuleNotFoundError, match="added"):
                importlib.import_module(f"{PACKAGE}.added")
            assert sys.meta_path[-1].folders == {PACKAGE: package}  # type: ignore[attr-defined]
        assert sys.meta_path == before
        assert sys.meta_path[-1] is finder
        assert importlib.util.find_spec(f"{PACKAGE}.added") is not None
        with copy.imports():
            assert importlib.util.find_spec(f"{PACKAGE}.added") is None


def test_an_editable_install_gives_a_copy_its_own_siblings(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the repository apart is sent to the commit's tree; what lies elsewhere stays."""
    sibling, elsewhere = repository.path / "src" / "sibling_of_kernels", repository.path.parent / "other_of_kernels"
    for folder in (sibling, elsewhere):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("VALUE = 1\n")
    git(repository.path, "add", "--all")
    git(repository.path, "-c", "user.name=n", "-c", "user.email=n", "commit", "-q", "--no-gpg-sign", "-m", "third")
    (sibling / "__init__.py").write_text("VALUE = 22\n")
    finder = EditableFinder({folder.name: folder for folder in (sibling, elsewhere)})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    with checked_out(PACKAGE, "HEAD") as source:
        for folder, expected in ((source.folder, 1), (repository.folder, 22)):
            with Copy(PACKAGE, str(folder)).imports():
                value = importlib.import_module(sibling.name).VALUE
                assert value == expected
                spec = importlib.util.find_spec(elsewhere.name)
                assert spec is not None
                assert spec.origin == str(elsewhere / "__init__.py")


def test_what_measures_is_not_sent_to_a_copys_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, EditableFinder({"mlabench": ROOT / "mlabench"})])
    with Copy("mla_kernels", str(tmp_path)).imports():
        spec = sys.meta_path[-1].find_spec("mlabench", None)
        assert spec is not None
        assert spec.origin == str(ROOT / "mlabench" / "__init__.py")


def test_an_editable_package_without_a_file_is_of_the_copy_alone(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its install joins today's folder to the package's path by a name on `sys.path` that only its hook knows."""

    class Hook:
        @staticmethod
        def find_spec(name: str, _target: object = None) -> ModuleSpec | None:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(repository.folder / PACKAGE), "an editable install"]
            return spec if name == PACKAGE else None

    def hook(entry: str) -> type[Hook]:
        if entry != "an editable install":
            raise ImportError
        return Hook

    git(repository.path, "checkout", "--quiet", repository.first)
    git(repository.path, "rm", "--quiet", f"kernels/{PACKAGE}/__init__.py")
    git(repository.path, "-c", "user.name=n", "-c", "user.email=n", "commit", "-q", "--no-gpg-sign", "-m", "no file")
    (repository.folder / PACKAGE / "added.py").write_text("")
    monkeypatch.setattr(sys, "path_hooks", [*sys.path_hooks, hook])
    sys.path[0] = "an editable install"
    with checked_out(PACKAGE, "HEAD") as source:
        with Copy(PACKAGE, str(source.folder)).imports():
            assert amount() == 1
            assert list(sys.modules[PACKAGE].__path__) == [str(source.folder / PACKAGE)]
            assert importlib.util.find_spec(f"{PACKAGE}.added") is None
        assert importlib.util.find_spec(f"{PACKAGE}.added") is not None


def test_a_package_that_git_does_not_track_is_refused(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository.path / ".venv" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "untracked_kernels.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    with pytest.raises(UsageError, match="git does not track"), checked_out("untracked_kernels", "HEAD"):
        pass


def test_a_digest_is_of_a_packages_files(repository: Repository) -> None:
    with checked_out(PACKAGE, repository.first) as source:
        assert sources_digest(PACKAGE, source.folder) != sources_digest(PACKAGE, repository.folder)
    with checked_out(PACKAGE, repository.second) as source:
        (repository.folder / PACKAGE / "left.pyc").write_text("byte code")
        assert sources_digest(PACKAGE, source.folder) == sources_digest(PACKAGE, repository.folder)


TRITON_KERNEL = """
import triton
import triton.language as tl

from versioned_kernels.step import step


@triton.jit
def kernel(x):
    tl.store(x, step(tl.load(x)))
"""

TRITON_STEP = """
import triton


@triton.jit
def step(value):
    return value {operation}
"""


def test_two_copies_of_a_triton_kernel_compile_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They differ only in a helper of another file: caches go by the source of all that a kernel calls."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    machine_code = []
    for name, operation in (("first", "+ 1.5"), ("second", "* 2.5"), ("again", "+ 1.5")):
        package = tmp_path / name / PACKAGE
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "kernel.py").write_text(TRITON_KERNEL)
        (package / "step.py").write_text(TRITON_STEP.format(operation=operation))
        with Copy(PACKAGE, str(tmp_path / name)).imports():
            kernel = importlib.import_module(f"{PACKAGE}.kernel").kernel
            source = ASTSource(kernel, {"x": "*fp32"})
            machine_code.append(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"])
    first, second, again = (
        "\n".join(line for line in code.splitlines() if "0f" in line and not line.lstrip().startswith("."))
        for code in machine_code
    )
    assert first == again != second
    assert "0f3FC00000" in first
    assert "0f40200000" in second
