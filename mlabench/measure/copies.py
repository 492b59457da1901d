"""Two versions of a package in one process: every module of its repository is exchanged with the other version's."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import invalidate_caches
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from pkgutil import get_importer
from types import ModuleType
from typing import Any

from mlabench.measure.sources import folder_of, root_of

_SUITE = Path(__file__).resolve().parents[2]
_KEPT = (_SUITE / "mlabench", _SUITE / "tests")
"""What measures is no part of either version, though it may lie in the kernels' own repository."""

_PYTHONS_OWN = (BuiltinImporter, FrozenImporter, PathFinder)
"""Finders that go by `sys.path`, or have no files."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(slots=True)
class Copy:
    """A second copy of a top-level package, and of what lies with it in its repository, under the same names.

    `folder` holds the package, as an entry of `sys.path` would.
    """

    package: str
    folder: str
    _here: Path = field(init=False)
    _there: Path = field(init=False)
    _modules: dict[str, ModuleType] = field(default_factory=dict)
    _foreign: set[str] = field(default_factory=set)
    _path: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._there = root_of(Path(self.folder).resolve())
        self._here = root_of(folder_of(self.package)) if find_spec(self.package) else self._there

    @contextlib.contextmanager
    def imports(self) -> Iterator[None]:
        """While it lasts, every import from the repository, lazy ones too, gives the modules of this copy."""
        outside, path = self._take_modules(), sys.path[:]
        sys.modules.update(self._modules)
        # What a module adds to the path is its own copy's as well.
        self._path = self._path or [self.folder, *self._entries(path)]
        sys.path[:] = self._path
        sys.meta_path[:] = [
            finder if finder in _PYTHONS_OWN or not hasattr(finder, "find_spec") else _Redirected(finder, self)
            for finder in sys.meta_path
        ]
        try:
            yield
        finally:
            sys.meta_path[:] = [
                finder.finder if isinstance(finder, _Redirected) else finder for finder in sys.meta_path
            ]
            self._path = sys.path[:]
            sys.path[:] = path
            self._modules = self._take_modules()
            sys.modules.update(outside)

    def folders_instead(self, spec: ModuleSpec) -> list[str]:
        """Where to look for a module that was found outside of this copy's tree; empty where it may stay."""
        places = [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]
        if not any(self._holds(place) and not place.resolve().is_relative_to(self._there) for place in places):
            return []
        return [self._counterpart(str(place.parent)) for place in places if place.is_absolute()]

    def _take_modules(self) -> dict[str, ModuleType]:
        # Most of some thousand modules are foreign, and this runs between timed calls: each is looked at once.
        unknown = [name for name in list(sys.modules) if name not in self._foreign]
        own = [name for name in unknown if self._is_own(name)]
        self._foreign.update(set(unknown).difference(own))
        return {name: sys.modules.pop(name) for name in own}

    def _is_own(self, name: str) -> bool:
        if name == self.package or name.startswith(f"{self.package}."):
            return True
        # Not by getattr: to ask some modules for an attribute imports others.
        fields = getattr(sys.modules[name], "__dict__", {})
        file = fields.get("__file__")
        # A package without an `__init__.py` has no file.
        places = [file] if file else list(fields.get("__path__") or ())
        return name != "__main__" and any(isinstance(place, str) and self._holds(Path(place)) for place in places)

    def _holds(self, place: Path) -> bool:
        path = place.resolve()
        is_kept = not place.is_absolute() or any(map(path.is_relative_to, _KEPT))
        return not is_kept and any(_is_source(path, root) for root in (self._here, self._there))

    def _entries(self, path: Sequence[str]) -> Iterator[str]:
        for entry in map(self._counterpart, path):
            find = getattr(get_importer(entry), "find_spec", None)
            spec = find(self.package) if find else None
            # An editable install's name among the folders stands for where a package without an `__init__.py` lies.
            if spec is None or not self.folders_instead(spec):
                yield entry

    def _counterpart(self, entry: str) -> str:
        """Where an entry of the path lies in this copy's tree; itself where it is no part of the repository."""
        path = Path(entry).resolve()
        return str(self._there / path.relative_to(self._here)) if _is_source(path, self._here) else entry


@dataclass(eq=False, frozen=True, slots=True)
class _Redirected:
    """A finder that is sent to a copy's tree where it finds what lies in the repository outside of it.

    That of an editable install knows today's folders whatever the path says: for a module that the copy lacks it would
    give today's file.
    """

    finder: Any
    copy: Copy

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec: ModuleSpec | None = self.finder.find_spec(name, path, target)
        folders = self.copy.folders_instead(spec) if spec else []
        return PathFinder.find_spec(name, folders, target) if folders else spec

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


@cache
def load_copy(package: str, folder: str) -> Copy:
    """The process's one copy of a package from this folder; its modules load as they are imported."""
    invalidate_caches()
    return Copy(package, folder)


def _is_source(path: Path, root: Path) -> bool:
    """Whether a path is of the repository's own sources, and not of an environment that lies in it."""
    environments = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    inside = [place for place in environments if place != root and place.is_relative_to(root)]
    return (
        path.is_relative_to(root)
        and _INSTALLED.isdisjoint(path.relative_to(root).parts)
        and not any(map(path.is_relative_to, inside))
    )
