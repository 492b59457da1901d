"""Which files of the kernels differ from a base commit's, and which of those no measured point runs."""

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mlabench.measure.kernels import all_kernels
from mlabench.measure.layers import LAYER_MODULE
from mlabench.measure.side_by_side import Matchup
from mlabench.measure.sources import folder_of, package_of
from mlabench.units import format_some

LAYER_CASES = "-a scope=layer"
"""What runs the parts of a layer, which no kernel of the table imports."""

MOST_FILES, MOST_USERS = 5, 3
"""Named in the line that tells what no point runs, of a file the second; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs from the base: the number of files that a point runs, and the others with what would run each."""

    num_run: int = 0
    unrun: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def warning(self) -> str:
        """The line that names them; empty where every file that differs is run."""
        if not self.unrun:
            return ""
        files = [f"{file} ({format_some(users, MOST_USERS)})" for file, users in self.unrun]
        return f"differs from the base, and no point runs it: {format_some(files, MOST_FILES)}"


def find_changes(matchups: Sequence[Matchup], ran: Collection[Matchup]) -> Changes:
    """The kernels' files that differ between the bases' checkouts and the sources at hand.

    A file counts as run if the module of a kernel in `ran` imports it, be it by way of others; that a kernel chooses
    among those that it imports does not show. What no kernel imports, such as a reference, is left out.
    """
    bases = {package_of(each.base.kernel.target): Path(str(each.base.folder)) for each in matchups if each.base.folder}
    changes = [_of_package(package, base, ran) for package, base in bases.items()]
    unrun = tuple(entry for each in changes for entry in each.unrun)
    return Changes(sum(each.num_run for each in changes), unrun)


def _of_package(package: str, base: Path, ran: Collection[Matchup]) -> Changes:
    folder = folder_of(package)
    users = _users(package)
    run = {name for matchup in ran for name in (matchup.base.kernel.name, *_layer_of(matchup))} & users.keys()
    files = {name: imported_files(folder, module) for name, module in users.items()}
    differing = sorted(file for file in set().union(*files.values()) if not _is_same(folder / file, base / file))
    covered = set().union(*(files[name] for name in run))
    unrun = [file for file in differing if file not in covered]
    told = [(file.as_posix(), tuple(name for name in users if file in files[name])) for file in unrun]
    return Changes(len(differing) - len(unrun), tuple(told))


def _users(package: str) -> Mapping[str, str]:
    """The modules that a point may start from, by what chooses it: a kernel's name, or the cases of a layer."""
    kernels = {kernel.name: kernel.target.partition(":")[0] for kernel in all_kernels() if not kernel.peer}
    kernels[LAYER_CASES] = LAYER_MODULE
    return {name: module for name, module in kernels.items() if package_of(module) == package}


def _layer_of(matchup: Matchup) -> Sequence[str]:
    return [LAYER_CASES] if matchup.case.scope == "layer" else []


def imported_files(folder: Path, module: str) -> frozenset[Path]:
    """The files in a folder that importing a module of it runs, lazy imports among them, as seen from the folder."""
    found: set[Path] = set()
    left = [module]
    while left:
        name = left.pop()
        # A package's own file runs before those within it.
        for each in (name.rpartition(".")[0], name):
            path = _file_of(folder, each)
            if path and path.relative_to(folder) not in found:
                found.add(path.relative_to(folder))
                left += _imports(path, each if path.name == "__init__.py" else each.rpartition(".")[0])
    return frozenset(found)


def _file_of(folder: Path, module: str) -> Path | None:
    place = folder.joinpath(*module.split("."))
    paths = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((path for path in paths if module and path.is_file()), None)


@cache
def _imports(path: Path, package: str) -> tuple[str, ...]:
    """The modules that a file names; of `from a import b` both, since b may be one."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ()
    return tuple(name for node in ast.walk(tree) for name in _named(node, package))


def _named(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _is_same(here: Path, there: Path) -> bool:
    return there.is_file() and here.read_bytes() == there.read_bytes()
