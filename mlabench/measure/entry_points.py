"""Kernels that other packages add by an entry point: which load, why others do not, and of which code they are."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from mlabench.errors import UsageError, first_line
from mlabench.measure.kernel import Kernel
from mlabench.measure.sources import folder_of, package_of, sources_digest

ENTRY_POINT_GROUP = "mlabench.kernels"


@dataclass(frozen=True, slots=True)
class Joined:
    """An entry point: the kernel that it names, or the reason why it gives none."""

    entry: str
    value: str
    kernel: Kernel | None
    reason: str
    distribution: str | None
    version: str | None

    def may_hold(self, name: str) -> bool:
        """Whether a kernel or backend of this name may be meant by one that is broken: by its names, or likes of it."""
        words = [self.entry, *re.split(r"[.:]", self.value), *filter(None, (self.distribution,))]
        within = any(word in name or name in word for word in words)
        return within or bool(get_close_matches(name, words))


def join_kernels(taken: Collection[str]) -> tuple[Joined, ...]:
    """Load every entry point of the group. A kernel whose name is among `taken`, or another entry point's, is none."""
    names, joined = set(taken), []
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        kernel, reason = _load(entry, names)
        names |= {kernel.name} if kernel else set()
        dist = entry.dist
        of_dist = (dist.name, dist.version) if dist else (None, None)
        joined.append(Joined(entry.name, entry.value, kernel, reason, *of_dist))
    return tuple(joined)


def sources_of(joined: Collection[Joined]) -> dict[str, dict[str, str | None]]:
    """Which code each kernel is of, by its name: distribution, version, and a digest of its top-level package.

    What is not known is None.
    """
    return {
        each.kernel.name: {
            "distribution": each.distribution,
            "version": each.version,
            "source_digest": _digest(each.kernel),
        }
        for each in joined
        if each.kernel
    }


def _load(entry: EntryPoint, taken: Collection[str]) -> tuple[Kernel | None, str]:
    place = f"entry point {entry.name} ({entry.value})"
    try:
        kernel = entry.load()
    except Exception as error:
        return None, f"{place} does not load: {first_line(error) or type(error).__name__}; mend or uninstall it"
    if not isinstance(kernel, Kernel):
        return None, f"{place} is no mlabench.measure.kernels.Kernel"
    if kernel.name in taken:
        return None, f"{place}: a kernel named {kernel.name} is already there; give it another name"
    return kernel, ""


def _digest(kernel: Kernel) -> str | None:
    package = package_of(kernel.target)
    try:
        return sources_digest(package, folder_of(package))
    except (UsageError, OSError):
        return None
